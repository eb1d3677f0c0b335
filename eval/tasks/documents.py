"""Documents and what is asked about them: a text file, QuALITY's lines, NarrativeQA's folder."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from lorary.bank.facts import FactError, read_lines
from lorary.eval.tasks.generated import TaskError
from lorary.eval.tasks.published import answers_of

_DOCUMENTS, _QAPS, _SUMMARIES, _STORIES = "documents.csv", "qaps.csv", "third_party/wikipedia/summaries.csv", "tmp"
_WHOLE = 0.5
"""The share of its published size below which a story is a failed download: an error page, or a part."""
_MARKUP = re.compile(r"</?(?:html|body|p|br|div|pre|table|h\d)\b[^<>]*>", re.IGNORECASE)
_BLOCKS = {"p", "div", "pre", "table", "tr", "li", "hr", "blockquote", "h1", "h2", "h3", "h4", "h5", "h6"}


@dataclass
class Document:
    """A text and what is asked about it.

    Args:
        questions: lines of questions without a topic; `answer` is the first right one.
        unanswered: how many questions were left out, since the file tells no answer.
        form: "story" or "summary" where a document has both.
    """

    title: str
    text: str
    questions: list[dict[str, Any]] = field(default_factory=list)
    unanswered: int = 0
    form: str = ""


def read_documents(source: Path, questions: str | None = None, split: str | None = None) -> Iterator[Document]:
    """The documents of a folder or file, in order; `longdoc` tells which.

    Raises:
        TaskError: with file and line or row, what cannot be read, or an option that does not go with the source.
    """
    if questions and source.suffix != ".txt":
        raise TaskError(f"questions from a file are about a text, and {source} is no .txt; leave --questions out")
    if split and not source.is_dir():
        raise TaskError(f"only NarrativeQA's folder has a split {split!r}, and {source} is a file; leave --split out")
    if source.is_dir():
        return _narrativeqa(source, split)
    return _text(source, questions) if source.suffix == ".txt" else _quality(source)


def _text(source: Path, questions: str | None) -> Iterator[Document]:
    """A text file, and the lines of questions about it."""
    document = Document(source.stem, _read(source))
    for where, row in read_lines(Path(questions)) if questions else ():
        answer, *accepted = answers_of(row, where)
        options = row.get("options", [])
        if not isinstance(row.get("question"), str) or not row["question"].strip():
            raise TaskError(f"{where}: needs 'question', a string; it has {row.get('question')!r}")
        if options and answer not in options:
            raise TaskError(f"{where}: 'options' must hold the answer {answer!r}, they are {options!r}")
        line = {"question": row["question"], "answer": answer, "accepted": accepted}
        document.questions.append(line | {"options": options, "kind": "free"})
    if questions and not document.questions:
        raise TaskError(f"{questions}: holds no question; give a line for each, or leave --questions out")
    yield document


def _quality(source: Path) -> Iterator[Document]:
    """QuALITY's lines (Pang et al. 2022, arXiv 2112.08608), with HTML or without; an article's sets of questions, which
    stand in two lines, come together.

    Kinds are `choice` and `choice-hard`. The test set's gold labels are not published: those questions are left out.
    """
    by_article: dict[str, Document] = {}
    for where, row in _lines(source):
        try:
            name, article = str(row["article_id"]), row["article"]
            text = plain("".join(article) if isinstance(article, list) else article)
            document = by_article.setdefault(name, Document(name, text))
            for question in row["questions"]:
                line = _choice(question, where)
                document.questions += [line] if line else []
                document.unanswered += not line
        except (KeyError, TypeError, AttributeError) as error:
            why = f"it has no {error}" if isinstance(error, KeyError) else f"a field is of another type: {error}"
            raise TaskError(f"{where}: is not a line of QuALITY's ({why}); give its file, or a .txt") from error
    yield from by_article.values()


def _lines(source: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The lines of QuALITY's file. Raises TaskError for another file: what is no .txt is taken for QuALITY's."""
    try:
        yield from read_lines(source)
    except FactError as error:
        raise TaskError(
            f"{error}; a file of QuALITY's has a JSON object a line, and a text's name ends in .txt"
        ) from error


def _choice(row: dict[str, Any], where: str) -> dict[str, Any]:
    """The line of a question of QuALITY's; nothing where it has no gold label."""
    question, options, label = row["question"].strip(), [o.strip() for o in row["options"]], row.get("gold_label")
    if label is None:
        return {}
    if not isinstance(label, int) or not 1 <= label <= len(options):
        raise TaskError(f"{where}: the gold label of {question!r} is {label!r}, it must be 1 to {len(options)}")
    kind = "choice-hard" if row.get("difficult") else "choice"
    return {"question": question, "options": options, "answer": options[label - 1], "kind": kind}


def _narrativeqa(source: Path, split: str | None) -> Iterator[Document]:
    """The documents of NarrativeQA (Kočiský et al. 2018, arXiv 1712.07040) that questions are asked about, in order.

    The columns with tokenised text are left alone: the published scores are of plain answers, lower-cased.
    """
    if not (source / _QAPS).is_file():
        raise TaskError(
            f"{source}: is a folder without {_QAPS}, so it is not NarrativeQA's; give that folder, a .txt, or QuALITY's file"
        )
    by_document: dict[str, list[dict[str, Any]]] = {}
    sets: dict[str, None] = {}
    for row in _rows(source / _QAPS, "document_id", "set", "question", "answer1", "answer2"):
        sets[row["set"]] = None
        if split in (None, row["set"]):
            answers = [answer for answer in (row["answer1"].strip(), row["answer2"].strip()) if answer]
            line = {"question": row["question"].strip(), "answer": "", "accepted": answers[1:], "kind": "free"}
            by_document.setdefault(row["document_id"], []).append(line | ({"answer": answers[0]} if answers else {}))
    if not sets:
        raise TaskError(f"{source / _QAPS}: holds no question; give NarrativeQA's own file")
    if not by_document:
        raise TaskError(f"{source / _QAPS}: has no questions of split {split!r}; its splits are {[*sets]}")
    sizes = {row["document_id"]: row for row in _rows(source / _DOCUMENTS, "document_id", "story_file_size")}
    summaries: dict[str, str] = {}
    if (source / _SUMMARIES).is_file():
        summaries = {row["document_id"]: row["summary"] for row in _rows(source / _SUMMARIES, "document_id", "summary")}
    for name, lines in by_document.items():
        story, size = source / _STORIES / f"{name}.content", sizes.get(name, {}).get("story_file_size", "0")
        if not size.strip().isdigit():
            raise TaskError(f"{source / _DOCUMENTS}: the size of document {name} is {size!r}, it must be a number")
        whole = story.is_file() and story.stat().st_size > _WHOLE * int(size)
        if not whole and name not in summaries:
            raise TaskError(f"{source}: document {name} has neither a whole story ({story}) nor a summary")
        text = plain(_read(story)) if whole else summaries[name]
        known = [line for line in lines if line["answer"]]
        yield Document(name, text, known, len(lines) - len(known), "story" if whole else "summary")


def _rows(path: Path, *wanted: str) -> Iterator[dict[str, str]]:
    """The rows of a CSV file. Raises TaskError, with the line, where a wanted column is missing."""
    rows = csv.DictReader(io.StringIO(_read(path), newline=""))
    try:
        if missing := [column for column in wanted if column not in (rows.fieldnames or ())]:
            raise TaskError(f"{path}: has no column {missing[0]!r}; give NarrativeQA's own file")
        for row in rows:
            if missing := [column for column in wanted if row[column] is None]:
                raise TaskError(f"{path}:{rows.line_num}: this row has no {missing[0]!r}; give NarrativeQA's own file")
            yield row
    except csv.Error as error:
        raise TaskError(f"{path}:{rows.line_num}: is not CSV ({error}); give NarrativeQA's own file") from error


def _read(path: Path) -> str:
    """The text of a file: UTF-8, UTF-16 with its mark, or Windows' Western one, as older books and film scripts are.

    Raises:
        TaskError: a file that cannot be read, or that is no text.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise TaskError(f"{path}: cannot be read ({error.strerror}); give a file or folder that is there") from error
    try:
        text = raw.decode("utf-16" if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("cp1252", errors="replace")
    if "\0" in text:
        raise TaskError(f"{path}: is no text (it holds NUL characters); give text, in UTF-8")
    return text


def plain(text: str) -> str:
    """The text without HTML's marks, a blank line between paragraphs; what is no HTML is left as it is."""
    if not _MARKUP.search(text):
        return text
    reader = _Text()
    reader.feed(text)
    reader.close()
    return "".join(reader.read)


class _Text(HTMLParser):
    """Collects what HTML shows."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []
        self.hidden = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.hidden = tag in ("script", "style")
        self.read.append("\n\n" if tag in _BLOCKS else "\n" if tag == "br" else "")

    def handle_endtag(self, tag: str) -> None:
        self.hidden = False
        self.read.append("\n\n" if tag in _BLOCKS else "")

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.read.append(data)
