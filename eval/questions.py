"""What is asked: held-out wordings, unrelated questions and unrelated text; trained wordings are refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorary.bank.facts import FactError, comparable, parse_fact, read_lines
from lorary.base.questions import parts_of
from lorary.words import words_of

if TYPE_CHECKING:
    from lorary.bank.bank import MemoryBank

NEAR_COPY = 0.9
"""Similarity from which a question counts as trained on."""

_LONGEST = 300
"""Words of a paragraph of text, at most; the rest is another one."""

_OWN: dict[str, Any] = {
    "kind": "held-out",
    "trained": False,
    "free": False,
    "accepted": [],
    "options": [],
    "parts": [],
}
"""What a line of questions may hold beyond a fact's fields, and what stands where it does not."""


@dataclass(frozen=True)
class Question:
    """One wording to ask.

    Args:
        answer: None where there is nothing to recall, so that the base should be left alone.
        memory: the memory that holds its fact, "" where none does; of several, the first.
        fact: wordings of one fact share it; they are resampled together.
        kind: what sort of wording it is; scores are told by kind too.
        trained: asked although training saw it; it is told by its kind and never scored as held out.
        accepted: further answers that are right.
        options: what it is to be chosen from, the answer among them; nothing where it is only asked freely.
        parts: the facts that the answer must tell, where they are several: (memory, answer) of each.
        free: whether it asks for sentences, so that whoever answers has room for them.
    """

    text: str
    answer: str | None
    memory: str
    fact: str
    kind: str = "held-out"
    trained: bool = False
    accepted: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    parts: tuple[tuple[str, str], ...] = ()
    free: bool = False

    @property
    def memories(self) -> tuple[str, ...]:
        """The memories that its answer takes, each once."""
        return tuple(dict.fromkeys(memory for memory, _ in self.parts or ((self.memory, ""),) if memory))

    @property
    def recalled(self) -> bool:
        """Whether a memory holds its answer."""
        return bool(self.memory) and self.answer is not None


def words(text: str) -> frozenset[str]:
    """The words of `text`, as texts are compared."""
    return frozenset(words_of(comparable(text)))


def similarity(a: frozenset[str], b: frozenset[str]) -> float:
    """Jaccard similarity of two sets of words, 0 to 1; also 1 where a single word more is all that sets them apart: in a
    short question that word weighs much, and it is a copy all the same."""
    common = len(a & b)
    apart = len(a) + len(b) - 2 * common
    return 1.0 if common and apart == 1 else common / max(common + apart, 1)


def held_out(bank: MemoryBank, file: str | Path | None = None) -> tuple[list[Question], float]:
    """(the questions to ask, the greatest similarity of a held-out one to a trained or validation wording or a cloze).

    Args:
        file: JSONL that is asked instead of the held-out wordings in the bank, as `read_questions` takes it.

    Raises:
        FactError: nothing to ask, an unknown topic, or a wording that was trained on, or nearly so, and does not say so.
    """
    if file is not None:
        questions = list(read_questions(Path(file)))
    else:
        facts = [fact for memory in bank for fact in memory.facts]
        questions = [Question(w, f.answer, f.topic, f"{f.topic}: {f.question}") for f in facts for w in f.held_out]
    if unknown := [name for q in questions for name in q.memories if name not in bank.memories]:
        raise FactError(f"topic {unknown[0]!r} has no memory; the bank holds {bank.names}")
    if not any(question.recalled for question in questions):
        raise FactError("there are no held-out wordings to ask; add 'held_out' to the facts, or give --questions")
    seen = {
        name: [words(w) for f in bank[name].facts for w in (f.question, *f.questions, *f.cloze)] for name in bank.names
    }
    everywhere = {wording for wordings in seen.values() for wording in wordings}
    nearest = 0.0
    for question in questions:
        if not question.trained:
            own = [wording for name in question.memories for wording in seen[name]]
            nearest = max(nearest, _nearest(question, own, everywhere))
    return questions, nearest


def _nearest(question: Question, own: Sequence[frozenset[str]], everywhere: Set[frozenset[str]]) -> float:
    """The similarity of the most similar trained wording of its own memories. Raises FactError where it is too great, or
    where a wording of any memory has the same words: another entity's may be worded alike, but not quite."""
    question_words = words(question.text)
    near = (
        1.0 if question_words in everywhere else max((similarity(question_words, other) for other in own), default=0.0)
    )
    if near >= NEAR_COPY:
        raise FactError(
            f"{question.text!r} was trained on, or nearly so (similarity {near:.2f} to a trained wording; below "
            f'{NEAR_COPY} is allowed), so it cannot be scored as held out; reword it, or mark it "trained": true'
        )
    return near


def read_questions(path: Path) -> Iterator[Question]:
    """The questions of a JSONL file: facts, whose `held_out` wordings are asked, or all wordings where there are none.

    Beyond a fact's fields a line may hold `kind` (a word), `accepted` (further right answers), `options` (to choose
    from), `"trained": true`, `"free": true` (it asks for sentences), `"topic": null` (no memory holds it) and `"answer":
    null` (nothing to recall). A question on several facts has `parts` instead of topic and answer: objects of `topic` and
    `answer`, in the order asked.

    Raises:
        FactError: with file and line.
    """
    for where, line in read_lines(path):
        own = {key: line.pop(key, default) for key, default in _OWN.items()}
        for key, default in _OWN.items():
            if not isinstance(own[key], type(default)):
                raise FactError(f"{where}: {key!r} must be a {type(default).__name__}, it is {own[key]!r}")
        for key in ("accepted", "options"):
            if not all(isinstance(text, str) and text.strip() for text in own[key]):
                raise FactError(f"{where}: {key!r} must be a list of non-empty strings, it is {own[key]!r}")
            own[key] = tuple(text.strip() for text in own[key])
        if parts := _parts(own["parts"], where):
            if {"topic", "answer"} & set(line):
                raise FactError(f"{where}: has 'parts', so each part tells a topic and an answer; the line tells none")
            line |= {"topic": parts[0][0], "answer": " and ".join(answer for _, answer in parts)}
        nulls = {key: "none" for key in ("topic", "answer") if key in line and line[key] is None}
        if list(nulls) == ["answer"]:
            raise FactError(f"{where}: 'answer' is null, so 'topic' must be null too: no memory can hold it")
        fact = parse_fact(line | nulls, topic=path.stem, where=where)
        answer = None if "answer" in nulls else fact.answer
        memory = "" if "topic" in nulls else fact.topic
        if own["options"] and answer not in own["options"]:
            raise FactError(f"{where}: 'options' must hold the answer {answer!r}, they are {[*own['options']]!r}")
        own["parts"] = parts
        for text in fact.held_out or (fact.question, *fact.questions):
            yield Question(text, answer, memory, f"{fact.topic}: {fact.question}", **own)


def _parts(parts: Sequence[Any], where: str) -> tuple[tuple[str, str], ...]:
    """(memory, answer) of each part of a question. Raises FactError where one lacks either, or there is only one."""
    for part in parts:
        fields = part if isinstance(part, dict) else {}
        if set(fields) != {"topic", "answer"} or not all(isinstance(v, str) and v.strip() for v in fields.values()):
            raise FactError(f"{where}: a part must hold 'topic' and 'answer', strings; this one is {part!r}")
    if len(parts) == 1:
        raise FactError(f"{where}: 'parts' must be two or more; a question of one fact has 'topic' and 'answer'")
    return tuple((part["topic"].strip(), part["answer"].strip()) for part in parts)


def pieces(question: Question) -> list[Question]:
    """The parts of a question, as questions; where they are as many as its facts, each is of that fact's memory.

    What is chosen from options stays whole: the options answer all of it.
    """
    texts = [question.text] if question.options else parts_of(question.text)
    if len(texts) == 1:
        return [question]
    if len(texts) != len(question.parts):
        return [replace(question, text=text) for text in texts]
    pairs = zip(texts, question.parts, strict=True)
    return [replace(question, text=text, memory=memory, answer=answer, parts=()) for text, (memory, answer) in pairs]


def headline(questions: Sequence[Question]) -> list[bool]:
    """Which questions the headline scores: what a memory holds, under held-out wordings, or, where no wording is
    held out, under trained ones."""
    counted = [question.recalled and not question.trained for question in questions]
    return counted if any(counted) else [question.recalled for question in questions]


def unrelated_questions(file: str | Path | None = None) -> list[str]:
    """Questions that no memory answers; none of them taught the gate."""
    path = Path(file) if file is not None else Path(__file__).parent / "unrelated.jsonl"
    return [line["question"] for _, line in read_lines(path)]


def unrelated_text(file: str | Path | None = None) -> list[str]:
    """Paragraphs of prose, to measure damage on: general ones, or a text file's, of at most 300 words each.

    Raises:
        FactError: a file that cannot be read, or holds no text.
    """
    path = Path(file) if file is not None else Path(__file__).parent / "unrelated.txt"
    try:
        paragraphs = [part.split() for part in path.read_text(encoding="utf-8").split("\n\n")]
    except (OSError, UnicodeDecodeError) as error:
        raise FactError(f"{path}: cannot be read ({error}); give a text file") from error
    pieces = [" ".join(part[i : i + _LONGEST]) for part in paragraphs for i in range(0, len(part), _LONGEST)]
    if not pieces:
        raise FactError(f"{path}: holds no text; give paragraphs of prose")
    return pieces
