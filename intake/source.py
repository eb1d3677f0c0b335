"""What every reader returns and every generator works on: a topic as people have it, and what gave nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from lorary.bank.documents import Passage
from lorary.bank.facts import NAME, NAME_RULE, Fact
from lorary.errors import LoraryError


class IntakeError(LoraryError):
    """A source that cannot be read, or an option that does not fit it: says which, and what to give."""


class Unreadable(IntakeError):
    """A file that gives nothing, with the reason; the other files are read all the same."""


@dataclass(frozen=True)
class Source:
    """One topic as people have it.

    Args:
        topic: the name of the memory to be.
        passages: its text, in order. The source of a passage is the file's name, and the part of it if there is one:
            "manual.pdf", "manual.pdf, page 3", "manual.md, Oil and filters".
        facts: what the text states in a form that needs no reading: rows, questions with answers, "key: value" lines.
            All have this topic; their `source` is as that of passages.
        document: the text of the passages as Markdown, which is written beside the facts.
    """

    topic: str
    passages: tuple[Passage, ...] = ()
    facts: tuple[Fact, ...] = ()
    document: str = ""

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.topic):
            raise IntakeError(f"topic {self.topic!r} cannot name a memory; a name is {NAME_RULE}")


@dataclass(frozen=True)
class LeftOut:
    """Something that gave no fact and no passage.

    Args:
        where: the file, and the place in it ("prices.csv, row 12", "manual.pdf, page 3").
        what: what stood there, cut short.
        why: the reason; equal for things of one kind, so that they can be counted ("the answer is empty").
    """

    where: str
    what: str
    why: str


@dataclass(frozen=True)
class Part:
    """A part of a file that may become a topic of its own.

    Args:
        heading: what the part is called: a heading, a sheet, an article's title; empty for what has no name.
        text: the part as Markdown, as it is kept beside the facts; empty where the facts tell everything.
        facts: whose topic is not decided yet.
        own_topic: the file itself says that `heading` is a topic, as SQuAD does with its titles.
    """

    heading: str = ""
    text: str = ""
    passages: tuple[Passage, ...] = ()
    facts: tuple[Fact, ...] = ()
    own_topic: bool = False


@dataclass(frozen=True)
class Contents:
    """What a reader took from a file; `notes` tell what it decided that people may want to change, a sentence each."""

    parts: tuple[Part, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()


UNDECIDED = "undecided"
"""The topic of facts in a part."""
_SHOWN = 80


def left_out(where: str, what: object, why: str) -> LeftOut:
    """A LeftOut, of which only the beginning is shown."""
    text = " ".join(str(what).split())
    return LeftOut(where, text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…", why)


@runtime_checkable
class Generator(Protocol):
    """What proposes facts that a passage states. It may propose none. It never invents a topic or a source."""

    def propose(
        self, passage: Passage, covered: Sequence[Fact], topic: str, *, before: str = "", missed: Sequence[str] = ()
    ) -> Iterable[Fact | LeftOut]:
        """Facts of the passage that `covered` does not tell yet, and what was left out.

        Args:
            before: what stands before the passage in its document, for what its pronouns mean.
            missed: in a second round, the sentences of the passage that no fact tells anything of.

        Each has `topic` as its topic, the passage's source as its `source`, a short answer that stands in the passage,
        a statement that holds the answer, and one question wording at least.
        """
        ...
