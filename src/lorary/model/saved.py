"""Saved: what a composite's folder holds beside the base, read as of one state while other processes may write there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from lorary.bank.bank import MemoryBank
from lorary.bank.companions import at_one_state, has_companion, read_companion
from lorary.bank.files import MANIFEST, BankError
from lorary.errors import reading
from lorary.model.configuration import CONFIG_PART, ENCODER_PART, GATE_PART, LoraryConfig
from lorary.routing.encoder import Encoder, load_encoder
from lorary.routing.gate import FEATURES, Gate
from lorary.routing.starting import bank_names, starting_keys

AGAIN = "restore it, or train the router again"
"""What to do where a part of a composite cannot be used."""


@dataclass(frozen=True)
class Parts:
    """What a composite's folder holds beside the base.

    Args:
        stored: the configuration as it is saved, with a caller's changes.
        config: the caller's own, or the stored one.
    """

    bank: MemoryBank
    stored: LoraryConfig
    config: LoraryConfig
    encoder: Encoder | None
    gate: Gate


def parts_of(place: Path, folder: str | Path, config: Any = None, **changes: Any) -> Parts:
    """The parts of the composite at `place`, which the caller named `folder`, all of one state of it.

    Raises:
        BankError: what is missing, damaged or does not fit.
    """

    def parts() -> Parts:
        bank, stored = _bank_with_gate(place, folder), _configuration(place, **changes)
        own = config if isinstance(config, LoraryConfig) else stored
        encoder = load_encoder(str(place / ENCODER_PART)) if (place / ENCODER_PART).is_dir() else None
        return Parts(bank, stored, own, encoder, _load_gate(place, bank, own, encoder))

    return at_one_state(place, parts)


def is_composite(folder: str | Path) -> bool:
    """Whether `folder` holds a composite (a bank alone has no gate)."""
    return (Path(folder) / MANIFEST).is_file() and has_companion(Path(folder), GATE_PART)


def encoder_source(bank: MemoryBank, encoder: Encoder | None) -> Callable[[], Encoder]:
    """What gives the encoder, loaded or by the bank's name for it; a lambda could not be pickled."""
    return partial(load_encoder, bank.encoder) if encoder is None else partial(_itself, encoder)


def _itself(encoder: Encoder) -> Encoder:
    return encoder


def _configuration(place: Path, **changes: Any) -> LoraryConfig:
    """The configuration of the composite in a folder, with a caller's changes."""
    file = place / CONFIG_PART
    if not has_companion(place, CONFIG_PART):
        raise BankError(f"{file} is missing; {AGAIN}")
    with reading(file, AGAIN):
        return read_companion(place, CONFIG_PART, lambda file: LoraryConfig.from_pretrained(file, **changes))


def _bank_with_gate(place: Path, folder: str | Path) -> MemoryBank:
    """The bank of the composite at `place`, which the caller named `folder`. Raises BankError where it has no gate."""
    bank = MemoryBank.load(place)
    if not is_composite(place):
        raise BankError(
            f"{folder} holds a bank without a gate; `lorary train-router {folder} --out COMPOSITE` trains one"
        )
    return bank


def read_gate(folder: Path) -> tuple[dict[str, Tensor], list[str], tuple[str, ...]]:
    """(the saved gate's tensors, the memories that its keys stand for, its features), all of one state of the folder.

    Raises:
        BankError: there is none, or one that reads what no gate reads now.
    """
    return at_one_state(folder, lambda: _gate_parts(folder))


def _gate_parts(folder: Path) -> tuple[dict[str, Tensor], list[str], tuple[str, ...]]:
    if not is_composite(folder):
        raise BankError(f"{folder} holds no gate; give a folder that `lorary train-router` wrote")
    config = _configuration(folder)
    if unknown := sorted({*config.features} - {*FEATURES}):
        raise BankError(f"{folder}: its gate reads {unknown[0]!r}, which no gate reads now; train the router again")
    with reading(folder / GATE_PART, AGAIN):
        return read_companion(folder, GATE_PART, load_file), list(config.trained), tuple(config.features)


def _load_gate(place: Path, bank: MemoryBank, config: LoraryConfig, encoder: Encoder | None) -> Gate:
    """The saved gate, with a key for each memory that joined the folder's bank since (`lorary add`)."""
    tensors, trained, _ = _gate_parts(place)
    if bank.names[: len(trained)] != trained or len(tensors.get("keys", ())) != len(trained):
        raise BankError(f"{place}: its gate stands for {trained}, its bank holds {bank.names}; train the router again")
    with reading(place / GATE_PART, AGAIN):
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
