"""The versions of a memory: what each holds, when it was written, and what it changed."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from lorary.bank.facts import Fact, comparable
from lorary.bank.memory import Memory

ADDED = "add"
"""The note of a first version, unless another is given."""
CHANGED = "change"


@dataclass(frozen=True)
class Difference:
    """How many facts a version added, updated (another answer, wording, statement or source) and removed."""

    added: int = 0
    updated: int = 0
    removed: int = 0

    def __str__(self) -> str:
        counts = [f"{count} {kind}" for kind, count in asdict(self).items() if count]
        return ", ".join(counts) or "no fact"


def difference(before: Sequence[Fact], after: Sequence[Fact]) -> Difference:
    """What was changed from some facts of a memory to others.

    Two facts are one where they share a wording (`comparable`); a fact that lost all its wordings is another one.
    """
    old = set(before)
    known = {comparable(wording) for fact in before for wording in fact.wordings}
    left = {comparable(wording) for fact in after for wording in fact.wordings}
    new = [fact for fact in after if fact not in old]
    updated = sum(any(comparable(wording) in known for wording in fact.wordings) for fact in new)
    removed = sum(all(comparable(wording) not in left for wording in fact.wordings) for fact in before)
    return Difference(len(new) - updated, updated, removed)


@dataclass(frozen=True, kw_only=True)
class Version:
    """One version of a memory. What an older bank does not tell is None.

    Args:
        number: from 1, in the order of writing.
        folder: where its files lie in the bank; None once `lorary gc` dropped them. A version that was rolled back to
            lies in one folder with the version that it equals.
        date: when it was written, UTC, ISO 8601.
        note: what wrote it, such as `build`, `update` or `rollback to version 1`.
        difference: what it changed of the version before.
        facts: how many it holds.
        recall: the share of facts that its certificate says are recalled under validation wordings.
        recipe: what it was written with, as its card has it.
    """

    number: int
    folder: str | None
    date: str | None = None
    note: str | None = None
    difference: Difference | None = None
    facts: int | None = None
    recall: float | None = None
    recipe: Mapping[str, Any] | str | None = None

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}

    def described(self, memory: Memory) -> Version:
        """The same version with what its memory tells of it; what its card tells in another form is left out."""
        certificate, recipe = memory.card.get("certificate"), memory.card.get("recipe")
        recall = certificate.get("recall_validation_wordings") if isinstance(certificate, Mapping) else None
        return replace(
            self,
            facts=len(memory.facts),
            recall=recall if _is(float, recall) else None,
            recipe=recipe if _is((dict, str), recipe) else None,
        )


def first_version(memory: Memory, folder: str, note: str | None) -> Version:
    """The version that a memory begins with."""
    changed = Difference(added=len(memory.facts))
    return Version(number=1, folder=folder, date=now(), note=note or ADDED, difference=changed).described(memory)


def next_version(last: Version, facts: Sequence[Fact] | None, memory: Memory, folder: str, note: str | None) -> Version:
    """The version that a changed memory becomes.

    Args:
        last: the version before, which held `facts`, if these are known.
    """
    changed = None if facts is None else difference(facts, memory.facts)
    following = Version(number=last.number + 1, folder=folder, date=now(), note=note or CHANGED, difference=changed)
    return following.described(memory)


def now() -> str:
    """The time of writing, UTC, ISO 8601; that of SOURCE_DATE_EPOCH where it is set, as reproducible builds have it."""
    seconds = int(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_version(entry: Any, last: int) -> Version:
    """The version in decoded JSON, whose number is above `last`; its folder is yet to be checked.

    Raises:
        TypeError: saying what is wrong.
    """
    if not isinstance(entry, dict):
        raise TypeError(f"a version is {entry!r}"[:200])
    changed = entry.get("difference")
    if changed is not None:
        if not isinstance(changed, dict) or set(changed) != {"added", "updated", "removed"}:
            raise TypeError(f"'difference' is {changed!r}"[:200])
        changed = Difference(**{kind: _of(int, changed, kind) for kind in changed})
    version = Version(
        number=_of(int, entry, "number"),
        folder=_of(str, entry, "folder"),
        date=_of(str, entry, "date"),
        note=_of(str, entry, "note"),
        difference=changed,
        facts=_of(int, entry, "facts"),
        recall=_of(float, entry, "recall"),
        recipe=_of((dict, str), entry, "recipe"),
    )
    if version.number is None or version.number <= last:
        raise TypeError(f"version {version.number} follows version {last}")
    return version


def _of(kind: type | tuple[type, ...], entry: Mapping[str, Any], key: str) -> Any:
    """`entry[key]`, which must be of a kind, or missing."""
    value = entry.get(key)
    if value is not None and not _is(kind, value):
        raise TypeError(f"{key!r} is {value!r}"[:200])
    return value


def _is(kind: type | tuple[type, ...], value: Any) -> bool:
    """Whether a decoded JSON value is of a kind; a float may be an int, and numbers are 0 or more."""
    if kind in (int, float):
        number = isinstance(value, (int, kind)) and not isinstance(value, bool)
        return number and value >= 0
    return isinstance(value, kind)
