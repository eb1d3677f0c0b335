"""Answers that another system gave to the questions of a run: read from a file, and scored beside the run's own."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from lorary.bank.facts import NAME, NAME_RULE, read_lines
from lorary.errors import LoraryError
from lorary.eval.questions import Question, headline
from lorary.eval.run import Run
from lorary.eval.scoring import prediction
from lorary.tables import counted


class AnswersError(LoraryError):
    """Answers that cannot be scored: says which, and what to do."""


@dataclass(frozen=True)
class OutsideAnswers:
    """A file of answers.

    Args:
        file: its name.
        sha256: hex, of its content.
        answers: by question.
    """

    file: str
    sha256: str
    answers: Mapping[str, str]


def named_files(options: Sequence[str]) -> dict[str, Path]:
    """Name of a condition → file, of a command line's NAME=FILE. Raises AnswersError for what is not that, or two of one
    name."""
    files: dict[str, Path] = {}
    for option in options:
        name, equals, file = option.partition("=")
        if not (name and equals and file):
            raise AnswersError(f"--answers takes NAME=FILE, such as arrow=arrow.jsonl; {option!r} given")
        if name in files:
            raise AnswersError(f"two files of answers are called {name!r}; give one of them another name")
        files[name] = Path(file)
    return files


def read_outside_answers(
    files: Mapping[str, str | Path], questions: Sequence[Question], taken: Collection[str]
) -> dict[str, OutsideAnswers]:
    """The answers in each file, by name of the condition.

    A line is an object of `question` and `answer`, strings; an answer may be empty. A file may hold more than is asked.

    Args:
        taken: names that other conditions have.

    Raises:
        AnswersError: a name that is taken or cannot be one, a line that is something else, a question that is asked and
            has no answer, or two.
    """
    if files and not questions:
        raise AnswersError("no questions are asked, so answers to them cannot be scored; leave --answers out")
    for name in files:
        if name in taken:
            raise AnswersError(f"answers are called {name!r}, as a condition is; give them another name")
        if not NAME.fullmatch(name):
            raise AnswersError(f"{name!r} cannot name a condition; a name is {NAME_RULE}")
    return {name: _read(Path(file), questions) for name, file in files.items()}


def _read(file: Path, questions: Sequence[Question]) -> OutsideAnswers:
    answers: dict[str, str] = {}
    for where, line in read_lines(file):
        # What else it may hold would be ignored: in `predictions.jsonl`, for one, `answer` is the right answer.
        if set(line) != {"question", "answer"} or not all(isinstance(text, str) for text in line.values()):
            raise AnswersError(f"{where}: a line must hold 'question' and 'answer', strings; this one is {line!r}")
        question, answer = line["question"].strip(), line["answer"].strip()
        if answers.setdefault(question, answer) != answer:
            raise AnswersError(f"{where}: {question!r} is answered once more, and otherwise; keep one answer")
    if missing := [question.text for question in questions if question.text not in answers]:
        raise AnswersError(
            f"{file} has no answer to {missing[0]!r}, and lacks {len(missing)} of {counted(len(questions), 'question')}; let the "
            "same --questions be answered"
        )
    return OutsideAnswers(file.name, sha256(file.read_bytes()).hexdigest(), answers)


def score(run: Run, outside: Mapping[str, OutsideAnswers], advance: Callable[..., None]) -> None:
    """Scores the answers that do not stand yet, each file as a condition of the run.

    Nobody knows under which memories such an answer was given, so no route is told.
    """
    for name, own in outside.items():
        if name not in run.results.conditions:
            began = time.perf_counter()
            scored = zip(run.questions, headline(run.questions), strict=True)
            kept = [prediction(name, q, own.answers[q.text], None, scored=counts) for q, counts in scored]
            run.keep(name, f"answered elsewhere, {own.file}", kept, began, generated=len(kept))
            run.write()
        advance(len(run.questions), name)
