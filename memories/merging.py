"""Merging: several memories → one stock PEFT adapter, for those who want one file and no router."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from peft import PeftModel
from safetensors.torch import save
from torch import Tensor

from lorary.bank.adapters import CONFIG, PREFIX, WEIGHTS
from lorary.bank.bank import MemoryBank
from lorary.bank.files import BankError, to_json, write_aside
from lorary.bank.memory import Memory
from lorary.base.loading import Base
from lorary.model.composite import base_of

HOWS = ("exact", "ties", "linear")


def merge(
    bank: str | Path | MemoryBank,
    *,
    out: str | Path,
    how: str = "exact",
    memories: Sequence[str] | None = None,
    weights: Sequence[float] | None = None,
    density: float = 0.2,
    base: Base | None = None,
) -> Path:
    """The folder `out` with one PEFT LoRA adapter that stands for several memories.

    exact: the weighted sum of the updates, their ranks laid side by side (what the mixture computes); ties: trimmed and
    sign-elected (Yadav et al. 2023, arXiv 2306.01708); linear: A and B averaged apart. The last two are PEFT's own, which
    needs memories of one rank and the same targets.

    Args:
        memories: which to merge; all by default.
        weights: of each, 1 / their number by default.
        density: the share of each factor's entries that ties keeps.

    Raises:
        BankError: an unknown way or memory, a wrong number of weights, or memories that PEFT cannot merge so.
    """
    opened = MemoryBank.load(bank) if isinstance(bank, (str, Path)) else bank
    if how not in HOWS:
        raise BankError(f"cannot merge by {how!r}; choose from {list(HOWS)}")
    chosen = [opened[name] for name in (memories or opened.names)]
    if not chosen:
        raise BankError("the bank holds no memory to merge; build one first")
    given = list(weights) if weights is not None else [1 / len(chosen)] * len(chosen)
    if len(given) != len(chosen):
        raise BankError(
            f"{len(given)} weights for {len(chosen)} memories; give one for each of {[m.name for m in chosen]}"
        )
    place = Path(out)
    if how == "exact":
        config, tensors = side_by_side(chosen, given, opened.base)
        write_aside(place / WEIGHTS, save(tensors, metadata={"format": "pt"}))
        write_aside(place / CONFIG, to_json(config))
        return place
    loaded = base_of(opened, base)
    with TemporaryDirectory() as work:
        _merge_by_peft(chosen, given, how, density, loaded, Path(work))
        for file in (WEIGHTS, CONFIG):
            write_aside(place / file, (Path(work) / "merged" / file).read_bytes())
    return place


def side_by_side(
    memories: Sequence[Memory], weights: Sequence[float], base: str
) -> tuple[dict[str, object], dict[str, Tensor]]:
    """(adapter_config, tensors) of the exact weighted sum: B A = Σ w_m B_m A_m, scaling and weight folded into B."""
    factors = [memory.factors() for memory in memories]
    tensors, ranks = dict[str, Tensor](), dict[str, int]()
    for path in dict.fromkeys(path for held in factors for path in held):
        pairs = [(held[path], weight) for held, weight in zip(factors, weights, strict=True) if path in held]
        tensors[f"{PREFIX}{path}.lora_A.weight"] = torch.cat([a for (a, _), _ in pairs]).contiguous()
        tensors[f"{PREFIX}{path}.lora_B.weight"] = torch.cat([b * w for (_, b), w in pairs], dim=1).contiguous()
        ranks[path] = sum(len(a) for (a, _), _ in pairs)
    config: dict[str, object] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": max(ranks.values()),
        "lora_alpha": max(ranks.values()),
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(ranks),
        # Its own rank and an alpha equal to it for each module: the scaling is 1 everywhere.
        "rank_pattern": ranks,
        "alpha_pattern": ranks,
    }
    return config, tensors


def _merge_by_peft(
    memories: Sequence[Memory], weights: Sequence[float], how: str, density: float, base: Base, work: Path
) -> None:
    """Lets PEFT merge the memories into the folder `work/merged`."""
    _check_alike(memories, how)
    model: PeftModel | None = None
    for memory in memories:
        folder = work / memory.name
        write_aside(folder / WEIGHTS, save(dict(memory.tensors), metadata={"format": "pt"}))
        write_aside(folder / CONFIG, json.dumps(dict(memory.adapter_config), default=sorted).encode())
        if model is None:
            model = PeftModel.from_pretrained(base.model, folder, adapter_name=memory.name)
        else:
            model.load_adapter(folder, adapter_name=memory.name)
    assert model is not None
    try:
        names, options = [memory.name for memory in memories], {"density": density} if how == "ties" else {}
        model.add_weighted_adapter(names, list(weights), "merged", combination_type=how, **options)
        model.save_pretrained(str(work), selected_adapters=["merged"])
    finally:
        model.unload()


def _check_alike(memories: Sequence[Memory], how: str) -> None:
    """Raises BankError where memories differ in what PEFT's ties and linear need to be one."""
    for memory in memories[1:]:
        if _shapes(memory.tensors) != _shapes(memories[0].tensors):
            raise BankError(
                f"{how} needs memories of one rank and the same targets, {memory.name!r} and {memories[0].name!r} differ; "
                "merge by exact, or build them with one recipe"
            )


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}
