"""Long documents as memories: chunks of text become facts by gaps in their sentences; questions come from files."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorary.eval.formats import slug
from lorary.eval.questions import read_lines
from lorary.eval.tasks import Task, TaskError, taught
from lorary.facts import Fact
from lorary.lexicon import Lexicon

_SENTENCE = re.compile(
    r"(?:(?<=[.!?])|(?<=[.!?][\"'”’)]))(?<!\b[A-Z]\.)(?<!\b[MDS][rst]\.)(?<!\bMrs\.)\s+(?=[\"'“‘(]?[A-Z0-9])"
)
"""Where a sentence ends; not after an initial, Mr., Ms., Dr., St. or Mrs."""
_NAME = re.compile(r"(?<=[a-z,;:] )[A-Z][\w’'-]*(?: [A-Z][\w’'-]*)*|\b\d[\d,.:]*\b")
"""A name within a sentence (not its first word, which is always capital), or a number."""
_QAPS, _SUMMARIES, _STORIES = "qaps.csv", "third_party/wikipedia/summaries.csv", "tmp"


@dataclass
class Document:
    """A text and what is asked about it.

    Args:
        asked: lines of questions without a topic; `answer` is the first right one.
    """

    title: str
    text: str
    asked: list[dict[str, Any]] = field(default_factory=list)


def longdoc(source: str, questions: str | None = None, documents: int | None = None, chunk_words: int = 300) -> Task:
    """Long documents in chunks, a memory each, and questions over them.

    `source` is the folder of NarrativeQA (its CSV files; stories where they were downloaded, else summaries), a file of
    QuALITY's JSON lines (the one without HTML; any name but .txt), or a text file (.txt). A chunk is taught by its
    sentences: each name and number in turn is left out and asked for. Which chunk holds a question's answer is not
    known; the one that BM25 finds nearest to question and answer stands for it. A text without questions is asked its
    gaps, as taught.

    Args:
        source: path of the folder or file.
        questions: JSONL about a text file: `question`, `answer` or `answers`, and `options` to choose from.
        documents: how many to take, from the first on; all by default.
        chunk_words: the greatest number of words of a chunk; a longer sentence stands alone.
    """
    if chunk_words < 1:
        raise TaskError(f"a chunk of {chunk_words} words cannot be made; give 1 or more")
    read = list(_documents(Path(source), questions))[:documents]
    facts: list[Fact] = []
    asked: list[dict[str, Any]] = []
    for document in read:
        pieces = chunks(sentences(document.text), chunk_words)
        if not pieces:
            raise TaskError(f"{source}: {document.title!r} has no text")
        name = slug(document.title)[:58]
        topics = [f"{name}-{i:0{len(str(len(pieces)))}d}" for i in range(1, len(pieces) + 1)]
        held = [fact for topic, piece in zip(topics, pieces, strict=True) for fact in gaps(topic, piece)]
        facts += held
        for line, place in zip(document.asked, _nearest(document.asked, pieces), strict=True):
            asked.append({"topic": topics[place], **line})
    facts = _sure(facts)
    return Task(tuple(facts), tuple(asked or (taught(fact, "gap") for fact in facts)))


def sentences(text: str) -> list[str]:
    """The sentences of a text, by their ends and by blank lines; white space is one space."""
    paragraphs = (" ".join(part.split()) for part in re.split(r"\n\s*\n", text))
    return [sentence for part in paragraphs for sentence in _SENTENCE.split(part) if sentence]


def chunks(told: Sequence[str], words: int) -> list[list[str]]:
    """Runs of sentences of at most so many words each; a longer sentence is a chunk of its own."""
    runs: list[list[str]] = []
    room = 0
    for sentence in told:
        length = len(sentence.split())
        if length > room:
            runs.append([])
            room = words
        runs[-1].append(sentence)
        room -= length
    return runs


def gaps(topic: str, told: Sequence[str]) -> Iterator[Fact]:
    """Facts of a chunk: each sentence with a name or a number left out, the sentence before it in front.

    A sentence without either leaves out its longest word, so that each is told by a fact.
    """
    for before, sentence in zip(["", *told], told, strict=False):
        found = list(dict.fromkeys(match[0] for match in _NAME.finditer(sentence)))
        for answer in found or [max(re.findall(r"\w+", sentence) or [sentence], key=len)]:
            gapped = re.sub(rf"(?<!\w){re.escape(answer)}(?!\w)", "___", sentence, count=1)
            yield Fact(topic, f"Fill the gap. {before} {gapped}".replace("  ", " "), answer, statement=sentence)


def _sure(facts: Sequence[Fact]) -> list[Fact]:
    """The facts whose question has one answer in all chunks, each once."""
    answers: dict[str, set[str]] = {}
    for fact in facts:
        answers.setdefault(fact.question.lower(), set()).add(fact.answer)
    return [fact for fact in dict.fromkeys(facts) if len(answers[fact.question.lower()]) == 1]


def _nearest(asked: Sequence[dict[str, Any]], pieces: Sequence[Sequence[str]]) -> list[int]:
    """The number of the chunk that is nearest to each question with its answer, by BM25."""
    if not asked:
        return []
    lexicon = Lexicon()
    lexicon.add("pieces", [" ".join(piece) for piece in pieces])
    return [int(best) for best in lexicon.scores([f"{line['question']} {line['answer']}" for line in asked]).argmax(-1)]


def _documents(source: Path, questions: str | None) -> Iterator[Document]:
    if source.is_dir():
        return _narrativeqa(source)
    return _text(source, questions) if source.suffix == ".txt" else _quality(source)


def _text(source: Path, questions: str | None) -> Iterator[Document]:
    """A text file, and the lines of questions about it."""
    asked = []
    for where, given in read_lines(Path(questions)) if questions else ():
        answers = given.pop("answers", None) or [given.get("answer")]
        if not isinstance(given.get("question"), str) or not all(isinstance(answer, str) for answer in answers):
            raise TaskError(f"{where}: needs 'question' and 'answer' or 'answers', strings; it has {given!r}")
        line = {"question": given["question"], "answer": answers[0], "accepted": answers[1:]}
        asked.append(line | {"options": given.get("options", []), "kind": "free"})
    yield Document(source.stem, _read(source), asked)


def _quality(source: Path) -> Iterator[Document]:
    """QuALITY's lines (Pang et al. 2022, arXiv 2112.08608); an article's sets of questions come together.

    Kinds are `choice` and `choice-hard`; what has no gold label (the test set) is left out.
    """
    by_article: dict[str, Document] = {}
    for where, given in read_lines(source):
        try:
            document = by_article.setdefault(given["article_id"], Document(given["article_id"], given["article"]))
            for told in given["questions"]:
                if "gold_label" in told:
                    line = {"question": told["question"].strip(), "options": list(told["options"])}
                    kind = "choice-hard" if told.get("difficult") else "choice"
                    document.asked.append(line | {"answer": told["options"][told["gold_label"] - 1], "kind": kind})
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise TaskError(f"{where}: is not a line of QuALITY's ({error!r}); give its file, or a .txt") from error
    yield from by_article.values()


def _narrativeqa(source: Path) -> Iterator[Document]:
    """The documents of NarrativeQA (Kočiský et al. 2018, arXiv 1712.07040) that questions are asked about, in order."""
    asked: dict[str, list[dict[str, Any]]] = {}
    for row in _rows(source / _QAPS, "document_id", "question", "answer1", "answer2"):
        line = {"question": row["question"], "answer": row["answer1"], "accepted": [row["answer2"]], "kind": "free"}
        asked.setdefault(row["document_id"], []).append(line)
    summaries = {row["document_id"]: row["summary"] for row in _rows(source / _SUMMARIES, "document_id", "summary")}
    for name, lines in asked.items():
        story = source / _STORIES / f"{name}.content"
        if not story.is_file() and name not in summaries:
            raise TaskError(f"{source}: document {name} has neither a story ({story}) nor a summary")
        yield Document(name, _read(story) if story.is_file() else summaries[name], lines)


def _rows(path: Path, *wanted: str) -> Iterator[dict[str, str]]:
    """The rows of a CSV file. Raises TaskError where a wanted column is missing."""
    rows = csv.DictReader(_read(path).splitlines(keepends=True))
    if missing := [column for column in wanted if column not in (rows.fieldnames or ())]:
        raise TaskError(f"{path}: has no column {missing[0]!r}; give NarrativeQA's own file")
    yield from rows


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise TaskError(f"{path}: cannot be read ({error.strerror}); give a document") from error
