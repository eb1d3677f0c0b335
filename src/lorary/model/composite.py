"""A composite is put together over a loaded base, or loaded from its folder."""

from __future__ import annotations

import os
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from lorary.bank.bank import MemoryBank
from lorary.base.layers import bare_twin, fingerprint
from lorary.base.loading import Base, BaseError, load_base
from lorary.base.prompts import stop_at_ends
from lorary.base.quantising import check_quantisation, dtype_for, quantised
from lorary.errors import reading
from lorary.model.configuration import BASE_PART, LoraryConfig, base_changes
from lorary.model.factors import BUDGET
from lorary.model.modeling import LoraryForCausalLM
from lorary.model.saved import AGAIN, encoder_source, parts_of
from lorary.routing.encoder import Encoder
from lorary.routing.gate import Gate
from lorary.routing.router import Router
from lorary.routing.starting import new_gate


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
    changes = {name: options.pop(name) for name in _OF_CONFIGURATION if name in options}
    parts = parts_of(place, folder, config, **changes)
    bank, config = parts.bank, parts.config
    options = base_changes(config, parts.stored) | options
    if isinstance(
        attention := options.get("attn_implementation"), dict
    ):  # by sub-configuration, as transformers takes it
        options["attn_implementation"] = attention.get("text_config", attention.get(""))
    own = place / BASE_PART
    name = base or (str(own) if own.is_dir() else bank.base)
    dtype = dtype_for(quantization_config, dtype)
    half = dtype in _HALF
    kwargs: dict[str, Any] = {"dtype": "auto" if half else dtype, "device_map": device_map, **options}
    with reading(f"the tokenizer in {place}", AGAIN):
        tokenizer = None if own.is_dir() else AutoTokenizer.from_pretrained(place)
    loaded = load_base(name, revision=bank.revision, local_files_only=local_files_only, tokenizer=tokenizer, **kwargs)
    loaded = replace(loaded, name=bank.base, revision=bank.revision)
    own_parts: dict[str, Any] = {"encoder": parts.encoder, "gate": parts.gate.to(loaded.model.device), "config": config}
    model = assemble(bank, loaded, **own_parts, memory_budget=memory_budget, quantization_config=quantization_config)
    model.name_or_path = str(folder)
    if half:
        model.half()
    if output_loading_info:
        empty: dict[str, Any] = {"missing_keys": set(), "unexpected_keys": set(), "mismatched_keys": set()}
        return model, {**empty, "error_msgs": []}
    return model


_OF_CONFIGURATION = ("granularity", "policy", "return_dict")
"""Options of `from_pretrained` that change the composite's own configuration."""
_HALF = (torch.float16, "float16", "half")
"""fp16, which the base is cast to when its fingerprint has been taken: its weights in fp16 are not quite the same."""


def load_router(folder: str | Path) -> tuple[Router, LoraryConfig]:
    """(the router of the composite in a folder, the composite's configuration); the base is not loaded.

    Raises:
        BankError: what is missing, damaged or does not fit.
    """
    parts = parts_of(Path(folder), folder)
    get_encoder = encoder_source(parts.bank, parts.encoder)
    return Router(
        parts.bank, parts.gate.requires_grad_(False), parts.config.routing_policy(), get_encoder
    ), parts.config


_FROM_AUTO = ("_from_auto", "_from_pipeline", "adapter_kwargs", "trust_remote_code", "code_revision", "_commit_hash")
"""What transformers' Auto classes and pipelines add of their own."""


def _local(folder: str | Path, revision: str | None, local_files_only: bool, hub: dict[str, Any]) -> Path:
    place = Path(folder)
    if os.path.isdir(place) or len(place.parts) != 2 or place.is_absolute():
        return place
    from huggingface_hub import snapshot_download

    options = {name: value for name, value in hub.items() if name != "proxies"}
    return Path(snapshot_download(str(folder), revision=revision, local_files_only=local_files_only, **options))
