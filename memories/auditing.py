"""A forgetting is proved again later: what a bank knows, tells and holds of facts that it was to forget. Nothing is changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorary.bank.bank import MemoryBank
from lorary.bank.facts import Fact
from lorary.bank.joining import DOCUMENTS
from lorary.bank.manifest import Manifest, read_manifest
from lorary.base.loading import Base
from lorary.memories.choosing import ForgettingError, Told, still_told
from lorary.memories.forgotten import forgotten_before
from lorary.memories.proof import Proof
from lorary.memories.proving import prove
from lorary.memories.traces import texts_of, traces
from lorary.model.composite import base_of
from lorary.routing.encoder import load_encoder

_SEARCHED = 8
"""Bytes of the shortest text that files are searched for: a shorter one, "red" or "12", stands in other texts by chance."""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What is left of facts that were forgotten.

    Args:
        facts: that were asked for.
        proofs: of each memory that was asked.
        gone: topics of facts that no memory has any more.
        told: what in the bank still tells the facts.
        held: path of a file → the texts of the facts that it holds.
        earlier: the same of files that `lorary gc` drops: earlier versions, and what stopped writers left.
        from_earlier: the facts were read from earlier versions, which hold them by that.
    """

    facts: tuple[Fact, ...]
    proofs: Mapping[str, Proof]
    gone: tuple[str, ...]
    told: tuple[Told, ...]
    held: Mapping[str, list[str]]
    earlier: Mapping[str, list[str]]
    from_earlier: bool

    @property
    def holds(self) -> bool:
        """Whether nothing in the folder knows, tells or holds the facts, earlier versions apart if these gave them."""
        left = bool(self.told or self.held or (self.earlier and not self.from_earlier))
        return not left and all(proof.holds for proof in self.proofs.values())

    @property
    def unasked(self) -> tuple[Fact, ...]:
        """The facts whose memory is gone and that no other memory was asked for."""
        asked = {fact.id for proof in self.proofs.values() for fact in proof.facts}
        return tuple(fact for fact in self.facts if fact.topic in self.gone and fact.id not in asked)

    def to_json(self) -> dict[str, Any]:
        return {
            "facts": [{"id": fact.id, **fact.to_json()} for fact in self.facts],
            "proofs": {name: proof.to_json() for name, proof in self.proofs.items()},
            "gone": list(self.gone),
            "unasked": [fact.id for fact in self.unasked],
            "still_told": [vars(told) for told in self.told],
            "files": {path: list(texts) for path, texts in self.held.items()},
            "earlier_files": {path: list(texts) for path, texts in self.earlier.items()},
            "holds": self.holds,
        }


def audit(
    folder: str | Path,
    facts: Sequence[Fact] | None = None,
    *,
    everywhere: bool = False,
    base: Base | None = None,
    seed: int = 0,
    quiet: bool = False,
) -> Audit:
    """What a bank or composite still knows, tells and holds of facts. Nothing is changed.

    Args:
        facts: with the memories that held them as topics; None for those that earlier versions still hold and that
            `forget` took.
        everywhere: ask every memory for all facts, not only those that held them.
        base: the bank's, loaded already.
        seed: of the generated wordings and the choice among wrong answers.

    Raises:
        ForgettingError: no fact is given, and no earlier version tells one.
    """
    folder, bank = Path(folder), MemoryBank.load(folder)
    if facts is None:
        chosen = tuple(fact for name in bank.names for fact in forgotten_before(folder, name).facts)
    else:
        chosen = tuple(facts)
    if not chosen:
        raise ForgettingError(
            f"no earlier version in {folder} holds a fact that was forgotten; give the facts as JSONL, since a bank keeps "
            "none of them"
            if facts is None
            else "no fact is given to ask for; give a JSONL file with those that were forgotten"
        )
    encoder, topics = load_encoder(bank.encoder), dict.fromkeys(fact.topic for fact in chosen)
    proofs = dict[str, Proof]()
    for name in bank.names if everywhere else [topic for topic in topics if topic in bank.memories]:
        memory, others = bank[name], [other for other in bank if other.name != name]
        if memory.card.get("recipe") != DOCUMENTS:  # an adapter that adds nothing knows what the base knows
            asked = [fact for fact in chosen if everywhere or fact.topic == name]
            where = bank.shapes, bank.layers_path
            proofs[name] = prove(base_of(bank, base), memory, asked, others, *where, seed=seed, quiet=quiet)
    texts = [text for text in texts_of(chosen, bank) if len(text.encode()) >= _SEARCHED]
    found, current = traces(folder, texts, encoder), _current(read_manifest(folder))
    return Audit(
        facts=chosen,
        proofs=proofs,
        gone=tuple(topic for topic in topics if topic not in bank.memories),
        told=tuple(still_told(bank, chosen, encoder)),
        held={path: own for path, own in found.items() if not _is_earlier(path, current)},
        earlier={path: own for path, own in found.items() if _is_earlier(path, current)},
        from_earlier=facts is None,
    )


def _current(manifest: Manifest) -> set[str]:
    """The folders of the memories' current versions."""
    return {str(own[-1].folder) for own in manifest.versions.values()}


def _is_earlier(path: str, current: set[str]) -> bool:
    """Whether a file belongs to no current version: it lies among the memories, in a folder of its own."""
    place = Path(path).parent.as_posix()
    return Path(path).parts[0] == "memories" and place not in current
