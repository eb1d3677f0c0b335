"""Questions that people wrote about documents, by topic: read from SQuAD's JSON, TOFU's lines, or facts as Lorary takes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lorary.bank.documents import Passage, passages_of
from lorary.bank.facts import Fact, comparable, parse_fact, read_lines
from lorary.eval.tasks.published import slugs
from lorary.eval.tasks.reading import json_document, squad_question
from lorary.memories.topics import read_documents_of_topics, read_topics
from lorary.research.settings import StudyError

_SQUAD = "SQuAD's JSON: an object with 'data', a list of articles with 'paragraphs', each with 'context' and 'qas'"
TOFU = ("author", "question", "answer", "paraphrased_question")
"""What a line of a file like TOFU's has (Maini et al. 2024, arXiv 2401.06121)."""


@dataclass(frozen=True)
class Line:
    """One thing that people ask.

    Args:
        questions: wordings that may be trained on; one or more.
        reworded: wordings that are only ever asked.
    """

    questions: tuple[str, ...]
    answer: str
    reworded: tuple[str, ...] = ()


@dataclass(frozen=True)
class Topic:
    """What one memory is about: its questions, and the passages of the documents that they were written about."""

    name: str
    lines: tuple[Line, ...]
    documents: tuple[Passage, ...] = ()


@dataclass(frozen=True)
class QuestionFile:
    """The topics of a file, two or more, and what of it is not asked.

    Args:
        left_out: what → how many.
    """

    name: str
    topics: tuple[Topic, ...]
    left_out: dict[str, int] = field(default_factory=dict)


def read_question_file(path: str | Path) -> QuestionFile:
    """The topics of a file: SQuAD's JSON where its name ends in .json, else JSONL, TOFU's or facts; or of a folder.

    An article or an author is a topic. Articles of one title are one; one without a title is called by the file and its
    number. The answers of an author are its documents. A folder is read as `lorary build` does: facts in JSONL files, and
    documents that are called as their topic. A question without an answer is left out, and so is one that stands twice, or
    in two topics: no router could tell whose it is.

    Raises:
        TaskError, FactError: a file of another form, naming the place.
        StudyError: fewer than two topics.
    """
    path = Path(path)
    left: Counter[str] = Counter()
    found = _folder(path) if path.is_dir() else _squad(path, left) if path.suffix == ".json" else _lines(path)
    topics = _once(list(found), left)
    if len(topics) < 2:
        raise StudyError(f"{path}: routing needs questions of two topics or more, and it has {len(topics)}")
    return QuestionFile(path.stem, tuple(topics), dict(left))


def _squad(path: Path, left: Counter[str]) -> Iterator[Topic]:
    document = json_document(path, _SQUAD)
    articles = document.get("data") if isinstance(document, dict) else document
    places = [(article, f"{path}: article {number}") for number, article in enumerate(_list(articles, f"{path}"), 1)]
    by_title: dict[str, list[tuple[Any, str]]] = {}
    for number, (article, where) in enumerate(places, 1):
        paragraphs = _list(article.get("paragraphs") if isinstance(article, dict) else None, where)
        title = str(article.get("title") or "").strip() or f"{path.stem}-{number}"
        by_title.setdefault(title, []).extend((paragraph, where) for paragraph in paragraphs)
    names = slugs(list(by_title))
    for title, paragraphs in by_title.items():
        lines, documents = list[Line](), dict[Passage, None]()
        for paragraph, where in paragraphs:
            if not isinstance(paragraph, dict) or not isinstance(paragraph.get("context"), str):
                raise StudyError(f"{where} has a paragraph without a 'context'; give {_SQUAD}")
            documents |= dict.fromkeys(passages_of(paragraph["context"], title))
            for row in _list(paragraph.get("qas"), where):
                question = squad_question(row, title, where)
                if question.answers:
                    lines.append(Line((question.question,), question.answers[0]))
                else:
                    left["questions without an answer"] += 1
        yield Topic(names[title], tuple(lines), tuple(documents))


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise StudyError(f"{where} is not of the form asked for; give {_SQUAD}")
    return value


def _folder(folder: Path) -> Iterator[Topic]:
    documents = read_documents_of_topics([folder])
    for topic, facts in read_topics([folder], beside=documents).items():
        yield Topic(topic, tuple(map(_line, facts)), documents.get(topic, ()))


def _line(fact: Fact) -> Line:
    wordings = dict.fromkeys(fact.wordings)
    return Line(tuple(wordings), fact.answer, fact.held_out)


def _lines(path: Path) -> Iterator[Topic]:
    """The topics of a JSONL file, by first appearance."""
    lines: dict[str, list[Line]] = {}
    documents: dict[str, dict[Passage, None]] = {}
    for where, given in read_lines(path):
        if "author" in given:
            if missing := [key for key in TOFU if not isinstance(given.get(key), str) or not given[key].strip()]:
                raise StudyError(f"{where}: {missing[0]!r} must be a non-empty string; TOFU's lines have {list(TOFU)}")
            topic, question, answer, reworded = (given[key].strip() for key in TOFU)
            line = Line((question,), answer, (reworded,))
            documents.setdefault(topic, {}).update(dict.fromkeys(passages_of(answer, topic)))
        else:
            fact = parse_fact(given, topic=path.stem, where=where)
            topic, line = fact.topic, _line(fact)
        lines.setdefault(topic, []).append(line)
    names = slugs(list(lines))
    for topic, own in lines.items():
        yield Topic(names[topic], tuple(own), tuple(documents.get(topic, ())))


def _once(topics: Sequence[Topic], left: Counter[str]) -> list[Topic]:
    """The topics without what is asked twice, and those that have lines then."""
    times: Counter[str] = Counter()
    for topic in topics:
        own = (comparable(question) for line in topic.lines for question in (*line.questions, *line.reworded))
        times.update(set(own))
    met: set[str] = set()
    kept = list[Topic]()
    for topic in topics:
        lines = list[Line]()
        for line in topic.lines:
            questions = _new(line.questions, times, met)
            reworded = _new(line.reworded, times, met)
            if questions:
                lines.append(replace(line, questions=questions, reworded=reworded))
            left["wordings that stand twice or in two topics"] += (
                len(line.questions) + len(line.reworded) - len(questions) - len(reworded)
            )
        if lines:
            kept.append(replace(topic, lines=tuple(lines)))
    left += Counter()  # drops what was counted zero times
    return kept


def _new(wordings: Sequence[str], times: Counter[str], met: set[str]) -> tuple[str, ...]:
    """The wordings that one topic alone has, at their first place; they are met from now on."""
    new = list[str]()
    for wording in wordings:
        key = comparable(wording)
        if times[key] == 1 and key not in met:
            met.add(key)
            new.append(wording)
    return tuple(new)
