"""Refreshing: a composite takes up what has changed in its bank, at the cost of what changed; the gate is not trained anew."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lorary.bank.bank import MemoryBank
from lorary.bank.files import BankError, writing
from lorary.bank.manifest import read_manifest
from lorary.bank.memory import Memory
from lorary.bank.upkeep import remove_orphans
from lorary.model.composite import load_router
from lorary.model.saving import save_bank
from lorary.routing.router import Router
from lorary.routing.starting import new_gate

_MOST = 1000
"""Validation wordings that are routed to measure, at most."""
CHECKPOINTS = "training/checkpoints"
"""Where a training of the gate leaves its checkpoints, in the composite's folder."""


@dataclass(frozen=True)
class Routed:
    """How many of the bank's validation wordings the policy sends to their memory.

    Args:
        top1: their share, None where nothing could be measured.
        wordings: how many were asked.
    """

    top1: float | None
    wordings: int


@dataclass(frozen=True)
class Refreshed:
    """What a composite took up.

    Args:
        added, updated, removed: names of memories.
        before, after: the routing of the bank's own validation wordings, under the gate as it was and as it is.
    """

    added: tuple[str, ...]
    updated: tuple[str, ...]
    removed: tuple[str, ...]
    before: Routed
    after: Routed

    @property
    def changed(self) -> bool:
        """Whether anything was taken up."""
        return bool(self.added or self.updated or self.removed)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def refresh(composite: str | Path, bank: str | Path, *, reset: bool = False) -> Refreshed:
    """Takes the memories of a bank up into the composite in a folder, in the bank's order; nothing is trained.

    A memory that is new or has changed gets a new key in the gate, made from its facts as if it joined; one that has left
    the bank leaves. The others' keys, the gate's other weights and the thresholds stay. All is committed at once. The base
    is not loaded.

    Args:
        reset: also put all that training taught the gate of the memories back to where training starts (`reset_gate`).

    Raises:
        BankError: no composite, no bank, or a bank over another base; or a gate that cannot be reset.
    """
    place = Path(composite)
    with writing(place):
        router, config = load_router(place)
        source = MemoryBank.load(bank)
        check_same_base(router.bank, source, place, bank)
        before = routed(router)
        added, updated, removed = take_up(router, source)
        if reset:
            reset_gate(router)
        after = routed(router) if reset or added or updated or removed else before
        # As another bank that is put in the place of this one: versions keep the numbers that they have in the source.
        versions = {name: (memory, source.versions[name][1]) for name, memory in router.bank.memories.items()}
        # No checkpoint can be gone on from: their gates stand for what is gone. Behind the commit, a call that is stopped
        # there would leave them for good, since the next one finds nothing to take up.
        if reset or updated or removed:
            shutil.rmtree(place / CHECKPOINTS, ignore_errors=True)
        taken = replace(router.bank, stored={}, versions=versions)
        save_bank(place, router, taken, router.gate.state_dict(), config)
        remove_orphans(place, read_manifest(place))
    return Refreshed(added, updated, removed, before, after)


def check_same_base(own: MemoryBank, other: MemoryBank, composite: str | Path, bank: str | Path) -> None:
    """Raises BankError where a bank's memories are not over the base of a composite's."""
    if own.fingerprint != other.fingerprint:
        raise BankError(
            f"{bank} is a bank over {other.base!r} ({other.fingerprint[:12]}), {composite} a composite over {own.base!r} "
            f"({own.fingerprint[:12]}); give the bank that the composite was made from, or train a router for this one"
        )


def take_up(router: Router, source: MemoryBank) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Lets a router stand for the memories of another bank, in its order; returns the names (added, updated, removed)."""
    own = dict(router.bank.memories)
    same = {memory.name for memory in source if memory.name in own and alike(own[memory.name], memory)}
    for name in own:
        if name not in same:
            number = router.bank.names.index(name)
            router.bank.remove(name)
            router.remove(name, number)
    for memory in source:
        if memory.name in same:
            router.bank.memories[memory.name] = _with_keys_of(memory, own[memory.name])
        else:
            taken = readable(memory, source, router)
            router.bank.memories[memory.name] = _with_examples_of(taken, own.get(memory.name, taken))
            router.add(router.bank[memory.name])
    order = torch.tensor([router.bank.names.index(name) for name in source.names], dtype=torch.long)
    router.gate.keep(order)
    router.bank.memories = {name: router.bank.memories[name] for name in source.names}
    added = tuple(name for name in source.names if name not in own)
    updated = tuple(name for name in source.names if name in own and name not in same)
    return added, updated, tuple(name for name in own if name not in source.memories)


def reset_gate(router: Router) -> None:
    """Puts what training taught a gate of its memories, its projection and its keys, back to where training starts.

    Its scales, its recognition and the thresholds stay: a few dozen numbers that tell of no memory.

    Raises:
        BankError: the gate reads the base's hidden state, which means nothing to it untrained.
    """
    if "hidden" in router.gate.features:
        raise BankError(
            "the gate reads the base's hidden state and can read nothing untrained, so it cannot be reset; train the router "
            "anew (`lorary train-router`)"
        )
    fresh = new_gate(router.bank, router.get_encoder(), 0, router.gate.features)
    kept = {name: tensor for name, tensor in router.gate.state_dict().items() if name not in _TAUGHT}
    fresh.load_state_dict(fresh.state_dict() | kept)
    router.gate = fresh.requires_grad_(False)


_TAUGHT = ("from_embedding", "keys", "asked_keys")


def alike(memory: Memory, other: Memory) -> bool:
    """Whether two memories hold the same: adapter, facts and documents; how they are embedded does not matter."""
    if memory.is_file_by_file(other):
        return True
    if (memory.facts, memory.documents) != (other.facts, other.documents):
        return False
    if memory.adapter_config != other.adapter_config or memory.tensors.keys() != other.tensors.keys():
        return False
    return all(torch.equal(tensor, other.tensors[name]) for name, tensor in memory.tensors.items())


def _with_keys_of(memory: Memory, other: Memory) -> Memory:
    """A memory with the embeddings of another that holds the same; that other where nothing else differs."""
    if memory.card == other.card:
        return other
    embedded = replace(memory, keys=other.keys, key_facts=other.key_facts, passage_keys=other.passage_keys)
    return _with_examples_of(embedded, other)


def _with_examples_of(memory: Memory, other: Memory) -> Memory:
    """A memory with the examples of another, where it has none: they came with the composite, not with its bank."""
    if memory.examples or not other.examples:
        return memory
    return replace(memory, examples=other.examples, example_keys=other.example_keys)


def readable(memory: Memory, source: MemoryBank, router: Router) -> Memory:
    """A memory with the embeddings that the router's encoder makes."""
    embedded = len(memory.passage_keys) == len(memory.passages)
    if source.encoder == router.bank.encoder and embedded:
        return memory
    return memory.with_keys(router.get_encoder())


@torch.no_grad()
def routed(router: Router, most: int = _MOST) -> Routed:
    """How a router sends the validation wordings of its bank, some of them where there are many.

    A gate that reads the base's hidden state is not measured, because the base is not loaded.
    """
    if "hidden" in router.gate.features:
        return Routed(None, 0)
    asked = [
        (wording, number)
        for number, memory in enumerate(router.bank)
        for fact in memory.facts
        for wording in fact.validation
    ]
    asked = asked[:: -(-len(asked) // most)] if asked else []
    if not asked:
        return Routed(None, 0)
    texts, numbers = [text for text, _ in asked], torch.tensor([number for _, number in asked])
    decided = router.decide(router.features(texts))
    right = (decided.source > 0) & (decided.weights.argmax(-1) == numbers)
    return Routed(round(float(right.float().mean()), 4), len(asked))
