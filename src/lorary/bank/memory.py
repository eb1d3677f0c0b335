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
from safetensors.torch import load, save
from torch import Tensor

from lorary.bank.adapters import CONFIG, WEIGHTS, factors_of, read_adapter
from lorary.bank.facts import Fact, parse_fact, read_lines
from lorary.bank.files import to_json
from lorary.routing.encoder import Encoder, EncoderWarning

_CARD, _FACTS, _KEYS = "memory.json", "facts.jsonl", "keys.safetensors"


@dataclass(frozen=True)
class Memory:
    """One topic: a stock PEFT LoRA adapter, its facts, an embedding of each trained wording, and a card.

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
                f"{len(unread)} of {len(asked)} wordings of memory {self.name!r} hold what encoder {encoder.name!r} cannot "
                f"read: {unread[0]!r}, for one; no question finds them: word them otherwise, or use another encoder",
                EncoderWarning,
                stacklevel=2,
            )
        return replace(self, keys=keys, key_facts=tuple(i for _, i in asked))

    def files(self) -> dict[str, bytes]:
        """File name → content, as they lie in the memory's folder."""
        facts = "".join(json.dumps(fact.to_json(), ensure_ascii=False) + "\n" for fact in self.facts)
        keys = {"keys": self.keys.contiguous(), "facts": torch.tensor(self.key_facts, dtype=torch.long)}
        return {
            CONFIG: to_json(self.adapter_config),
            WEIGHTS: save({k: t.contiguous() for k, t in self.tensors.items()}, metadata={"format": "pt"}),
            _CARD: to_json({"topic": self.name, "version": 1, **self.card}),
            _FACTS: facts.encode(),
            _KEYS: save(keys),
        }

    @staticmethod
    def open(folder: Path, name: str) -> Memory:
        """The memory in one folder of a bank."""
        config, tensors = read_adapter(folder)
        lines = read_lines(folder / _FACTS)
        facts = tuple(parse_fact(given, topic=name, where=where) for where, given in lines)
        keys = load((folder / _KEYS).read_bytes())
        card = json.loads((folder / _CARD).read_text(encoding="utf-8"))
        return Memory(name, config, tensors, facts, keys["keys"], tuple(keys["facts"].tolist()), card)
