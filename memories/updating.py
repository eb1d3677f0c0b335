"""New facts and documents → new versions of the memories that hold them: the latest wins, and nothing else changes."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from lorary.bank.bank import MemoryBank
from lorary.bank.documents import Passage, replaced
from lorary.bank.facts import Fact, FactError, group_by_topic
from lorary.bank.files import BankError, writing
from lorary.bank.joining import DOCUMENTS
from lorary.bank.manifest import read_manifest
from lorary.bank.memory import Memory
from lorary.bank.upkeep import facts_before
from lorary.bank.versions import Difference, difference
from lorary.base.loading import Base
from lorary.base.rows import default_split
from lorary.memories.base_beliefs import with_base
from lorary.memories.contradictions import Contradiction, with_bank
from lorary.memories.latest import latest_wins
from lorary.memories.planner import Planner
from lorary.memories.recipe import Recipe
from lorary.memories.rewriting import Plan, written
from lorary.memories.rows import kept_for_validation
from lorary.model.composite import base_of
from lorary.model.saved import is_composite
from lorary.routing.encoder import Encoder, load_encoder

UPDATE = "update"
"""The note of versions that an update wrote."""
_MANY = 50
"""Facts from which on the machine is measured, to tell how long writing takes: it costs seconds."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """What an update made of one memory.

    Args:
        version: its current one.
        difference: how many facts were added, updated and removed.
        documents: sources of the documents that came or changed.
        contradictions: what its new facts contradict.
        certificate: of the current version.
    """

    memory: str
    version: int
    difference: Difference
    documents: tuple[str, ...]
    contradictions: tuple[Contradiction, ...]
    certificate: Mapping[str, Any]


def update(
    bank_folder: str | Path,
    topics: Mapping[str, Sequence[Fact]],
    documents: Mapping[str, Sequence[Passage]] | None = None,
    *,
    recipe: Recipe | None = None,
    base: Base | None = None,
    processes: int | None = None,
    keep_wordings: bool = True,
    check_base: bool = False,
    quiet: bool = False,
) -> list[Change]:
    """Takes new facts and documents into memories of a bank, new ones included; returns what became of each, in order.

    The latest wins: a fact that shares a wording with an older one of its memory takes its place, any other is added, and a
    document replaces one of its source. Memories that this changes are written anew from all their facts, and are new
    versions; the others stay as they are. The bank is saved after each group of memories, so an interrupted call goes on.

    Args:
        topics: name of a memory → its new facts.
        documents: name of a memory → passages of its new documents.
        recipe: how the memories are written; by default as each was before, and a new one by the default recipe.
        base: the bank's base, if it is loaded already.
        processes: that write groups of memories side by side; None: one a core.
        keep_wordings: a new fact also keeps the wordings of the one that it replaces.
        check_base: also list what the base answers otherwise by itself.

    Raises:
        FactError: nothing is given, or a wording would have two answers in the bank, or be trained on and held out.
        BankError: the folder holds no bank or a composite, another writer holds it, or a memory's adapter is not one that
            was written from facts.
        BaseError: the base is not the bank's.
    """
    documents = documents or {}
    if not any(topics.values()) and not any(documents.values()):
        raise FactError("nothing is given to update; give facts, documents, or both")
    if is_composite(bank_folder):
        raise BankError(f"{bank_folder} is a composite; update its bank, then `lorary refresh {bank_folder} BANK`")
    new = group_by_topic(replace(fact, topic=topic) for topic, facts in topics.items() for fact in facts)
    folder = Path(bank_folder)
    read_manifest(folder)  # a folder without a bank is told before anything is written there
    with writing(folder):
        bank = MemoryBank.load(folder)
        before = dict(bank.memories)
        encoder = load_encoder(bank.encoder)
        merged = {topic: _merged(bank, topic, facts, keep_wordings) for topic, facts in new.items()}
        contradictions = _contradictions(folder, bank, new, merged, encoder)
        after = {name: replaced(_documents(bank, name), passages) for name, passages in documents.items()}
        if merged:
            loaded = base_of(bank, base)
            plans = {topic: _planned(bank, topic, facts, recipe, loaded) for topic, facts in merged.items()}
            changed = {topic: plan for topic, plan in plans.items() if plan is not None}
            if check_base:
                contradictions += [told for topic in changed for told in with_base(topic, new[topic], loaded)]
            count = processes if base is None else 1  # a base that is given may be known here alone
            if not quiet:
                _tell_plan(changed, loaded, count)
            for memories in written(loaded, changed, revision=bank.revision, processes=count, quiet=quiet):
                for memory in memories:
                    passages = after.get(memory.name, _documents(bank, memory.name))
                    bank.add(replace(memory, documents=passages), encoder=encoder, replace_existing=True)
                # Groups end in any order; the bank's must not depend on it.
                bank.memories = {name: bank.memories[name] for name in (*before, *merged) if name in bank.memories}
                bank.save(folder, note=UPDATE)
        if others := [name for name, passages in after.items() if passages != _documents(bank, name)]:
            for name in others:
                bank.add(name=name, documents=documents[name], encoder=encoder)
            bank.save(folder, note=UPDATE)
        return [_change(bank, before.get(name), name, contradictions) for name in dict.fromkeys((*new, *documents))]


def _tell_plan(plans: Mapping[str, Plan], base: Base, processes: int | None) -> None:
    """Tells on standard error what writing takes, where there is so much that it is worth measuring the machine for."""
    facts = [plan.facts for plan in plans.values()]
    if sum(map(len, facts)) < _MANY:
        return
    recipe = next(iter(plans.values())).recipe
    split_layer = recipe.split_layer if recipe.split_layer is not None else default_split(base.model)
    print(Planner(base, recipe, split_layer, processes, 0.0).plan(facts, recipe), file=sys.stderr)


def _merged(bank: MemoryBank, topic: str, new: Sequence[Fact], keep_wordings: bool) -> tuple[Fact, ...]:
    """All facts of a memory with the new ones. Raises BankError where they cannot be told by training its adapter."""
    if topic not in bank.memories:
        bank.check_new_name(topic)
        return tuple(new)
    if not takes_facts(bank[topic]):
        origin = bank[topic].card.get("recipe") or "its origin is not known"
        raise BankError(
            f"the adapter of {topic!r} was not written from facts ({origin}), so training it "
            "anew would lose what it knows; put the facts into another memory"
        )
    return group_by_topic(latest_wins(bank[topic].facts, new, keep_wordings=keep_wordings))[topic]


def takes_facts(memory: Memory) -> bool:
    """Whether new facts can be told by training its adapter anew: it was written from facts, or adds nothing."""
    recipe = memory.card.get("recipe")
    return isinstance(recipe, Mapping) or recipe == DOCUMENTS


def _contradictions(
    folder: Path,
    bank: MemoryBank,
    new: Mapping[str, Sequence[Fact]],
    merged: Mapping[str, Sequence[Fact]],
    encoder: Encoder,
) -> list[Contradiction]:
    """What the new facts contradict in the bank. Raises FactError where one wording would have two answers.

    Where an update that was stopped wrote a memory already, they contradict what its version before held.
    """
    written = [topic for topic, facts in merged.items() if topic in bank.memories and bank[topic].facts == facts]
    before = {topic: facts_before(folder, topic, UPDATE) for topic in written}
    elsewhere, listed = with_bank(bank, new, merged, encoder, before=before, again=written)
    if elsewhere:
        one = elsewhere[0]
        raise FactError(
            f"{one.wording!r} is answered by {one.other_answer!r} in {one.memory!r}, and would be by {one.answer!r} in "
            f"{one.topic!r}; update {one.memory!r}, or name in the question what it is about"
        )
    return listed


def _planned(bank: MemoryBank, topic: str, facts: Sequence[Fact], recipe: Recipe | None, base: Base) -> Plan | None:
    """How a memory is to be written; None where it holds the facts already, written so."""
    memory = bank.memories.get(topic)
    before = None if memory is None else recipe_of(memory, base)
    chosen = recipe or before or Recipe()
    kept = kept_for_validation(facts, chosen.validation_wordings)
    if memory is not None and memory.facts == kept and chosen == before:
        return None
    return Plan(kept, chosen)


def recipe_of(memory: Memory, base: Base) -> Recipe | None:
    """The recipe that a memory was written with; what its version did not know is as it is by default now."""
    card = memory.card.get("recipe")
    if not isinstance(card, Mapping):
        return None
    names = {field.name for field in fields(Recipe)}
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in card.items() if name in names}
    if values.get("split_layer") == default_split(base.model):
        values["split_layer"] = None
    return Recipe(**values)


def _documents(bank: MemoryBank, name: str) -> tuple[Passage, ...]:
    return bank.memories[name].documents if name in bank.memories else ()


def _sources(passages: Sequence[Passage]) -> dict[str, list[Passage]]:
    """Passages by the document that they are of."""
    sources: dict[str, list[Passage]] = {}
    for passage in passages:
        sources.setdefault(passage.source, []).append(passage)
    return sources


def _change(bank: MemoryBank, before: Memory | None, name: str, contradictions: Sequence[Contradiction]) -> Change:
    """What became of a memory."""
    after = bank[name]
    old = _sources(before.documents if before else ())
    return Change(
        memory=name,
        version=bank.versions[name][1].number,
        difference=difference(before.facts if before else (), after.facts),
        documents=tuple(source for source, own in _sources(after.documents).items() if old.get(source) != own),
        contradictions=tuple(told for told in contradictions if told.topic == name),
        certificate=after.card.get("certificate", {}),
    )
