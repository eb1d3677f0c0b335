"""Files → topics: which facts and which documents each memory is to hold."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lorary.bank.documents import ENDINGS, DocumentError, Passage, read_documents
from lorary.bank.facts import NAME, NAME_RULE, Fact, FactError, group_by_topic, namesake, read_facts
from lorary.errors import LoraryWarning
from lorary.memories.rewording import distinct
from lorary.tables import counted


def read_topics(
    files: Sequence[str | Path], as_one: str | None = None, *, beside: Collection[str] = ()
) -> dict[str, tuple[Fact, ...]]:
    """The facts of JSONL files (or folders of them) by topic, or all under the topic `as_one`; documents are left out.

    Args:
        beside: topics of documents, beside which there may be no facts.

    Raises:
        FactError: before anything is trained.
    """
    if as_one and not NAME.fullmatch(as_one):
        raise FactError(f"{as_one!r} cannot name a memory; a name is {NAME_RULE}")
    facts = (fact for path in _files_in(files) if path.suffix.lower() not in ENDINGS for fact in read_facts(path))
    topics = group_by_topic(replace(fact, topic=as_one) if as_one else fact for fact in facts)
    for topic in beside:
        if (other := namesake(topic, (*topics, *beside))) is not None:
            raise FactError(
                f"topics {topic!r} and {other!r} differ by letter case alone; give one of them another name"
            )
    if not topics and not beside:
        raise FactError(
            f"no facts in {[str(f) for f in files]}; give JSONL files, or folders of them, with a fact a line"
        )
    return topics


def read_documents_of_topics(files: Sequence[str | Path], as_one: str | None = None) -> dict[str, tuple[Passage, ...]]:
    """The documents among the files (or in the folders) by the topic that their name tells, or all under `as_one`.

    Raises:
        DocumentError: a file that cannot be used, or one whose name cannot name a memory.
    """
    topics: dict[str, list[Path]] = {}
    for path in _documents_in(files):
        if not NAME.fullmatch(as_one or path.stem):
            raise DocumentError(f"{path}: {path.stem!r} cannot name a memory; a name is {NAME_RULE}; rename the file")
        topics.setdefault(as_one or path.stem, []).append(path)
    return {topic: read_documents(paths) for topic, paths in topics.items()}


def _files_in(files: Sequence[str | Path]) -> list[Path]:
    """The files that are given, and those of facts and documents in the folders that are given.

    A readme in a folder tells of the folder, and is no document of a topic.
    """
    paths: list[Path] = []
    for place in map(Path, files):
        if not place.is_dir():
            paths.append(place)
            continue
        within = [path for path in sorted(place.iterdir()) if path.stem.lower() != "readme"]
        paths += [path for path in within if path.suffix.lower() in (".jsonl", *ENDINGS)]
    return paths


def _documents_in(files: Sequence[str | Path]) -> list[Path]:
    return [path for path in _files_in(files) if path.suffix.lower() in ENDINGS]


class WordingWarning(LoraryWarning):
    """Facts that have one wording: what is done about it, what that costs, and what to do."""


def warn_of_few_wordings(topics: Mapping[str, Sequence[Fact]]) -> None:
    """Warns of facts with one wording."""
    bare = {topic: sum(len(distinct((f.question, *f.questions))) < 2 for f in facts) for topic, facts in topics.items()}
    topic, count = max(bare.items(), key=lambda pair: pair[1], default=("", 0))
    if count:
        every, few = sum(map(len, topics.values())), sum(bare.values())
        warnings.warn(
            f"{few} of {counted(every, 'fact')} {'has' if few == 1 else 'have'} one wording, {count} of them in {topic!r}: "
            "texts are made of it by rule, but nothing measures what they teach, and the router compares it with nothing of "
            "its own fact; give each fact 'questions' with more wordings: two help, from five on one is kept to measure by",
            WordingWarning,
            stacklevel=3,
        )
