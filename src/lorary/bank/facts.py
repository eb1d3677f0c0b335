"""Facts: what a memory holds, one JSON object a line."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import regex

from lorary.errors import LoraryError, one_line

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NAME_RULE = "1 to 64 of A-Z a-z 0-9 . _ - , the first a letter or a digit"
NO_FACT = -1
"""In place of the number of a fact, of an embedding that belongs to none: an example's."""
_LINE = "each line must hold one whole JSON object, from { to }"


def namesake(name: str, names: Iterable[str]) -> str | None:
    """The other name that differs from this one by letter case alone: a disk that knows no case has one folder for both."""
    return next((other for other in names if other != name and other.lower() == name.lower()), None)


def comparable(text: str) -> str:
    """What two texts are compared by: the same for texts that differ in case, white space or a Unicode form (NFKC) alone."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.split())


def with_gap(text: str, words: str) -> str | None:
    """The text with a gap where the words first stand in it as whole words, in their own case if they do; else None.

    Word boundaries are those of Unicode (UAX 29), so no number, name or word is cut in any script.
    """
    whole_words = rf"\b{regex.escape(words)}\b"
    for case in (0, regex.IGNORECASE | regex.FULLCASE):
        if found := regex.search(whole_words, text, regex.WORD | case):
            return text[: found.start()] + "___" + text[found.end() :]
    return None


class FactError(LoraryError):
    """A line of facts that cannot be used: says where, what was given and what is allowed."""


@dataclass(frozen=True)
class Fact:
    """One thing to recall.

    `question` and `questions` are the wordings that may be trained on (the memory writer keeps some of them for
    validation); `held_out` wordings are for the final score alone.
    """

    topic: str
    question: str
    answer: str
    questions: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    statement: str | None = None
    source: str | None = None
    validation: tuple[str, ...] = field(default=())

    @property
    def id(self) -> str:
        """Eight hex digits that name it among facts: of a hash of its topic and its first wording (`comparable`)."""
        return hashlib.sha256(f"{self.topic}\n{comparable(self.question)}".encode()).hexdigest()[:8]

    @property
    def wordings(self) -> tuple[str, ...]:
        """All that ask for it but those held out; some may stand there twice."""
        return (self.question, *self.questions, *self.validation)

    @property
    def trained(self) -> tuple[str, ...]:
        """The wordings that training may see."""
        wordings = (self.question, *self.questions)
        kept = {comparable(wording) for wording in self.validation}
        return tuple(wording for wording in wordings if comparable(wording) not in kept) if kept else wordings

    @property
    def cloze(self) -> tuple[str, ...]:
        """The statement with a gap where the answer stood, which training may see too; none where it does not tell it."""
        statement = self.statement or ""
        if comparable(statement).strip(" .") == comparable(self.answer).strip(" ."):
            return ()
        cloze = with_gap(statement, self.answer)
        return (cloze,) if cloze is not None else ()

    def to_json(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value not in (None, ())}


_TEXT = ("topic", "question", "answer", "statement", "source")
_LISTS = ("questions", "held_out", "validation")


def parse_fact(given: Any, *, topic: str, where: str) -> Fact:
    """The fact in one decoded JSON line; `where` names the line in errors.

    Raises:
        FactError: a missing, unknown or ill-typed field, an unusable topic, or a wording of two kinds at once.
    """
    if not isinstance(given, dict):
        raise FactError(f"{where}: a line that is no object but a {type(given).__name__}; {_LINE}")
    if unknown := sorted(set(given) - {*_TEXT, *_LISTS}):
        raise FactError(f"{where}: unknown field {unknown[0]!r}; the fields are {[*_TEXT, *_LISTS]}")
    values: dict[str, Any] = {"topic": topic}
    for key in _TEXT:
        if key in given:
            if not isinstance(given[key], str) or not given[key].strip():
                raise FactError(f"{where}: {key!r} must be a non-empty string, this one is {given[key]!r}")
            values[key] = given[key].strip()
    for key in ("question", "answer"):
        if key not in values:
            raise FactError(f"{where}: {key!r} is missing; a fact needs 'question' and 'answer'")
    for key in _LISTS:
        wordings = given.get(key, [])
        if not isinstance(wordings, list) or not all(isinstance(w, str) and w.strip() for w in wordings):
            raise FactError(f"{where}: {key!r} must be a list of non-empty strings, this one is {wordings!r}")
        values[key] = tuple(w.strip() for w in wordings)
    if not NAME.fullmatch(values["topic"]):
        raise FactError(f"{where}: topic {values['topic']!r} cannot name a memory; a name is {NAME_RULE}")
    fact = Fact(**values)
    trained = {comparable(wording) for wording in fact.wordings}
    if both := [wording for wording in fact.held_out if comparable(wording) in trained]:
        raise FactError(f"{where}: {both[0]!r} is both a trained and a held-out wording; keep it in one")
    if not fact.trained:
        raise FactError(f"{where}: all its wordings are kept for validation; leave one to train on")
    return fact


def read_facts(path: str | Path) -> Iterator[Fact]:
    """The facts of a JSONL file, in order; blank lines are skipped. Raises FactError with file and line."""
    path = Path(path)
    for where, given in read_lines(path):
        yield parse_fact(given, topic=path.stem, where=where)


def read_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, object) of each line of a JSONL file. Raises FactError for what is not JSON objects."""
    try:
        # Not splitlines: a JSON string may hold U+2028 and its like as they are.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise FactError(f"{path}: cannot be read ({error.strerror}); give a JSONL file") from error
    except UnicodeDecodeError as error:
        raise FactError(f"{path}: is not UTF-8 text ({error.reason}); give a JSONL file") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            given = json.loads(line)
        except json.JSONDecodeError as error:
            raise FactError(f"{path}:{number}: not JSON ({error.msg} at column {error.colno}); {_LINE}") from error
        except (ValueError, RecursionError) as error:  # a number of thousands of digits, or brackets that never end
            raise FactError(f"{path}:{number}: not JSON ({one_line(error)}); {_LINE}") from error
        if not isinstance(given, dict):
            raise FactError(f"{path}:{number}: a line that is no object but a {type(given).__name__}; {_LINE}")
        yield f"{path}:{number}", given


def group_by_topic(facts: Iterable[Fact]) -> dict[str, tuple[Fact, ...]]:
    """Facts by topic, topics in order of first appearance; a fact that stands twice counts once.

    Raises:
        FactError: a wording that is trained in one place and held out in another, or has two answers; or two topics whose
            names differ by letter case alone.
    """
    topics: dict[str, list[Fact]] = {}
    owners: dict[str, Fact] = {}
    for fact in dict.fromkeys(facts):
        topics.setdefault(fact.topic, []).append(fact)
        for wording in fact.wordings:
            key = comparable(wording)
            if key in owners and owners[key] is not fact and owners[key].answer != fact.answer:
                raise FactError(f"{wording!r} has two answers, {owners[key].answer!r} and {fact.answer!r}; keep one")
            owners[key] = fact
    for fact in (fact for group in topics.values() for fact in group):
        for wording in fact.held_out:
            if comparable(wording) in owners:
                raise FactError(f"held-out wording {wording!r} of topic {fact.topic!r} is trained on elsewhere")
    for topic in topics:
        if (other := namesake(topic, topics)) is not None:
            raise FactError(
                f"topics {topic!r} and {other!r} differ by letter case alone; give one of them another name"
            )
    return {topic: tuple(group) for topic, group in topics.items()}
