"""Several memories merged into one, for those who want one adapter and no router: exactly, or by combining their A and
their B apart, as PEFT does.

Every merge folds its scaling into the factors, and each module's alpha is its rank, so that the scaling left is 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from lorary.bank.adapters import CONFIG, PREFIX, WEIGHTS
from lorary.bank.bank import MemoryBank
from lorary.bank.files import BankError, write_aside
from lorary.bank.joining import DOCUMENTS
from lorary.bank.memory import Memory
from lorary.bank.targets import scaling
from lorary.tables import counted

DENSITY = 0.2
"""The share of each factor's entries that TIES keeps, unless another is given."""


class MergeError(BankError):
    """Memories that cannot be merged so: says which, and why."""


def linear(
    tensors: Float[Tensor, "memories rows columns"], weights: Float[Tensor, " memories"]
) -> Float[Tensor, "rows columns"]:
    """The weighted sum."""
    return torch.einsum("m,mij->ij", weights, tensors)


def ties(
    tensors: Float[Tensor, "memories rows columns"], weights: Float[Tensor, " memories"], density: float = DENSITY
) -> Float[Tensor, "rows columns"]:
    """Trim, elect, merge (Yadav et al. 2023, arXiv 2306.01708): of each tensor only its largest entries count; where
    signs differ, those of the greater total; the mean of what is left."""
    flat = tensors.flatten(1)
    largest = flat.abs().topk(int(density * flat.shape[1]), dim=-1).indices
    trimmed = torch.zeros_like(flat).scatter(-1, largest, flat.gather(-1, largest)).view_as(tensors)
    elected = torch.where(trimmed.sum(0) >= 0, 1, -1)
    agree = trimmed.sign() == elected
    return linear(trimmed * agree, weights) / agree.sum(0).clamp(min=1)


def side_by_side(
    factors: Sequence[tuple[Tensor, Tensor]], weights: Sequence[float]
) -> tuple[Float[Tensor, "slots d_in"], Float[Tensor, "d_out slots"]]:
    """(A, B) of the exact weighted sum B A = Σ w_m B_m A_m: the ranks laid side by side, the weights folded into B."""
    return torch.cat([a for a, _ in factors]), torch.cat([b * w for (_, b), w in zip(factors, weights, strict=True)], 1)


_COMBINATIONS: Mapping[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "ties": ties,
    "linear": lambda tensors, weights, _: linear(tensors, weights),
}
COMBINED = tuple(_COMBINATIONS)
"""The ways that combine A and B apart, so that the update has cross terms A_i B_j."""
HOWS = ("exact", *COMBINED)


def merge(
    bank: str | Path | MemoryBank,
    *,
    out: str | Path,
    how: str = "exact",
    memories: Sequence[str] | None = None,
    weights: Sequence[float] | None = None,
    density: float = DENSITY,
) -> Path:
    """The folder `out` with one stock PEFT adapter that stands for several memories; `merged` says how.

    Args:
        memories: which to merge; by default all, but for those of documents alone, whose adapters add nothing.

    Raises:
        BankError: an unknown memory; MergeError: what `merged` refuses.
    """
    opened = MemoryBank.load(bank) if isinstance(bank, (str, Path)) else bank
    adapted = [memory.name for memory in opened if memory.card.get("recipe") != DOCUMENTS]
    chosen = [opened[name] for name in (memories or adapted)]
    files = merged("merged", chosen, how, weights, density=density, base=opened.base).files()
    for file in (WEIGHTS, CONFIG):
        write_aside(Path(out) / file, files[file])
    return Path(out)


def merged(
    name: str,
    memories: Sequence[Memory],
    how: str,
    weights: Sequence[float] | None = None,
    *,
    density: float = DENSITY,
    base: str | None = None,
) -> Memory:
    """One memory of several, without facts; PEFT opens it alone.

    Args:
        how: "exact", the weighted sum of the updates, as the mixture computes it, their ranks laid side by side; "ties",
            trimmed and sign-elected (arXiv 2306.01708), and "linear", A and B averaged apart, are PEFT's own.
        weights: of each, 1 / their number by default.
        density: the share of each factor's entries that ties keeps.
        base: the name of their base.

    Raises:
        MergeError: an unknown way, a wrong number of weights, or for ties and linear memories of different ranks or
            targets.
    """
    if how not in HOWS:
        raise MergeError(f"cannot merge by {how!r}; choose from {list(HOWS)}")
    if not memories:
        raise MergeError("no memory is given to merge; give one or more")
    weights = [1 / len(memories)] * len(memories) if weights is None else list(weights)
    if len(weights) != len(memories) or not all(map(math.isfinite, weights)):
        raise MergeError(
            f"{counted(len(weights), 'weight')} for {counted(len(memories), 'memory')}; give a finite one for each of "
            f"{[memory.name for memory in memories]}, these are {weights}"
        )
    if not 0 < density <= 1:
        raise MergeError(f"density={density} is no share of entries to keep; give one above 0 and up to 1")
    factors = _exact(memories, weights) if how == "exact" else _combined(memories, weights, how, density)
    tensors, ranks = dict[str, Tensor](), dict[str, int]()
    for path, (a, b) in factors.items():
        tensors[f"{PREFIX}{path}.lora_A.weight"], tensors[f"{PREFIX}{path}.lora_B.weight"] = a, b.contiguous()
        ranks[path] = len(a)
    return Memory(name, _config(ranks, base), tensors, card={"recipe": f"merged by {how}"})


def _exact(memories: Sequence[Memory], weights: Sequence[float]) -> dict[str, tuple[Tensor, Tensor]]:
    """Module path → (A, B) of the exact sum; a memory counts where it has factors."""
    every = [memory.factors() for memory in memories]
    summed = {}
    for path in dict.fromkeys(path for factors in every for path in factors):
        chosen = [number for number, factors in enumerate(every) if path in factors]
        summed[path] = side_by_side([every[n][path] for n in chosen], [weights[n] for n in chosen])
    return summed


def _combined(
    memories: Sequence[Memory], weights: Sequence[float], how: str, density: float
) -> dict[str, tuple[Tensor, Tensor]]:
    """Module path → (A, B), each combined apart; both get the square root of weight · scaling, A its sign, too."""
    first = memories[0]
    for memory in memories[1:]:
        if {k: t.shape for k, t in memory.tensors.items()} != {k: t.shape for k, t in first.tensors.items()}:
            raise MergeError(
                f"{how} needs memories of one rank and the same targets, {memory.name!r} and {first.name!r} differ; "
                "merge by exact, or build them with one recipe"
            )
    combined = {}
    for path in first.paths:
        a, b = (
            torch.stack([memory.tensors[f"{PREFIX}{path}.lora_{side}.weight"].float() for memory in memories])
            for side in "AB"
        )
        scales = [
            w * scaling(memory.adapter_config, path, a.shape[1]) for w, memory in zip(weights, memories, strict=True)
        ]
        roots = torch.tensor([math.sqrt(abs(scale)) for scale in scales])
        signs = torch.tensor([math.copysign(1.0, scale) for scale in scales])
        combine = _COMBINATIONS[how]
        combined[path] = combine(a, roots * signs, density), combine(b, roots, density)
    return combined


def _config(ranks: Mapping[str, int], base: str | None) -> dict[str, object]:
    """The adapter_config of modules with their own ranks, and an alpha equal to each: the scaling is 1 everywhere."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": max(ranks.values()),
        "lora_alpha": max(ranks.values()),
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(ranks),
        "rank_pattern": dict(ranks),
        "alpha_pattern": dict(ranks),
    }
