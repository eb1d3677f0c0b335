"""Contents of files → topics with names that memories can have."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Literal

import regex

from lorary.intake.reading import File
from lorary.intake.source import Contents, Part, Source

By = Literal["file", "heading", "auto"]
_LONGEST = 64


@dataclass
class _Topic:
    names: tuple[str, ...]
    """What it may be called: the first is short, the later ones tell it from topics of the same name."""
    parts: list[Part] = field(default_factory=list)


def slug(text: str) -> str:
    """A text as the name of a memory; empty where none of its letters may stand in one."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    name = regex.sub(r"[^A-Za-z0-9._]+", "-", ascii_text)[:_LONGEST].strip("-._")
    return f"{name}-file" if name.lower() == "readme" else name  # a folder of facts has its own readme


def topics_of(
    read: Sequence[tuple[File, Contents]], by: By = "file", name: str | None = None
) -> tuple[list[Source], list[str]]:
    """(the topics, notes on names that were changed) of files that were read.

    A topic that a file names itself, as SQuAD does, stays. Files of one folder that differ in their ending alone are one
    topic.

    Args:
        by: a topic for each file or each heading ("auto" joins all, for `clustered` to part).
        name: of the only topic, in place of all others.
    """
    topics: dict[tuple[str, ...], _Topic] = {}
    for file, contents in read:
        stem, folder = file.path.stem, str(file.path.parent.resolve())
        where = "-".join((*PurePosixPath(file.name).parts[:-1],)) or file.path.parent.resolve().name
        for part in contents.parts:
            key: tuple[str, ...]
            names: tuple[str, ...]
            if name is not None or by == "auto":
                key, names = ("all",), (name or "all",)
            elif part.own_topic:
                key, names = ("titled", part.heading.casefold()), (part.heading,)
            elif by == "heading" and part.heading:
                key = ("heading", folder, stem.lower(), part.heading)
                names = (part.heading, f"{stem}-{part.heading}", f"{where}-{stem}-{part.heading}")
            else:
                key, names = ("file", folder, stem.lower()), (stem, f"{where}-{stem}")
            topics.setdefault(key, _Topic(names)).parts.append(part)
    _join_named(topics)
    sources, notes = [], []
    for topic, chosen in _named(list(topics.values())):
        if slug(topic.names[0]) != chosen and name is None and by != "auto":
            notes.append(f"{topic.names[0]!r} is called {chosen}, since its name is taken or cannot name a memory")
        sources.append(_source(chosen, topic.parts))
    return [source for source in sources if source.facts or source.passages], notes


def _join_named(topics: dict[tuple[str, ...], _Topic]) -> None:
    """Joins a topic that a file names itself to that of the file of this name, as `lorary build` does with facts."""
    for key in [key for key in topics if key[0] == "titled"]:
        files = [other for other in topics if other[0] == "file" and other[2] == key[1]]
        if len(files) == 1:
            topics[files[0]].parts += topics.pop(key).parts


def _named(topics: Sequence[_Topic]) -> Iterable[tuple[_Topic, str]]:
    """Each topic with a name that no other has, not even in another letter case."""
    taken: set[str] = set()
    firsts = [slug(topic.names[0]).lower() for topic in topics]
    for number, topic in enumerate(topics, 1):
        candidates = [slug(name) for name in topic.names] if firsts[number - 1] else [""]
        if firsts.count(firsts[number - 1]) > 1:
            candidates = candidates[1:] + candidates[:1]
        name = next((c for c in candidates if c and c.lower() not in taken), "")
        while not name or name.lower() in taken:
            name = f"{(candidates[0] or 'topic')[:58]}-{number}"
            number += 1
        taken.add(name.lower())
        yield topic, name


def _source(topic: str, parts: Sequence[Part]) -> Source:
    return Source(
        topic,
        tuple(passage for part in parts for passage in part.passages),
        tuple(replace(fact, topic=topic) for part in parts for fact in part.facts),
        "\n\n".join(part.text for part in parts if part.text),
    )
