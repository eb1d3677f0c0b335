"""Markdown, text, HTML, PDF and DOCX → parts: their text, its passages and what it states. PDF, DOCX and HTML by markitdown."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import regex

from lorary.bank.documents import Passage, passages_of
from lorary.intake.chats import chat_contents, read_chat
from lorary.intake.pages import pdf_pages, without_leaders, without_running_lines
from lorary.intake.sections import Block, blocks_of, cut_at_headings, plain
from lorary.intake.source import Contents, LeftOut, Part, Unreadable, left_out
from lorary.intake.stated import stated_in
from lorary.intake.subjects import is_generic, subject_of
from lorary.intake.texts import read_text
from lorary.intake.webpages import said_by

WRITTEN = (".md", ".markdown", ".txt", ".text")
CONVERTED = (".html", ".htm", ".pdf", ".docx")


def read_document(path: Path, name: str, encoding: str | None = None) -> Contents:
    """The contents of a document or of a chat in plain text.

    Raises:
        Unreadable: the file cannot be read, or holds no text.
    """
    suffix = path.suffix.lower()
    left: list[LeftOut] = []
    if suffix == ".pdf":
        read = list(pdf_pages(path))
        left = [left_out(f"{name}, {place}", "page", why) for place, _, why in read if why]
        texts, running = without_running_lines([text for _, text, why in read if not why])
        texts, led = without_leaders(texts)
        pages = list(zip([place for place, _, why in read if not why], texts, strict=True))
        left += [left_out(name, line, "the line runs above or below the text of the pages") for line in running]
        left += [left_out(name, line, "the line is of the table of contents") for line in led]
        if not pages:
            raise Unreadable("no page of it has text; a scanned document needs OCR first")
    elif suffix in WRITTEN:
        text = read_text(path, encoding)
        if (messages := read_chat(text, name)) is not None:
            return chat_contents(*messages, name)
        pages = [("", _summaries_as_bold(text))]
    else:
        pages = [("", _converted(path.read_bytes(), suffix))]
    if not any(text.strip() for _, text in pages):
        raise Unreadable("it has no text")
    return _contents(pages, name, _title(path, pages), left)


def _contents(pages: list[tuple[str, str]], name: str, title: str, left: list[LeftOut]) -> Contents:
    parts: list[Part] = []
    notes: list[str] = []
    heading, whole = "", " ".join(" ".join(text for _, text in pages).split())
    for place, text in pages:
        lines, blocks = text.split("\n"), blocks_of(text)
        for opened, start, end in cut_at_headings(blocks, len(lines)):
            heading = opened or heading
            within = [block for block in blocks if start < block.line <= end]
            stated = stated_in(within, name, title, place, whole)
            passages = tuple(_passages(lines[:end], start, within, name, place))
            if passages:
                parts.append(Part(heading, "\n".join(lines[start:end]).strip(), passages, tuple(stated.facts)))
            left += stated.left
            notes += stated.notes
    return Contents(tuple(parts), tuple(left), tuple(notes))


def _passages(lines: list[str], start: int, blocks: list[Block], name: str, place: str) -> Iterator[Passage]:
    """The passages of the lines from `start` on; each is told by the file, the page and the heading above it."""
    opened = [
        ("", start),
        *((block.text, block.line - 1) for block in blocks if block.kind == "heading"),
        ("", len(lines)),
    ]
    for (heading, first), (_, last) in pairwise(opened):
        yield from passages_of("\n".join(lines[first:last]), ", ".join(filter(None, (name, place, heading))))


def _title(path: Path, pages: list[tuple[str, str]]) -> str:
    """What a document is about: its title, else its file name in words; empty where neither says it.

    The title is the only heading of the outermost level, a first line that is bold, or one that looks like a heading.
    """
    blocks = blocks_of(pages[0][1])
    headings = [block for block in blocks if block.kind == "heading"]
    outermost = [block for block in headings if block.level == min(h.level for h in headings)]
    first_line = plain(blocks[0].text.split("\n")[0]) if blocks else ""
    if (
        headings
        and headings[0] is outermost[0]
        and (len(outermost) == 1 or (blocks[0] is headings[0] and blocks[0].level == 6))
    ):
        title = headings[0].text
    elif (
        not headings
        and len(first_line) <= 60
        and regex.fullmatch(r"\p{Lu}.*[^.!?:;,]", first_line)
        and ": " not in first_line
    ):
        title = first_line
    else:
        title = ""
    named = (title, " ".join(regex.split(r"[-_\s]+", path.stem)))
    return next((subject_of(name) for name in named if name and not is_generic(name) and not name.endswith("?")), "")


def _converted(data: bytes, suffix: str) -> str:
    """The Markdown of an HTML or DOCX file. Raises Unreadable."""
    from markitdown import StreamInfo
    from markitdown.converters import DocxConverter, HtmlConverter

    options: dict[str, Any] = {}
    if suffix in (".html", ".htm"):
        converter: Any = HtmlConverter()
        data = said_by(data)
    else:
        converter, options = DocxConverter(), {"style_map": "p[style-name='Title'] => h1:fresh"}
    try:
        text = converter.convert(io.BytesIO(data), StreamInfo(extension=suffix), **options).markdown
    except ImportError:
        raise
    except Exception as error:  # whatever a damaged file makes the libraries below markitdown raise
        raise Unreadable(f"it cannot be read as {suffix[1:].upper()} ({type(error).__name__})") from None
    if "\ufffd" in text:
        raise Unreadable("its letters are broken: it is in another encoding than it says")
    return text.strip()


def _summaries_as_bold(text: str) -> str:
    """Markdown in which the <details> of a page are a bold line and what follows it."""
    text = regex.sub(r"(?is)<summary[^>]*>(.*?)</summary>", r"\n\n**\1**\n\n", text)
    return regex.sub(r"(?i)</?details[^>]*>", "\n\n", text)
