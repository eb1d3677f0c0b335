"""Documents: text that a memory holds as it is written, cut into passages of whole sentences."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import regex

from lorary.errors import LoraryError

LONGEST = 350
"""The width of the longest passage but for its headings, in letters: about 65 English words; a wide letter counts twice."""
ENDINGS = (".md", ".markdown", ".txt")
"""Of the files that are documents."""
_DOCUMENT = regex.compile(r"(?i).+?\.(?:md|markdown|txt|html?|pdf|docx|csv|tsv|xlsx|jsonl?)(?=, )")
_LONGEST_HEADING = 80
_HEADINGS = 160
"""The width of all headings that stand before one passage."""


class DocumentError(LoraryError):
    """A document that cannot be used: says which, what was given and what is allowed."""


@dataclass(frozen=True)
class Passage:
    """A part of a document, on one line, and where it stands: the document's file name or title."""

    text: str
    source: str

    def to_json(self) -> dict[str, Any]:
        return {"text": self.text, "source": self.source}


def parse_passage(given: Any, where: str) -> Passage:
    """The passage in one decoded JSON line; `where` names the line. Raises DocumentError for anything else."""
    if not isinstance(given, dict) or set(given) != {"text", "source"}:
        raise DocumentError(f"{where}: a passage is an object with 'text' and 'source', not {given!r}"[:300])
    for key, value in given.items():
        if not isinstance(value, str) or not (value.strip() or key == "source"):
            raise DocumentError(f"{where}: {key!r} must be a string with letters, this one is {value!r}"[:300])
    return Passage(given["text"], given["source"])


def passages_of(text: str, source: str) -> tuple[Passage, ...]:
    """The passages of a document in plain text or Markdown, in order; none of one without a letter.

    A passage is a run of whole sentences of one paragraph, as many as `LONGEST` lets in. Paragraphs are never joined; a
    heading stays with what follows it. A sentence that is longer is cut between words, and where a script writes none
    apart, between letters. Sentences end as the Unicode properties Sentence_Terminal and Sentence_Break tell (UAX 29),
    in any script.
    """
    passages: list[str] = []
    headings: list[str] = []
    for paragraph, is_heading in _paragraphs(text):
        if is_heading and sum(map(width, (*headings, paragraph))) <= _HEADINGS:
            headings.append(paragraph)
            continue
        passages += _with_headings(headings, paragraph)
        headings = []
    passages += _with_headings(headings, "")
    return tuple(Passage(passage, source) for passage in passages)


def read_document(path: str | Path) -> tuple[Passage, ...]:
    """The passages of a Markdown or text file, whose name is their source.

    Raises:
        DocumentError: a file of another ending, one that cannot be read or is not UTF-8, or one without text.
    """
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise DocumentError(f"{path}: is no document; give Markdown or text files, which end in {' or '.join(ENDINGS)}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DocumentError(f"{path}: cannot be read ({error.strerror}); give a Markdown or text file") from error
    except UnicodeDecodeError as error:
        raise DocumentError(f"{path}: is not UTF-8 text ({error.reason}); save it as UTF-8") from error
    passages = passages_of(text, path.name)
    if not passages:
        raise DocumentError(f"{path}: holds no text; give a document with a sentence at least, or leave it out")
    return passages


def read_documents(paths: Sequence[str | Path]) -> tuple[Passage, ...]:
    """The passages of several files. Raises DocumentError also where two files have one name, which is their source."""
    names = dict[str, Path]()
    for path in dict.fromkeys(map(Path, paths)):
        if path.name in names:
            raise DocumentError(
                f"{names[path.name]} and {path} have one name, by which documents are told apart; rename one"
            )
        names[path.name] = path
    return tuple(passage for path in names.values() for passage in read_document(path))


def document_of(source: str) -> str:
    """The document that a passage is of: its source without the place in it ("manual.pdf, page 3" is of "manual.pdf")."""
    named = _DOCUMENT.match(source)
    return named[0] if named else source


def replaced(documents: Sequence[Passage], by: Sequence[Passage]) -> tuple[Passage, ...]:
    """Passages with those of newer documents, each document in the place of the one of its name, or at the end."""
    named: dict[str, list[Passage]] = {}
    for passage in documents:
        named.setdefault(document_of(passage.source), []).append(passage)
    named |= {document_of(passage.source): [] for passage in by}
    for passage in by:
        named[document_of(passage.source)].append(passage)
    return tuple(passage for passages in named.values() for passage in passages)


def width(text: str) -> int:
    """The number of letters of a text, where a wide one (Chinese, Japanese, Korean) counts twice."""
    return len(text) + sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)


_BLANK = regex.compile(r"\n\s*\n")
_CODE = regex.compile(
    r"^ {0,3}(?<fence>`{3,}|~{3,})[^\n]*\n(?<code>.*?)(?:^ {0,3}\g<fence>[`~]*[ \t]*$|\Z)", regex.M | regex.S
)
_MARKED_HEADING = regex.compile(
    r"^ {0,3}#{1,6}[ \t]+(.+?)[ \t]*#*[ \t]*$|^(?![ \t]*\|)(?=.*\w)(.+)\n {0,3}(?:=+|-{2,})[ \t]*$", regex.M
)
_ITEM = regex.compile(r"^\s*(?:[-*+•·]|\d{1,3}[.)](?!\d)|[A-Za-z][.)]|\|)\s?")
_ASKED = regex.compile(r"[?？][\p{Pe}\p{Pf}\"'*_]*$")
_ENDED = regex.compile(r"[\p{Sentence_Terminal}:：;,，、][\p{Pe}\p{Pf}\"'*_]*$")
_WIDE = r"\p{Han}\p{Hiragana}\p{Katakana}，。、！？；：「」（）"
_WRAPPED = regex.compile(rf"(?<=[{_WIDE}])\n(?=[{_WIDE}])")


def _paragraphs(text: str) -> Iterator[tuple[str, bool]]:
    """(paragraph, whether it is a heading) of a text; the lines of a paragraph stay apart."""
    text = "\n".join(text.removeprefix("\ufeff").splitlines()) + "\n"
    place = 0
    for code in _CODE.finditer(text):
        yield from _outside_code(text[place : code.start()])
        yield from ((block, False) for block in _blocks(code["code"]))
        place = code.end()
    yield from _outside_code(text[place:])


def _outside_code(text: str) -> Iterator[tuple[str, bool]]:
    for block in _blocks(_MARKED_HEADING.sub(lambda heading: f"\n\n# {heading[1] or heading[2]}\n\n", text)):
        if block.startswith("# ") and "\n" not in block:
            yield block.removeprefix("# ").strip(), True
        else:
            short = "\n" not in block and width(block) <= _LONGEST_HEADING
            stays = not _ENDED.search(block) or _ASKED.search(block)  # a question stays with its answer
            yield _WRAPPED.sub("", block), bool(short and not _ITEM.match(block) and stays)


def _blocks(text: str) -> Iterator[str]:
    """What blank lines part, without lines that have no letter."""
    for block in _BLANK.split(text):
        if lines := [line.strip() for line in block.splitlines() if regex.search(r"\w", line)]:
            yield "\n".join(lines)


def _with_headings(headings: Sequence[str], paragraph: str) -> list[str]:
    """The passages of a paragraph, the headings before the first."""
    heading = " ".join(
        h if place == len(headings) or _ENDED.search(h) else f"{h}:" for place, h in enumerate(headings, 1)
    )
    if not paragraph:
        return [heading] if heading else []
    colon = ":" if heading and not _ENDED.search(heading) else ""
    first, *others = _runs(paragraph, _LEVELS, sum(map(width, headings)))
    return [" ".join(passage.split()) for passage in (f"{heading}{colon} {first}", *others)]


_ABBREVIATIONS = "Mr|Mrs|Ms|Dr|Prof|St|Sr|Sra|Mme|Hr|Fr|No|Nr|Fig|Vol|Art|al|vs|cf|ca|bzw|usw|resp|approx"
_CLOSING = r"[\p{Pe}\p{Pf}\"'*_]*+"
_SENTENCE = regex.compile(
    rf"""(?V1s).+?(?:
        (?<!\b(?:\p{{L}}|\p{{Nd}}{{1,2}}|{_ABBREVIATIONS}))[.!?…]++{_CLOSING}(?=\s)(?!\s[^\p{{L}}\p{{Nd}}\s]*\p{{Ll}})
        |[\p{{Sentence_Break=STerm}}--[!?]]++{_CLOSING}(?!(?<=\p{{Pe}})\p{{Hiragana}})|$)\s*""",
    regex.VERBOSE,
)
_LEVELS = (
    regex.compile(r"(?s).+?(?:\n(?=\s*(?:[-*+•·]|\d{1,3}[.)]|\|)\s)|$)"),
    _SENTENCE,
    regex.compile(r"\S+\s*"),
    regex.compile(r"\X"),
)
"""What a paragraph is cut into, finer where a piece is too long: items of a list or rows, sentences, words, letters."""


def _runs(text: str, levels: Sequence[regex.Pattern[str]], taken: int = 0) -> list[str]:
    """A text in runs of whole pieces of the first level; of a piece that is too long, runs of the next level's.

    Args:
        taken: the width that stands before the first run already.
    """
    pieces: list[str] = []
    for piece in levels[0].findall(text):
        pieces += _runs(piece, levels[1:]) if len(levels) > 1 and width(piece.rstrip()) > LONGEST else [piece]
    runs: list[list[str]] = [[]]
    for piece in pieces:
        if runs[-1] and taken + width(piece.rstrip()) > LONGEST:
            runs.append([])
            taken = 0
        runs[-1].append(piece)
        taken += width(piece)
    return ["".join(run) for run in runs]
