"""Topics that are too large for one memory → topics that fit; what a bank holds already stays where it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import count, groupby
from math import ceil

import regex

from lorary.bank.facts import Fact, comparable
from lorary.intake.source import Source
from lorary.tables import counted

FACTS_A_TOPIC = 200
"""A memory of rank 8, the default, recalls 0.955 of so many (docs/results/capacity.md)."""
_LONGEST_STEM = 58


Held = Mapping[str, Sequence[Fact]]
"""Name of a memory of a bank → its facts."""


def split(sources: Sequence[Source], most: int, held: Held | None = None) -> tuple[list[Source], list[str]]:
    """(topics of at most `most` facts, notes on those that were split or should be).

    A topic of facts alone is cut into parts of nearly equal size, and what comes from one row stays together. A topic with
    a document stays whole, because its passages belong to all of its facts.

    Args:
        held: of a bank that the facts go to. A row stays with the memory of its topic that asks for it already, whatever
            rows came before it; new rows go to the one with most room, or to a new one.
    """
    taken = {source.topic.lower() for source in sources}
    parted: list[Source] = []
    notes: list[str] = []
    for source in sources:
        many = len(source.facts)
        kept = _Kept(source, held or {}, most)
        if kept.sizes and not source.passages:
            placed = kept.placed(taken)
            parted += [_part(name, facts) for name, facts in placed.items()]
            if new := [name for name in placed if name not in (held or {})]:
                notes.append(f"the memories of {source.topic} are full, so new rows went to {', '.join(new)}")
        elif many <= most:
            parted.append(source)
        elif source.passages:
            parted.append(source)
            notes.append(
                f"{source.topic} has {many:,} facts, and a memory holds {most} well; `--topics heading` may help"
            )
        else:
            parts = _parts(source.facts, ceil(many / most))
            names = _names(source.topic, len(parts), taken)
            parted += [_part(name, facts) for name, facts in zip(names, parts, strict=True)]
            told = f"{counted(len(parts), 'topic')}, {names[0]} to {names[-1]}"
            notes.append(f"{source.topic} has {many:,} facts, and a memory holds {most} well: it became {told}")
    return parted, notes


def _part(name: str, facts: Sequence[Fact]) -> Source:
    return Source(name, facts=tuple(replace(fact, topic=name) for fact in facts))


class _Kept:
    """Where the rows of a topic go that a bank asks for already, in a memory of the topic or of a part of it.

    `sizes` has the number of facts of each of these memories.
    """

    def __init__(self, source: Source, held: Held, most: int) -> None:
        self._topic, self._facts, self._held, self._most = source.topic, source.facts, held, most
        # Three digits at most: sales-2024 is a topic, no part of sales.
        part = regex.escape(source.topic[:_LONGEST_STEM]) + r"(-part)?-\d{1,3}"
        own = [name for name in held if name == source.topic or regex.fullmatch(part, name)]
        self._owners = {comparable(w): name for name in own for fact in held[name] for w in fact.wordings}
        asking = dict.fromkeys(name for fact in source.facts for name in self._asked(fact))
        self.sizes = {name: len(held[name]) for name in asking}

    def placed(self, taken: Iterable[str]) -> dict[str, list[Fact]]:
        """Name of a memory → the facts that go there, those of one row to one.

        Args:
            taken: names that no new memory may have.
        """
        placed = dict[str, list[Fact]]()
        rows = [list(together) for _, together in groupby(self._facts, key=lambda fact: fact.source)]
        owners = [self._owner(row) for row in rows]
        for row, owner in zip(rows, owners, strict=True):
            if owner is not None:
                placed.setdefault(owner, []).extend(row)
                self.sizes[owner] += sum(not self._asked(fact) for fact in row)
        filled = min(self.sizes, key=lambda name: self.sizes[name])
        for row in (row for row, owner in zip(rows, owners, strict=True) if owner is None):
            if self.sizes[filled] + len(row) > self._most:
                filled = min(self.sizes, key=lambda name: self.sizes[name])
            if self.sizes[filled] + len(row) > self._most:
                filled = self._new_name({*taken, *map(str.lower, (*self._held, *self.sizes))})
            placed.setdefault(filled, []).extend(row)
            self.sizes[filled] = self.sizes.get(filled, 0) + len(row)
        return placed

    def _asked(self, fact: Fact) -> list[str]:
        """The memories that ask a fact's wordings."""
        return [name for w in fact.wordings if (name := self._owners.get(comparable(w))) is not None]

    def _owner(self, row: Sequence[Fact]) -> str | None:
        """The memory that asks most of a row's wordings; None where none asks any."""
        counts = Counter(name for fact in row for name in self._asked(fact))
        return counts.most_common(1)[0][0] if counts else None

    def _new_name(self, taken: Collection[str]) -> str:
        names = (f"{self._topic[:_LONGEST_STEM]}-{number}" for number in count(1))
        return next(name for name in names if name.lower() not in taken)


def _parts(facts: Sequence[Fact], count: int) -> list[list[Fact]]:
    """The facts in so many runs of nearly equal size, or fewer; those of one row or place in one run."""
    parts: list[list[Fact]] = [[]]
    left = len(facts)
    for _, together in groupby(facts, key=lambda fact: fact.source):
        group = list(together)
        remaining = count - len(parts) + 1
        if parts[-1] and remaining > 1 and len(parts[-1]) + len(group) / 2 > (left + len(parts[-1])) / remaining:
            parts.append([])
        parts[-1] += group
        left -= len(group)
    return parts


def _names(topic: str, count: int, taken: Iterable[str]) -> list[str]:
    """So many names that begin with the topic's, none of which is taken."""
    stem = topic[:_LONGEST_STEM]
    names = [f"{stem}-{number}" for number in range(1, count + 1)]
    while set(map(str.lower, names)) & set(taken):
        stem = f"{stem[: _LONGEST_STEM - 5]}-part"
        names = [f"{stem}-{number}" for number in range(1, count + 1)]
    return names
