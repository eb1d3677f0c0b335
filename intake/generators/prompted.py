"""A generator that asks a language model, and what its answer means: read leniently, never run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import regex

from lorary.bank.documents import Passage
from lorary.bank.facts import Fact, comparable, read_lines, with_gap
from lorary.intake.source import LeftOut

Turns = list[dict[str, str]]
"""A chat: role and content of each turn."""

_PAIRS_TASK = "Ask for each fact of the passage, with the answer as it stands there."
_TASK = (
    "Write down the facts that a passage states, each as one line of JSON with these fields: "
    '"question": a question that names what it asks about, "answer": the shortest answer, copied from the passage, '
    '"statement": one sentence that states the fact and holds the answer, "questions": three other wordings of the question. '
    "Do not use pronouns that need the passage. Invent nothing."
)
_EXAMPLE = "The Orrin mill was built in 1894 by Ruben Aske. It grinds rye for the bakers of Halverstad."
_EXAMPLE_FACTS = [line for _, line in read_lines(Path(__file__).parent / "example.jsonl")]
_LONGEST_BEFORE = 600
"""Letters of what stands before a passage that a model is shown."""


@dataclass(frozen=True)
class Prompted:
    """Proposes what a language model finds in a passage.

    Args:
        complete: a chat → the model's next turn.
        small: the model cannot keep to JSON: it is asked for a question and an answer at a time.
    """

    complete: Callable[[Turns], str]
    small: bool = False

    def turns(self, text: str, before: str = "") -> Turns:
        """The chat that asks for the facts of a passage: the task, an example, the passage."""
        task, example = (_PAIRS_TASK, _pair) if self.small else (_TASK, json.dumps)
        return [
            {"role": "user", "content": f"{task}\n\nPassage: {_EXAMPLE}"},
            {"role": "assistant", "content": "\n".join(map(example, _EXAMPLE_FACTS))},
            {"role": "user", "content": f"{'' if self.small else _stands_before(before)}Passage: {text}"},
        ]

    def propose(
        self, passage: Passage, covered: Sequence[Fact], topic: str, *, before: str = "", missed: Sequence[str] = ()
    ) -> Iterator[Fact | LeftOut]:
        """What the model says of the passage; in a second round it is asked for the missed sentences."""
        text = " ".join(missed) or passage.text
        said = self.complete(self.turns(text, before))
        found = False
        for fact in facts_in(said, passage, topic):
            found = True
            yield fact
        if not found:
            yield LeftOut(passage.source, said.strip()[:80], "the model's answer holds no fact that can be read")


def _pair(fact: dict[str, Any]) -> str:
    return f"Question: {fact['question']}\nAnswer: {fact['answer']}"


def _stands_before(before: str) -> str:
    return f"(The text before it, only to know who is meant: {before[-_LONGEST_BEFORE:]})\n\n" if before else ""


def facts_in(said: str, passage: Passage, topic: str) -> Iterator[Fact]:
    """The facts in what a model said: JSON objects anywhere in it, else lines "Question: ..." with "Answer: ..."."""
    found = list(_objects(said)) or list(_pairs(said))
    for given in found:
        question, answer = _text(given.get("question")), _text(given.get("answer"))
        if question is None or answer is None:
            continue
        others = given.get("questions")
        texts = [text for text in others if isinstance(text, str)] if isinstance(others, list) else []
        wordings = [wording for text in texts if (wording := _text(text)) is not None]
        statement = _text(given.get("statement"))
        if statement is None or with_gap(statement, answer) is None:
            statement = _sentence_with(answer, passage.text)
        unlike = [w for w in dict.fromkeys(wordings) if comparable(w) != comparable(question)]
        yield Fact(topic, question, answer, tuple(unlike), statement=statement, source=passage.source)


def _objects(said: str) -> Iterator[dict[str, Any]]:
    """Every JSON object in a text that has a question, those within lists and other objects included."""
    decoder, place = json.JSONDecoder(), said.find("{")
    while place >= 0:
        try:
            given, end = decoder.raw_decode(said, place)
        except (ValueError, RecursionError):
            following = said.find("{", place + 1)
            yield from _cut_short(said[place : following if following >= 0 else None])
            place = following
            continue
        if isinstance(given, dict) and "question" in given:
            yield given
            place = said.find("{", end)
        else:
            place = said.find("{", place + 1)


_FIELD = regex.compile(r'"(question|answer|statement)"\s*:\s*("(?:[^"\\]|\\.)*+")')


def _cut_short(text: str) -> Iterator[dict[str, Any]]:
    """An object that the model did not end, if its question and its answer are whole."""
    given: dict[str, Any] = {}
    for name, value in _FIELD.findall(text):
        with suppress(ValueError):
            given.setdefault(name, json.loads(value))
    if {"question", "answer"} <= set(given):
        yield given


_PAIR = regex.compile(r"^\W*q(?:uestion)?\W*:\s*(.+?)\s*\n+\W*a(?:nswer)?\W*:\s*(.+?)\s*$", regex.I | regex.M)


def _pairs(said: str) -> Iterator[dict[str, Any]]:
    for match in _PAIR.finditer(said):
        yield {"question": match[1].strip('*" '), "answer": match[2].strip('*" ').rstrip(".")}


def _text(given: Any) -> str | None:
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        return str(given)
    return " ".join(given.split()) or None if isinstance(given, str) else None


def _sentence_with(answer: str, passage: str) -> str | None:
    """The sentence of the passage in which the answer stands."""
    sentences = regex.split(r"(?<=[.!?…][\p{Pe}\p{Pf}\"']*)\s+", passage)
    return next((sentence for sentence in sentences if with_gap(sentence, answer) is not None), None)
