"""What `forget` took from memories, as the bank still tells it: by earlier versions, and by the names of those that left."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from lorary.bank.documents import Passage
from lorary.bank.facts import Fact
from lorary.bank.manifest import read_manifest
from lorary.bank.storing import open_version

FORGET = "forget"
"""The note of versions that forgetting wrote."""


@dataclass(frozen=True)
class Taken:
    """The facts and passages that a memory lost by `forget`, without those that came back."""

    facts: tuple[Fact, ...] = ()
    passages: tuple[Passage, ...] = ()


def forgotten_before(folder: str | Path, name: str) -> Taken:
    """What `forget` took from a memory and an earlier version still holds; nothing once garbage was collected."""
    folder = Path(folder)
    manifest, facts, passages = read_manifest(folder), dict[str, Fact](), dict[Passage, None]()
    versions = manifest.versions[name]
    for before, after in pairwise(versions):
        if after.note == FORGET and before.folder is not None and after.folder is not None:
            old, new = (open_version(folder, manifest, name, version) for version in (before, after))
            left = {fact.id for fact in new.facts}
            facts |= {fact.id: fact for fact in old.facts if fact.id not in left}
            passages |= dict.fromkeys(passage for passage in old.documents if passage not in new.documents)
    if not facts:
        return Taken()
    now = open_version(folder, manifest, name, versions[-1])
    held = {fact.id for fact in now.facts}
    return Taken(
        tuple(fact for own, fact in facts.items() if own not in held),
        tuple(passage for passage in passages if passage not in now.documents),
    )


def has_left(folder: str | Path, name: str) -> bool:
    """Whether a memory left the bank in a folder, and has not come back, since garbage was last collected."""
    return name in read_manifest(Path(folder)).left
