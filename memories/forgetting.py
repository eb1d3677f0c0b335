"""Forgetting: a memory is written anew without some facts, and without the passages that tell them; the rest stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lorary.bank.adapters import fresh_adapter
from lorary.bank.bank import MemoryBank
from lorary.bank.documents import Passage
from lorary.bank.facts import Fact
from lorary.bank.files import BankError, writing
from lorary.bank.joining import DOCUMENTS
from lorary.bank.manifest import read_manifest
from lorary.bank.memory import Memory
from lorary.bank.upkeep import remove_orphans
from lorary.base.loading import Base
from lorary.memories.choosing import ForgettingError, Told, by_id, still_told, tells_one
from lorary.memories.forgotten import FORGET, Taken, forgotten_before, has_left
from lorary.memories.proof import Proof
from lorary.memories.proving import prove
from lorary.memories.rewriting import Plan, written
from lorary.memories.rows import kept_for_validation, with_validation
from lorary.memories.updating import recipe_of
from lorary.model.composite import base_of
from lorary.model.saved import is_composite
from lorary.routing.encoder import Encoder, load_encoder


@dataclass(frozen=True, kw_only=True)
class Forgotten:
    """What was forgotten.

    Args:
        facts, passages: that the memory no longer holds.
        left: the memory holds nothing more, and left the bank with all its versions.
        before: a call before this one, which may have been stopped, had done all of it; this one proved it again, as far as
            the bank still tells what was forgotten.
        proof: what the memory still knows of the facts; None where it has no adapter that could know any.
        told: what in the bank still tells the facts.
    """

    memory: str
    facts: tuple[Fact, ...]
    passages: tuple[Passage, ...]
    left: bool
    proof: Proof | None
    told: tuple[Told, ...]
    before: bool = False

    @property
    def holds(self) -> bool:
        """Whether nothing in the bank knows or tells the facts."""
        return not self.told and (self.proof is None or self.proof.holds)

    def to_json(self) -> dict[str, Any]:
        return {
            "memory": self.memory,
            "facts": [{"id": fact.id, **fact.to_json()} for fact in self.facts],
            "passages": [passage.to_json() for passage in self.passages],
            "left": self.left,
            "before": self.before,
            "proof": None if self.proof is None else self.proof.to_json(),
            "still_told": [vars(told) for told in self.told],
            "holds": self.holds,
        }


def forget(
    bank: str | Path,
    name: str,
    facts: Sequence[str] | None = None,
    *,
    base: Base | None = None,
    seed: int = 0,
    quiet: bool = False,
) -> Forgotten:
    """Writes a memory of the bank in a folder anew without some facts, proves that they are forgotten, and commits it.

    The memory is trained from the start on the rest, by the recipe in its card, as if it had never known the facts; its
    documents lose the passages that tell them. It is a new version also where the proof fails. Earlier versions stay until
    `upkeep.collect_garbage`. Without `facts` the whole memory leaves the bank, with all its versions.

    A call that was stopped is finished by the same call. Where it had committed already, as earlier versions tell, the proof
    alone is made again.

    Args:
        facts: ids of facts (`Fact.id`).
        base: the bank's, loaded already.
        seed: of the generated wordings that the proof asks, and of its choice among wrong answers.

    Raises:
        BankError: no such memory, or the folder holds a composite.
        ForgettingError: an unknown id, or a memory that was not written from facts.
    """
    if is_composite(bank):
        raise BankError(f"{bank} is a composite; forget in its bank, then `lorary refresh {bank} BANK`")
    folder = Path(bank)
    if not has_left(folder, name):
        MemoryBank.load(folder)[name]  # what is missing is told before anything is written
    with writing(folder):
        opened = MemoryBank.load(folder)
        if has_left(folder, name):
            remove_orphans(folder, read_manifest(folder))
            return Forgotten(memory=name, facts=(), passages=(), left=True, proof=None, told=(), before=True)
        memory, encoder = opened[name], load_encoder(opened.encoder)
        # Earlier versions are read only where they must tell something: one of them may be damaged.
        earlier = (
            Taken() if {fact.id for fact in memory.facts}.issuperset(facts or ()) else forgotten_before(folder, name)
        )
        chosen = memory.facts if facts is None else by_id(memory, facts, earlier.facts)
        held = tuple(fact for fact in chosen if fact in memory.facts)
        before = facts is not None and not held
        passages = earlier.passages if before else memory.documents
        dropped = memory.documents if facts is None else _telling(passages, chosen, encoder)
        kept, proof = None, None
        if before:
            kept = memory
        elif facts is not None:
            kept = without_facts(opened, memory, held, dropped, encoder, lambda: base_of(opened, base), quiet)
        if kept is None:
            opened.remove(name)
        elif chosen and kept.card.get("recipe") != DOCUMENTS:
            others, where = [other for other in opened if other.name != name], (opened.shapes, opened.layers_path)
            proof = prove(base_of(opened, base), kept, chosen, others, *where, seed=seed, quiet=quiet)
            kept = kept if before else replace(kept, card={**kept.card, "forgotten": _counts(proof)})
        if kept is not None:
            opened.memories[name] = kept
        opened.save(folder, note=FORGET)
        remove_orphans(folder, read_manifest(folder))  # a stopped call's, which may hold the facts
    told = tuple(still_told(opened, chosen, encoder))
    return Forgotten(
        memory=name, facts=chosen, passages=dropped, left=kept is None, proof=proof, told=told, before=before
    )


def _telling(passages: Sequence[Passage], facts: Sequence[Fact], encoder: Encoder) -> tuple[Passage, ...]:
    return tuple(passage for passage in passages if tells_one(passage.text, facts, encoder))


def _counts(proof: Proof) -> dict[str, Any]:
    """What a card keeps of a proof: numbers alone, since anything else would tell what was forgotten."""
    return {
        "facts": len(proof.facts),
        "still_known": len(proof.known),
        "p_base": proof.p_base,
        "p_never_known": proof.p_never_known,
    }


def without_facts(
    bank: MemoryBank,
    memory: Memory,
    facts: Sequence[Fact],
    passages: Sequence[Passage],
    encoder: Encoder,
    get_base: Callable[[], Base],
    quiet: bool = False,
) -> Memory | None:
    """A memory without some facts and passages, its adapter trained from the start on the facts that are left.

    Without facts it has an adapter that adds nothing. None where nothing is left.

    Raises:
        ForgettingError: it was not written from facts, so that it cannot be written anew.
    """
    left = tuple(fact for fact in memory.facts if fact not in facts)
    documents = tuple(passage for passage in memory.documents if passage not in passages)
    if not left and not documents:
        return None
    if memory.card.get("recipe") == DOCUMENTS or not left:
        config, tensors = fresh_adapter(bank.shapes, bank.layers_path, bank.base)
        kept = Memory(memory.name, config, tensors, left, card={"recipe": DOCUMENTS})
    else:
        kept = _rewritten(bank, memory, left, get_base, quiet)
    return replace(kept, documents=documents).with_keys(encoder)


def _rewritten(
    bank: MemoryBank, memory: Memory, left: Sequence[Fact], get_base: Callable[[], Base], quiet: bool
) -> Memory:
    if not isinstance(memory.card.get("recipe"), dict):
        raise ForgettingError(
            f"the adapter of {memory.name!r} was not written from facts, so it cannot be written anew without some; forget "
            "the whole memory (leave --facts and --about out), or train its adapter anew and add it"
        )
    base = get_base()
    recipe = recipe_of(memory, base)
    assert recipe is not None, "a card that tells a recipe tells one"
    count = recipe.validation_wordings
    facts = kept_for_validation([_as_given(fact, count) for fact in left], count)
    ((kept,),) = written(base, {memory.name: Plan(facts, recipe)}, revision=bank.revision, processes=1, quiet=quiet)
    return kept


def _as_given(fact: Fact, validation_wordings: int | None) -> Fact:
    """A fact as it was given to be built, before wordings were kept from it for validation."""
    given = replace(fact, validation=())
    return given if with_validation(given, validation_wordings) == fact else fact
