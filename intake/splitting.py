"""Topics that are too large for one memory → topics that fit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from math import ceil

from lorary.bank.facts import Fact
from lorary.intake.source import Source
from lorary.tables import counted

FACTS_A_TOPIC = 200
"""A memory of rank 8, the default, recalls 0.955 of so many (docs/results/capacity.md)."""
_LONGEST_STEM = 58


def split(sources: Sequence[Source], most: int) -> tuple[list[Source], list[str]]:
    """(topics of at most `most` facts, notes on those that were split or should be).

    A topic of facts alone is cut into parts of nearly equal size, and what comes from one row stays together. A topic with
    a document stays whole, because its passages belong to all of its facts.
    """
    taken = {source.topic.lower() for source in sources}
    parted: list[Source] = []
    notes: list[str] = []
    for source in sources:
        count = len(source.facts)
        if count <= most:
            parted.append(source)
        elif source.passages:
            parted.append(source)
            notes.append(
                f"{source.topic} has {count:,} facts, and a memory holds {most} well; `--topics heading` may help"
            )
        else:
            parts = _parts(source.facts, ceil(count / most))
            names = _names(source.topic, len(parts), taken)
            parted += [
                Source(name, facts=tuple(replace(fact, topic=name) for fact in facts))
                for name, facts in zip(names, parts, strict=True)
            ]
            told = f"{counted(len(parts), 'topic')}, {names[0]} to {names[-1]}"
            notes.append(f"{source.topic} has {count:,} facts, and a memory holds {most} well: it became {told}")
    return parted, notes


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
