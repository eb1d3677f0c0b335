"""What is asked: held-out wordings, unrelated questions and unrelated text; trained wordings are refused."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from lorary.facts import FactError, read_facts
from lorary.memory import MemoryBank

NEAR_COPY = 0.9
"""Jaccard similarity of word sets from which a question counts as trained on."""


@dataclass(frozen=True)
class Question:
    """One held-out wording, the memory that holds its fact, and the answer."""

    text: str
    answer: str
    memory: str
    fact: str


def words(text: str) -> frozenset[str]:
    """The lower-cased words of `text`."""
    return frozenset(re.findall(r"\w+", text.lower()))


def similarity(a: frozenset[str], b: frozenset[str]) -> float:
    """Jaccard similarity of two sets of words, 0 to 1."""
    return len(a & b) / max(len(a | b), 1)


def held_out(bank: MemoryBank, file: str | Path | None = None) -> tuple[list[Question], float]:
    """(the questions to score, the greatest similarity of one of them to a trained or validation wording).

    Args:
        file: JSONL of facts whose `held_out` wordings (or whose `question`, where there are none) are asked
            instead of those in the bank.

    Raises:
        FactError: nothing to ask, an unknown topic, or a wording that was trained on, or nearly so.
    """
    facts = list(read_facts(file)) if file is not None else [fact for memory in bank for fact in memory.facts]
    questions = []
    for fact in facts:
        if fact.topic not in bank.memories:
            raise FactError(f"topic {fact.topic!r} has no memory; the bank holds {bank.names}")
        asked = fact.held_out or ((fact.question, *fact.questions) if file is not None else ())
        questions += [Question(text, fact.answer, fact.topic, f"{fact.topic}: {fact.question}") for text in asked]
    if not questions:
        raise FactError("there are no held-out wordings to ask; add 'held_out' to the facts, or give --questions")
    nearest = 0.0
    seen = {name: [words(w) for f in bank[name].facts for w in (f.question, *f.questions)] for name in bank.names}
    for question in questions:
        own = words(question.text)
        near = max((similarity(own, other) for other in seen[question.memory]), default=0.0)
        if near >= NEAR_COPY:
            raise FactError(
                f"{question.text!r} was trained on, or nearly so (similarity {near:.2f} to a trained wording; below "
                f"{NEAR_COPY} is allowed), so it cannot be scored as held out; reword it"
            )
        nearest = max(nearest, near)
    return questions, nearest


def unrelated_questions(file: str | Path | None = None) -> list[str]:
    """Questions that no memory answers; none of them taught the gate."""
    path = Path(file) if file is not None else Path(__file__).parent / "unrelated.jsonl"
    return [json.loads(line)["question"] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def unrelated_text() -> list[str]:
    """Paragraphs of general prose, to measure damage on."""
    text = (Path(__file__).parent / "unrelated.txt").read_text(encoding="utf-8")
    return [paragraph.strip() for paragraph in text.split("\n\n") if paragraph.strip()]
