"""Files that others wrote: JSON documents, and SQuAD's questions in the forms in which tools write them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorary.eval.tasks.generated import TaskError

_LEVELS = ("data", "paragraphs", "qas")
"""SQuAD's nesting, outermost first. Tools leave out levels that they do not need, so any of them may be the first."""


def json_document(path: Path, wanted: str) -> Any:
    """What a JSON file holds, in UTF-8, UTF-16 or UTF-32, with a byte order mark or without.

    Args:
        wanted: what the file should hold, for errors.

    Raises:
        TaskError: a file that cannot be read, text in another encoding, or what is not JSON.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise TaskError(f"{path}: cannot be read ({error.strerror}); give a file that holds {wanted}") from error
    if not raw.strip():
        raise TaskError(f"{path}: is empty; give a file that holds {wanted}")
    try:
        return json.loads(raw.decode(json.detect_encoding(raw)))
    except UnicodeDecodeError as error:
        raise TaskError(
            f"{path}: is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from error
    except json.JSONDecodeError as error:
        place = f"{error.msg} at line {error.lineno}, column {error.colno}"
        lines = "; it holds a JSON object a line" if _first_line_is_json(error.doc) else ""
        raise TaskError(
            f"{path}: is not one JSON document ({place}){lines}; give a file that holds {wanted}"
        ) from error
    except RecursionError as error:
        raise TaskError(f"{path}: is nested too deeply; give a file that holds {wanted}") from error


def _first_line_is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text.lstrip().partition("\n")[0]), dict)
    except json.JSONDecodeError:
        return False


@dataclass(frozen=True)
class SquadQuestion:
    """A question of SQuAD's.

    Args:
        title: of its article, "" where the file has none.
        answers: the right ones, each once; none where the text does not tell it.
        where: file, article and number, for errors.
    """

    title: str
    question: str
    answers: tuple[str, ...]
    where: str


def squad_questions(document: Any, path: Path) -> list[SquadQuestion]:
    """The questions of a SQuAD document (Rajpurkar et al. 2016 and 2018), in order.

    Read are an object with `data`, a list of articles, one article, paragraphs without articles, and rows of a question
    each. Articles need no title. `context` and positions are not read.

    Raises:
        TaskError: with article and number, what is missing or of another kind.
    """
    rows: list[SquadQuestion] = []
    numbers: dict[str, int] = {}
    for title, row in _rows(document, "", str(path)):
        numbers[title] = numbers.get(title, 0) + 1
        place = f"{path}: {f'{title}, ' if title else ''}question {numbers[title]}"
        rows.append(squad_question(row, title, place))
    return rows


def _rows(part: Any, title: str, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(title, object of one question) of everything in a part of a document."""
    if isinstance(part, list):
        for number, inner in enumerate(part, 1):
            yield from _rows(inner, title, f"{where}: entry {number}")
        return
    if not isinstance(part, dict):
        raise TaskError(f"{where}: is not an object with 'data', 'paragraphs', 'qas' or 'question', it is {part!r:.80}")
    title = str(part.get("title") or title).strip()
    if level := next((key for key in _LEVELS if key in part), None):
        if not isinstance(part[level], list):
            raise TaskError(f"{where}: {level!r} must be a list, it is {part[level]!r:.80}")
        yield from _rows(part[level], title, f"{where}: {level!r}")
    elif "question" in part:
        yield title, part
    else:
        raise TaskError(
            f"{where}: has none of {[*_LEVELS, 'question']}, it has {sorted(part)}; SQuAD's file is an object with 'data', "
            "and question and answer lines are in a .jsonl"
        )


def squad_question(row: dict[str, Any], title: str, where: str) -> SquadQuestion:
    """One question. What `is_impossible`, or has no answer but empty ones, is a question that the text does not answer."""
    question = row.get("question")
    if not isinstance(question, str) or not question.strip():
        raise TaskError(f"{where} is not one of SQuAD's: 'question' must be a non-empty string, it is {question!r}")
    if "answers" not in row and not row.get("is_impossible"):
        raise TaskError(
            f"{where} is not one of SQuAD's: it has no 'answers', it has {sorted(row)}; question and answer lines are in a "
            ".jsonl"
        )
    answers = row.get("answers") or []
    # Rows of the datasets library hold a list of texts; SQuAD's own, a list of objects.
    texts = answers.get("text") if isinstance(answers, dict) else answers
    if not isinstance(texts, list):
        raise TaskError(f"{where} is not one of SQuAD's: 'answers' must be a list, it is {answers!r:.80}")
    if not isinstance(answers, dict):
        texts = [answer.get("text") if isinstance(answer, dict) else None for answer in texts]
    if not all(isinstance(text, str) for text in texts):
        raise TaskError(
            f"{where} is not one of SQuAD's: an answer must be an object whose 'text' is a string; they are {answers!r:.80}"
        )
    distinct = dict.fromkeys(tidy(text) for text in texts if text.strip())
    return SquadQuestion(title, tidy(question), () if row.get("is_impossible") else tuple(distinct), where)


def tidy(text: str) -> str:
    """The text with single spaces between its words, and none around it."""
    return " ".join(text.split())
