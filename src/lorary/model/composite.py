"""A composite is put together over a loaded base, or loaded from its folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoTokenizer

from lorary.bank.bank import MemoryBank
from lorary.bank.companions import has_companion, read_companion
from lorary.bank.files import MANIFEST, BankError
from lorary.base.layers import bare_twin, fingerprint
from lorary.base.loading import Base, BaseError, load_base
from lorary.base.prompts import stop_at_ends
from lorary.base.quantising import check_quantisation, dtype_for, quantised
from lorary.errors import reading
from lorary.model.configuration import BASE_PART, CONFIG_PART, ENCODER_PART, GATE_PART, LoraryConfig, base_changes
from lorary.model.factors import BUDGET
from lorary.model.modeling import LoraryForCausalLM
from lorary.routing.encoder import Encoder, load_encoder
from lorary.routing.gate import FEATURES, Gate
from lorary.routing.router import Router
from lorary.routing.starting import bank_names, new_gate, starting_keys


def base_of(bank: MemoryBank, base: Base | None = None) -> Base:
    """The base that a bank's memories were written on, bare: loaded by its name, or a twin of the one given.

    Raises:
        BaseError: its weights are not those that the memories were written on.
    """
    loaded = base or load_base(bank.base, revision=bank.revision)
    loaded = replace(loaded, model=bare_twin(loaded.model))
    weights = fingerprint(loaded.model)
    if weights != bank.fingerprint:
        remedy = "load that base"
        if loaded.model.dtype == torch.float16:
            remedy += ", and in bfloat16 or float32, as float16 changes weights; model.half() casts the composite"
        raise BaseError(
            f"base {loaded.name!r} has fingerprint {weights[:12]}, the bank was written on {bank.fingerprint[:12]} "
            f"({bank.base!r}); {remedy}"
        )
    return loaded


def assemble(
    bank: MemoryBank,
    base: Base,
    *,
    encoder: Encoder | None = None,
    gate: Gate | None = None,
    config: LoraryConfig | None = None,
    memory_budget: int | float = BUDGET,
    quantization_config: Any = None,
) -> LoraryForCausalLM:
    """The composite of a bank over its loaded base; without `gate` an untrained one.

    Args:
        memory_budget: MiB of the memories' factors that are kept at hand.
        quantization_config: quantises the base when its fingerprint was checked: "float16", "int8" or a `TorchAoConfig`.

    Raises:
        BaseError: the base's weights are not those that the memories were written on, or cannot be quantised so.
    """
    base = base_of(bank, base)
    if quantization_config is not None:
        base = replace(base, model=quantised(base.model, check_quantisation(quantization_config)))
    stop_at_ends(base.model, base.tokenizer)
    config = config or LoraryConfig(text_config=base.model.config, split_layer=bank.split_layer)
    config.text_config = deepcopy(base.model.config)
    config.check_granularity(config.features if gate is None else gate.features)
    get_encoder = encoder_source(bank, encoder)
    if gate is None:
        hidden = base.model.config.get_text_config().hidden_size
        gate = new_gate(bank, get_encoder(), hidden, tuple(config.features))
    router = Router(bank, gate.requires_grad_(False), config.routing_policy(), get_encoder)
    return LoraryForCausalLM(config, base.model, router, base.tokenizer, memory_budget).eval()


def encoder_source(bank: MemoryBank, encoder: Encoder | None) -> Callable[[], Encoder]:
    """What gives the encoder, loaded or by the bank's name for it; a lambda could not be pickled."""
    return partial(load_encoder, bank.encoder) if encoder is None else partial(_itself, encoder)


def _itself(encoder: Encoder) -> Encoder:
    return encoder


def load_composite(
    folder: str | Path,
    *,
    config: LoraryConfig | None = None,
    dtype: torch.dtype | str | None = None,
    device_map: Any = None,
    revision: str | None = None,
    local_files_only: bool = False,
    base: str | None = None,
    memory_budget: int | float = BUDGET,
    quantization_config: Any = None,
    output_loading_info: bool = False,
    **options: Any,
) -> Any:
    """The composite in a folder or a hub repository.

    Args:
        dtype: of the base; None picks what this machine multiplies fastest, "auto" what was saved.
        base: another name for the base (a local folder, say); its fingerprint is checked all the same.
        memory_budget: MiB of the memories' factors that are kept at hand, on the base's device; the others are read from
            disk when they are routed to.
        quantization_config: quantises the base when its fingerprint was checked: "float16" or "int8", which torch itself
            computes on a CPU (the rest is then fp32, unless `dtype` says otherwise), or transformers' `TorchAoConfig`.
        output_loading_info: gives (composite, what transformers tells of loading) as `from_pretrained` of a base does.
        options: what `base.loading.load_base` takes besides, such as `attn_implementation`, `token` and `cache_dir`.

    Raises:
        BaseError, BankError: what is missing, damaged or does not fit, or an option that nothing takes.
    """
    options = {name: value for name, value in options.items() if name not in _FROM_AUTO}
    if (torch_dtype := options.pop("torch_dtype", None)) is not None:
        dtype = dtype or torch_dtype
    hub: dict[str, Any] = {
        name: options[name] for name in ("token", "cache_dir", "force_download", "proxies") if name in options
    }
    place = _local(folder, revision, local_files_only, hub)
    bank = _bank_with_gate(place, folder)
    stored = _configuration(place, **{name: options.pop(name) for name in _OF_CONFIGURATION if name in options})
    if not isinstance(config, LoraryConfig):
        config = stored
    options = base_changes(config, stored) | options
    if isinstance(
        attention := options.get("attn_implementation"), dict
    ):  # by sub-configuration, as transformers takes it
        options["attn_implementation"] = attention.get("text_config", attention.get(""))
    own = place / BASE_PART
    name = base or (str(own) if own.is_dir() else bank.base)
    dtype = dtype_for(quantization_config, dtype)
    half = dtype in _HALF
    kwargs: dict[str, Any] = {"dtype": "auto" if half else dtype, "device_map": device_map, **options}
    with reading(f"the tokenizer in {place}", _AGAIN):
        tokenizer = None if own.is_dir() else AutoTokenizer.from_pretrained(place)
    loaded = load_base(name, revision=bank.revision, local_files_only=local_files_only, tokenizer=tokenizer, **kwargs)
    loaded = replace(loaded, name=bank.base, revision=bank.revision)
    encoder = load_encoder(str(place / ENCODER_PART)) if (place / ENCODER_PART).is_dir() else None
    gate = _load_gate(place, bank, config, encoder).to(loaded.model.device)
    parts: dict[str, Any] = {"encoder": encoder, "gate": gate, "config": config}
    model = assemble(bank, loaded, **parts, memory_budget=memory_budget, quantization_config=quantization_config)
    model.name_or_path = str(folder)
    if half:
        model.half()
    if output_loading_info:
        empty: dict[str, Any] = {"missing_keys": set(), "unexpected_keys": set(), "mismatched_keys": set()}
        return model, {**empty, "error_msgs": []}
    return model


_AGAIN = "restore it, or train the router again"
_OF_CONFIGURATION = ("granularity", "policy", "return_dict")
"""Options of `from_pretrained` that change the composite's own configuration."""
_HALF = (torch.float16, "float16", "half")
"""fp16, which the base is cast to when its fingerprint has been taken: its weights in fp16 are not quite the same."""


def _configuration(place: Path, **changes: Any) -> LoraryConfig:
    """The configuration of the composite in a folder, with a caller's changes."""
    file = place / CONFIG_PART
    if not has_companion(place, CONFIG_PART):
        raise BankError(f"{file} is missing; {_AGAIN}")
    with reading(file, _AGAIN):
        return read_companion(place, CONFIG_PART, lambda file: LoraryConfig.from_pretrained(file, **changes))


def load_router(folder: str | Path) -> tuple[Router, LoraryConfig]:
    """(the router of the composite in a folder, the composite's configuration); the base is not loaded.

    Raises:
        BankError: what is missing, damaged or does not fit.
    """
    place = Path(folder)
    bank = _bank_with_gate(place, folder)
    config, own = _configuration(place), place / ENCODER_PART
    encoder = load_encoder(str(own)) if own.is_dir() else None
    gate = _load_gate(place, bank, config, encoder).requires_grad_(False)
    return Router(bank, gate, config.routing_policy(), encoder_source(bank, encoder)), config


_FROM_AUTO = ("_from_auto", "_from_pipeline", "adapter_kwargs", "trust_remote_code", "code_revision", "_commit_hash")
"""What transformers' Auto classes and pipelines add of their own."""


def _bank_with_gate(place: Path, folder: str | Path) -> MemoryBank:
    """The bank of the composite at `place`, which the caller named `folder`. Raises BankError where it has no gate."""
    bank = MemoryBank.load(place)
    if not is_composite(place):
        raise BankError(
            f"{folder} holds a bank without a gate; `lorary train-router {folder} --out COMPOSITE` trains one"
        )
    return bank


def read_gate(folder: Path) -> tuple[dict[str, Tensor], list[str], tuple[str, ...]]:
    """(the saved gate's tensors, the memories that its keys stand for, its features). Raises BankError where there is
    none, or one that reads what no gate reads now."""
    if not is_composite(folder):
        raise BankError(f"{folder} holds no gate; give a folder that `lorary train-router` wrote")
    config = _configuration(folder)
    if unknown := sorted({*config.features} - {*FEATURES}):
        raise BankError(f"{folder}: its gate reads {unknown[0]!r}, which no gate reads now; train the router again")
    with reading(folder / GATE_PART, _AGAIN):
        return read_companion(folder, GATE_PART, load_file), list(config.trained), tuple(config.features)


def _load_gate(place: Path, bank: MemoryBank, config: LoraryConfig, encoder: Encoder | None) -> Gate:
    """The saved gate, with a key for each memory that joined the folder's bank since (`lorary add`)."""
    tensors, trained, _ = read_gate(place)
    if bank.names[: len(trained)] != trained or len(tensors.get("keys", ())) != len(trained):
        raise BankError(f"{place}: its gate stands for {trained}, its bank holds {bank.names}; train the router again")
    with reading(place / GATE_PART, _AGAIN):
        reads = (
            tensors["reading.point"].shape[1] // 2 if "reading.point" in tensors else tensors["from_hidden"].shape[1]
        )
        gate = Gate(tensors["keys"], reads, tuple(config.features))
        own = (
            gate.state_dict()
        )  # a gate of an earlier version lacks what it does not use, and has what no gate uses now
        gate.load_state_dict(own | {name: tensor for name, tensor in tensors.items() if name in own})
    joined, dimension = list(bank)[len(trained) :], gate.from_embedding.shape[1]
    names = cache(partial(bank_names, bank))
    started = starting_keys(joined, names, gate.features, dimension, encoder_source(bank, encoder))
    for keys in started:
        gate.append(*keys)
    return gate


def _local(folder: str | Path, revision: str | None, local_files_only: bool, hub: dict[str, Any]) -> Path:
    place = Path(folder)
    if os.path.isdir(place) or len(place.parts) != 2 or place.is_absolute():
        return place
    from huggingface_hub import snapshot_download

    options = {name: value for name, value in hub.items() if name != "proxies"}
    return Path(snapshot_download(str(folder), revision=revision, local_files_only=local_files_only, **options))


def is_composite(folder: str | Path) -> bool:
    """Whether `folder` holds a composite (a bank alone has no gate)."""
    return (Path(folder) / MANIFEST).is_file() and has_companion(Path(folder), GATE_PART)
