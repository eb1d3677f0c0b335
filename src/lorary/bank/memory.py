"""Memory: one topic's adapter with its facts, their embeddings and a card, as files."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from lorary.bank.adapters import CONFIG, WEIGHTS, check_tensors, factors_of, paths_of, read_adapter
from lorary.bank.facts import Fact, parse_fact, read_lines
from lorary.bank.files import BankError, to_json
from lorary.bank.lora_config import check_config
from lorary.base.layers import layer_of
from lorary.routing.encoder import Encoder, EncoderWarning
from lorary.tables import counted

_CARD, _FACTS, _KEYS = "memory.json", "facts.jsonl", "keys.safetensors"
FILES = (CONFIG, WEIGHTS, _CARD, _FACTS, _KEYS)
"""What lies in a memory's folder."""


@dataclass(frozen=True)
class Memory:
    """One topic: a stock PEFT LoRA adapter, its facts, an embedding of each trained wording, and a card.

    A memory is never changed in place: a changed one is another object, which is how a bank knows what to write.

    Args:
        keys: [wordings, embedding], unit vectors.
        key_facts: the fact that each key belongs to.
        card: topic, version, recipe, certificate, source hashes.
    """

    name: str
    adapter_config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    facts: tuple[Fact, ...] = ()
    keys: Float[Tensor, "wordings embedding"] = field(default_factory=lambda: torch.zeros(0, 0))
    key_facts: tuple[int, ...] = ()
    card: Mapping[str, Any] = field(default_factory=dict)

    def factors(self, shapes: Mapping[str, tuple[int, int]] | None = None) -> dict[str, tuple[Tensor, Tensor]]:
        """The adapter's factors, scaled. Raises AdapterError where they do not fit `shapes`."""
        return factors_of(self.adapter_config, self.tensors, shapes, f"memory {self.name!r}")

    def check(self, shapes: Mapping[str, tuple[int, int]], where: str | None = None) -> None:
        """Raises AdapterError where what the mixture computes of the adapter is not what PEFT computes on this base."""
        where = where or f"memory {self.name!r}"
        check_config(self.adapter_config, where)
        check_tensors(self.adapter_config, self.tensors, shapes, where)

    @property
    def paths(self) -> list[str]:
        """The module paths that the adapter adapts."""
        return list(paths_of(self.tensors))

    def split_layer(self, layers_path: str) -> int:
        """The lowest decoder layer that the adapter adapts.

        Args:
            layers_path: of the base's decoder layers, such as `model.layers`.
        """
        return min(layer_of(path, layers_path) for path in self.paths)

    @property
    def wordings(self) -> list[str]:
        """The trained wordings of its facts, in order: what its keys embed."""
        return [wording for fact in self.facts for wording in fact.trained]

    def with_keys(self, encoder: Encoder) -> Memory:
        """The same memory with its trained wordings embedded. Warns of those that the encoder cannot read."""
        asked = [(wording, i) for i, fact in enumerate(self.facts) for wording in fact.trained]
        keys = encoder.encode([wording for wording, _ in asked]) if asked else torch.zeros(0, encoder.dimension)
        unread = [wording for (wording, _), readable in zip(asked, keys.any(-1).tolist(), strict=True) if not readable]
        if unread:
            warnings.warn(
                f"encoder {encoder.name!r} cannot read {len(unread)} of {counted(len(asked), 'wording')} of memory "
                f"{self.name!r}: {unread[0]!r}, for one; no question finds what it cannot read: word it "
                "otherwise, or use another encoder",
                EncoderWarning,
                stacklevel=2,
            )
        return replace(self, keys=keys, key_facts=tuple(i for _, i in asked))

    def files(self) -> dict[str, bytes]:
        """File name → content, as they lie in the memory's folder."""
        facts = "".join(json.dumps(fact.to_json(), ensure_ascii=False) + "\n" for fact in self.facts)
        keys = {"keys": self.keys.contiguous(), "facts": torch.tensor(self.key_facts, dtype=torch.long)}
        return {
            # In its own order: of two patterns that match a module, the first counts.
            CONFIG: to_json(self.adapter_config, sort_keys=False),
            WEIGHTS: save({k: t.contiguous() for k, t in self.tensors.items()}, metadata={"format": "pt"}),
            _CARD: to_json({"topic": self.name, "version": 1, **self.card}),
            _FACTS: facts.encode(),
            _KEYS: save(keys),
        }

    @staticmethod
    def open(folder: Path, name: str) -> Memory:
        """The memory in one folder of a bank. Raises AdapterError, FactError or BankError, naming the file."""
        config, tensors = read_adapter(folder)
        lines = read_lines(folder / _FACTS)
        facts = tuple(parse_fact(given, topic=name, where=where) for where, given in lines)
        keys, key_facts = _read_keys(folder / _KEYS, len(facts))
        return Memory(name, config, tensors, facts, keys, key_facts, _read_card(folder / _CARD))


def _read_keys(file: Path, facts: int) -> tuple[Tensor, tuple[int, ...]]:
    """(keys [wordings, embedding], the fact of each). Raises BankError for a file that holds something else."""
    try:
        tensors = load(file.read_bytes())
        keys, key_facts = tensors["keys"].float(), tuple(map(int, tensors["facts"].tolist()))
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise BankError(f"{file} holds no keys ({error}); restore it, or build the bank again") from error
    if keys.dim() != 2 or len(keys) != len(key_facts) or not set(key_facts) <= set(range(facts)):
        raise BankError(
            f"{file}: keys of shape {list(keys.shape)} do not stand for {counted(facts, 'fact')}; restore it or build again"
        )
    if not bool(torch.isfinite(keys).all()):
        raise BankError(f"{file} holds NaN or infinity; restore it, or build the bank again")
    return keys, key_facts


def _read_card(file: Path) -> dict[str, Any]:
    try:
        card = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise BankError(f"{file} is not JSON ({error}); restore it, or build the bank again") from error
    if not isinstance(card, dict):
        raise BankError(f"{file} holds {type(card).__name__}, not a JSON object; restore it, or build the bank again")
    return card
