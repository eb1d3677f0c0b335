"""A composite on disk: a bank, a config, the gate, the tokenizer; with `include_base` the base and encoder too."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor
from transformers import AutoTokenizer

from lorary.bank.bank import MemoryBank
from lorary.bank.files import MANIFEST, BankError, write_aside, writing
from lorary.base.layers import fingerprint
from lorary.base.loading import Base, BaseError, load_base
from lorary.errors import reading
from lorary.model.configuration import LoraryConfig
from lorary.model.mixture import remove
from lorary.model.modeling import LoraryForCausalLM
from lorary.routing.encoder import Encoder, load_encoder
from lorary.routing.gate import FEATURES, Gate
from lorary.routing.router import Router, bank_names, new_gate, starting_keys

_GATE, _BASE, _ENCODER, _STUB = "model.safetensors", "base", "encoder", "lorary_remote.py"
_REMOTE = '''"""Loads this composite with trust_remote_code=True; the code is the installed package `lorary`."""

from lorary import LoraryConfig, LoraryForCausalLM

__all__ = ["LoraryConfig", "LoraryForCausalLM"]
'''
_AUTO_MAP = {
    "AutoConfig": f"{_STUB.removesuffix('.py')}.LoraryConfig",
    "AutoModelForCausalLM": f"{_STUB.removesuffix('.py')}.LoraryForCausalLM",
}


def base_of(bank: MemoryBank, base: Base | None = None) -> Base:
    """The base that a bank's memories were written on, bare: loaded by its name, or the one given.

    Raises:
        BaseError: its weights are not those that the memories were written on.
    """
    loaded = base or load_base(bank.base, revision=bank.revision)
    remove(loaded.model)  # a base carries one composite at a time
    found = fingerprint(loaded.model)
    if found != bank.fingerprint:
        raise BaseError(
            f"base {loaded.name!r} has fingerprint {found[:12]}, the bank was written on {bank.fingerprint[:12]} "
            f"({bank.base!r}); load that base"
        )
    return loaded


def assemble(
    bank: MemoryBank,
    base: Base,
    *,
    encoder: Encoder | None = None,
    gate: Gate | None = None,
    config: LoraryConfig | None = None,
) -> LoraryForCausalLM:
    """The composite of a bank over its loaded base; without `gate` an untrained one.

    Raises:
        BaseError: the base's weights are not those that the memories were written on.
    """
    base_of(bank, base)
    config = config or LoraryConfig(text_config=base.model.config, split_layer=bank.split_layer)
    config.text_config = deepcopy(base.model.config)
    get_encoder = (lambda: encoder) if encoder is not None else (lambda: load_encoder(bank.encoder))
    if gate is None:
        hidden = base.model.config.get_text_config().hidden_size
        gate = new_gate(bank, get_encoder(), hidden, tuple(config.features))
    router = Router(bank, gate.requires_grad_(False), config.routing_policy(), get_encoder)
    return LoraryForCausalLM(config, base.model, router, base.tokenizer).eval()


def load_composite(
    folder: str | Path,
    *,
    config: LoraryConfig | None = None,
    dtype: torch.dtype | str | None = None,
    device_map: Any = None,
    revision: str | None = None,
    local_files_only: bool = False,
    base: str | None = None,
    **unused: Any,
) -> LoraryForCausalLM:
    """The composite in a folder or a hub repository.

    Args:
        dtype: of the base; None picks what this machine multiplies fastest, "auto" what was saved.
        base: another name for the base (a local folder, say); its fingerprint is checked all the same.

    Raises:
        BaseError, BankError: what is missing, damaged or does not fit.
    """
    place = _local(folder, revision, local_files_only)
    bank = MemoryBank.load(place)
    config = config if isinstance(config, LoraryConfig) else _configuration(place)
    own = place / _BASE
    name = base or (str(own) if own.is_dir() else bank.base)
    kwargs: dict[str, Any] = {"dtype": dtype or unused.get("torch_dtype"), "device_map": device_map}
    loaded = load_base(name, revision=bank.revision, local_files_only=local_files_only, **kwargs)
    with reading(f"the tokenizer in {place}", _AGAIN):
        tokenizer = AutoTokenizer.from_pretrained(place) if not own.is_dir() else loaded.tokenizer
    loaded = Base(bank.base, bank.revision, loaded.model, tokenizer)
    encoder = load_encoder(str(place / _ENCODER)) if (place / _ENCODER).is_dir() else None
    gate = _load_gate(place, bank, config, encoder)
    model = assemble(bank, loaded, encoder=encoder, gate=gate.to(loaded.model.device), config=config)
    model.name_or_path = str(folder)
    return model


_AGAIN = "restore it, or train the router again"


def _configuration(place: Path) -> LoraryConfig:
    """The configuration of the composite in a folder."""
    if not (place / "config.json").is_file():
        raise BankError(f"{place / 'config.json'} is missing; {_AGAIN}")
    with reading(place / "config.json", _AGAIN):
        return LoraryConfig.from_pretrained(place)


def load_router(folder: str | Path) -> tuple[Router, LoraryConfig]:
    """(the router of the composite in a folder, the composite's configuration); the base is not loaded.

    Raises:
        BankError: what is missing, damaged or does not fit.
    """
    place = Path(folder)
    bank = MemoryBank.load(place)
    if not is_composite(place):
        raise BankError(
            f"{folder} holds a bank without a gate; `lorary train-router {folder} --out COMPOSITE` trains one"
        )
    config, own = _configuration(place), place / _ENCODER
    encoder = load_encoder(str(own)) if own.is_dir() else None
    gate = _load_gate(place, bank, config, encoder).requires_grad_(False)
    return Router(bank, gate, config.routing_policy(), lambda: encoder or load_encoder(bank.encoder)), config


def read_gate(folder: Path) -> tuple[dict[str, Tensor], list[str], tuple[str, ...]]:
    """(the saved gate's tensors, the memories that its keys stand for, its features). Raises BankError where there is
    none, or one that reads what no gate reads now."""
    if not is_composite(folder):
        raise BankError(f"{folder} holds no gate; give a folder that `lorary train-router` wrote")
    config = _configuration(folder)
    if unknown := sorted({*config.features} - {*FEATURES}):
        raise BankError(f"{folder}: its gate reads {unknown[0]!r}, which no gate reads now; train the router again")
    with reading(folder / _GATE, _AGAIN):
        return load_file(folder / _GATE), list(config.trained), tuple(config.features)


def _load_gate(place: Path, bank: MemoryBank, config: LoraryConfig, encoder: Encoder | None) -> Gate:
    """The saved gate, with a key for each memory that joined the folder's bank since (`lorary add`)."""
    tensors, *_ = read_gate(place)
    known = len(config.trained)
    if bank.names[:known] != config.trained or len(tensors.get("keys", ())) != known:
        raise BankError(
            f"{place}: its gate stands for {config.trained}, its bank holds {bank.names}; train the router again"
        )
    with reading(place / _GATE, _AGAIN):
        gate = Gate(tensors["keys"], tensors["from_hidden"].shape[1], tuple(config.features))
        own = (
            gate.state_dict()
        )  # a gate of an earlier version lacks what it does not use, and has what no gate uses now
        gate.load_state_dict(own | {name: tensor for name, tensor in tensors.items() if name in own})
    joined, dimension = list(bank)[known:], gate.from_embedding.shape[1]
    names = cache(partial(bank_names, bank))
    started = starting_keys(joined, names, gate.features, dimension, lambda: encoder or load_encoder(bank.encoder))
    for keys in started:
        gate.append(*keys)
    return gate


def _local(folder: str | Path, revision: str | None, local_files_only: bool) -> Path:
    place = Path(folder)
    if place.is_dir() or len(place.parts) != 2 or place.is_absolute():
        return place
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(str(folder), revision=revision, local_files_only=local_files_only))


def save_composite(model: LoraryForCausalLM, folder: Path, *, include_base: bool = False) -> None:
    """Writes the composite; `bank.json`, which lists the memories, is written before what depends on it.

    Raises:
        BankError: another writer holds the folder, or changed its bank since this composite was loaded from it.
    """
    with writing(folder):
        _write_composite(model, folder, include_base)


def _write_composite(model: LoraryForCausalLM, folder: Path, include_base: bool) -> None:
    bank, config = model.router.bank, model.config
    bank.save(folder, overwrite=True)
    gate = {name: tensor.detach().cpu().contiguous() for name, tensor in model.gate.state_dict().items()}
    write_aside(folder / _GATE, save(gate, metadata={"format": "pt"}))
    config.trained = bank.names
    policy = asdict(model.router.policy)
    config.policy = {**config.policy, **policy, "sources": list(policy["sources"])}
    config.auto_map, config.architectures = _AUTO_MAP, [type(model).__name__]
    config.save_pretrained(folder)
    write_aside(folder / _STUB, _REMOTE.encode())
    model.tokenizer.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    if include_base:
        _save_base(model, folder)


def _save_base(model: LoraryForCausalLM, folder: Path) -> None:
    """The base as a stock folder, without the mixtures, and the encoder beside it."""
    remove(model.base)
    try:
        model.base.save_pretrained(folder / _BASE)
        model.tokenizer.save_pretrained(folder / _BASE)
    finally:
        model._install()
    encoder = model.router.get_encoder()
    if hasattr(encoder, "save"):
        encoder.save(folder / _ENCODER)


def is_composite(folder: str | Path) -> bool:
    """Whether `folder` holds a composite (a bank alone has no gate)."""
    return (Path(folder) / MANIFEST).is_file() and (Path(folder) / _GATE).is_file()
