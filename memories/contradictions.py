"""What new facts contradict: other facts that ask the same and answer otherwise, in the bank or among them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import regex
import torch
from jaxtyping import Float
from torch import Tensor

from lorary.bank.bank import MemoryBank
from lorary.bank.facts import Fact, comparable
from lorary.bank.memory import Memory
from lorary.routing.encoder import Encoder
from lorary.routing.names import Names
from lorary.words import lowered, words_of

NEAR = 0.86
"""Mean cosine of a fact's wordings to the nearest of another's from which on both may ask the same.

On the development topics (80 facts, one to three of a fact's wordings against three) it finds 0.69 to 0.76 of the facts that
do, and takes another fact of the same names for one in 0.05 to 0.16 of all.
"""
_ROW = regex.compile(r"(?P<table>.+), (?:line|row) \d+")
"""The source of a cell."""


@dataclass(frozen=True, kw_only=True)
class Contradiction:
    """A new fact beside one that answers otherwise.

    Args:
        topic: the memory of the new fact.
        kind: `same` where both have a wording, `near` where their wordings mean about the same, `base` for what the base
            answers by itself.
        wording, answer: of the new fact.
        memory, other_wording, other_answer, other_id: of the other; the base is in no memory.
        replaced: whether the new fact takes the other's place.
    """

    topic: str
    kind: str
    wording: str
    answer: str
    other_answer: str
    memory: str | None = None
    other_wording: str | None = None
    other_id: str | None = None
    replaced: bool = False

    def __str__(self) -> str:
        if self.kind == "base":
            return f"{self.wording!r}: {self.answer!r} here, and the base is sure of {self.other_answer!r}"
        other = f"{self.other_answer!r} in {self.memory}"
        if self.kind == "near":
            other += f" to {self.other_wording!r}, which asks about the same and stays (fact {self.other_id})"
        return f"{self.wording!r}: {self.answer!r} here, {other}{', which it replaces' if self.replaced else ''}"


_SHOWN = 20


def lines(contradictions: Sequence[Contradiction]) -> list[str]:
    """Contradictions for people, a line each; of many the first, and how many more there are."""
    shown = [f"contradiction: {told}" for told in contradictions[:_SHOWN]]
    more = len(contradictions) - len(shown)
    return [*shown, f"contradictions: {more:,} more, which --json lists"] if more else shown


def otherwise(fact: Fact, other: Fact) -> bool:
    """Whether two facts have different answers."""
    return comparable(fact.answer) != comparable(other.answer)


def shared_wording(fact: Fact, other: Fact) -> str | None:
    """The first wording of a fact that another has too, but for case, white space and Unicode form."""
    others = {comparable(wording) for wording in other.wordings}
    return next((wording for wording in fact.wordings if comparable(wording) in others), None)


@dataclass(frozen=True)
class Embedded:
    """A fact in a memory, with the vectors of its wordings.

    Args:
        keys: [wordings, embedding], unit vectors.
    """

    memory: str
    fact: Fact
    keys: Float[Tensor, "wordings embedding"]


def embedded(
    memory: str,
    facts: Sequence[Fact],
    encoder: Encoder,
    held: Mapping[tuple[str, Fact], Embedded] | None = None,
) -> list[Embedded]:
    """Facts with the vectors of their trained wordings, which those that are `held` have already."""
    made = dict(held or {})
    missing = [fact for fact in facts if (memory, fact) not in made]
    keys = iter(encoder.encode([wording for fact in missing for wording in fact.trained]) if missing else ())
    for fact in missing:
        made[memory, fact] = Embedded(memory, fact, torch.stack([next(keys) for _ in fact.trained]))
    return [made[memory, fact] for fact in facts]


def held_by(memory: Memory) -> list[Embedded]:
    """The facts of a memory with the vectors that it has for them; none without any."""
    facts = torch.tensor(memory.key_facts)
    own = [(fact, memory.keys[facts == number]) for number, fact in enumerate(memory.facts)]
    return [Embedded(memory.name, fact, keys) for fact, keys in own if len(keys)]


def near(new: Sequence[Embedded], others: Sequence[Embedded]) -> list[Contradiction]:
    """New facts that may ask what others ask, and answer otherwise: their wordings are near, and the names of
    the one are all among those of the other.

    A fact is compared with `others` and with the new facts before it; facts that share a wording are left to who looks for
    these.
    """
    every = [*others, *new]
    if not new or len(every) < 2:
        return []
    names = Names.of((str(i), held.fact.wordings) for i, held in enumerate(every)).all
    named = [{lowered(word) for wording in e.fact.wordings for word in words_of(wording)} & names for e in every]
    by_name: dict[str, list[int]] = {}
    for i, own in enumerate(named):
        for name in own or {""}:
            by_name.setdefault(name, []).append(i)
    listed = []
    for number, held in enumerate(new, len(others)):
        sharing = {i for name in named[number] or {""} for i in by_name[name] if i < number}
        # "Lamp 3" and "Lamp 4" are two: of each, the other's wordings lack a name.
        same_names = sorted(i for i in sharing if named[i] <= named[number] or named[number] <= named[i])
        if not same_names:
            continue
        owner = torch.tensor([place for place, i in enumerate(same_names) for _ in every[i].keys])
        keys = torch.cat([every[i].keys for i in same_names])
        similarity = nearness(held.keys, keys, owner, len(same_names))
        for place in (similarity >= NEAR).nonzero().flatten().tolist():
            other = every[same_names[place]]
            if (
                not of_one_table(held.fact, other.fact)
                and otherwise(held.fact, other.fact)
                and shared_wording(held.fact, other.fact) is None
            ):
                nearest = int((other.keys @ held.keys.T).max(-1).values.argmax())
                listed.append(
                    Contradiction(
                        topic=held.memory,
                        kind="near",
                        wording=held.fact.question,
                        answer=held.fact.answer,
                        other_answer=other.fact.answer,
                        memory=other.memory,
                        other_wording=other.fact.trained[nearest],
                        other_id=other.fact.id,
                    )
                )
    return listed


def of_one_table(fact: Fact, other: Fact) -> bool:
    """Whether two facts are cells of one table, as their sources tell: its rows and columns are asked for alike, and none
    contradicts another."""
    tables = [_ROW.fullmatch(one.source or "") for one in (fact, other)]
    return all(tables) and len({table["table"] for table in tables if table}) == 1


def nearness(
    wordings: Float[Tensor, "wordings embedding"],
    keys: Float[Tensor, "keys embedding"],
    owner: Tensor,
    facts: int,
) -> Float[Tensor, " facts"]:
    """The mean over a fact's wordings of the cosine to the nearest wording of each fact that the keys belong to."""
    cosines = wordings @ keys.T
    nearest = cosines.new_full((len(wordings), facts), -1.0)
    return nearest.scatter_reduce(1, owner.expand(len(wordings), -1), cosines, "amax").mean(0)


def by_wording(facts: Iterable[tuple[str, Fact]]) -> dict[str, list[tuple[str, Fact]]]:
    """Facts with the memories that hold them by each of their wordings, as these are compared."""
    owners: dict[str, list[tuple[str, Fact]]] = {}
    for memory, fact in facts:
        for wording in {comparable(wording) for wording in fact.wordings}:
            owners.setdefault(wording, []).append((memory, fact))
    return owners


def same_wordings(
    topic: str, new: Iterable[Fact], owners: Mapping[str, Sequence[tuple[str, Fact]]], *, replaced: bool
) -> list[Contradiction]:
    """New facts of a topic that share a wording with others, and answer otherwise.

    Args:
        owners: the others by wording (`by_wording`).
        replaced: whether the new facts take the places of others of their topic, which are meant then; else those of all
            other memories are.
    """
    listed = dict[tuple[int, int], Contradiction]()
    for fact in new:
        for wording in fact.wordings:
            for memory, other in owners.get(comparable(wording), ()):
                if (memory == topic) == replaced and otherwise(fact, other):
                    told = Contradiction(
                        topic=topic,
                        kind="same",
                        wording=wording,
                        answer=fact.answer,
                        other_answer=other.answer,
                        memory=memory,
                        other_wording=wording,
                        other_id=other.id,
                        replaced=replaced,
                    )
                    listed.setdefault((id(fact), id(other)), told)
    return [*listed.values()]


def with_bank(
    bank: MemoryBank,
    new: Mapping[str, Sequence[Fact]],
    after: Mapping[str, Sequence[Fact]],
    encoder: Encoder,
    *,
    before: Mapping[str, Sequence[Fact]] | None = None,
    again: Collection[str] = (),
) -> tuple[list[Contradiction], list[Contradiction]]:
    """(new facts that share a wording with one that another memory answers otherwise, all other contradictions).

    The others are those with the facts whose places the new ones take, and with facts that may ask the same (`near`), in the
    bank or among the new ones.

    Args:
        new: name of a memory → its new facts.
        after: name of a memory → all facts that it is to hold.
        before: name of a memory → the facts whose places the new ones take; by default those that the bank's holds.
        again: names of memories of whose new facts it is also told what may ask the same where the bank holds them already.
    """
    left = {(memory.name, fact): None for memory in bank if memory.name not in after for fact in memory.facts}
    left |= {(topic, fact): None for topic, facts in after.items() for fact in facts}
    before = {topic: bank[topic].facts for topic in new if topic in bank.memories} | dict(before or {})
    old = by_wording((topic, fact) for topic in new for fact in before.get(topic, ()))
    owners, elsewhere, listed = by_wording(left), list[Contradiction](), list[Contradiction]()
    for topic, facts in new.items():
        elsewhere += same_wordings(topic, facts, owners, replaced=False)
        listed += same_wordings(topic, facts, old, replaced=True)
    held = {(own.memory, own.fact): own for memory in bank for own in held_by(memory)}
    asked = {topic: [f for f in own if topic in again or (topic, f) not in held] for topic, own in new.items()}
    fresh = [own for topic, facts in asked.items() for own in embedded(topic, facts, encoder, held)]
    given = {(own.memory, own.fact) for own in fresh}
    return elsewhere, listed + near(fresh, [own for pair, own in held.items() if pair in left and pair not in given])
