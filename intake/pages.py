"""PDF → the Markdown of each page, in the order in which people read it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import regex

from lorary.intake.source import Unreadable

_KEYED = regex.compile(r"\p{L}[^:.!?]{0,40}:\s\S.{0,60}$")
_FULL, _SHORTEST_FULL = 0.8, 40
"""The share of the longest line, and the letters, from which on a line is full."""
_KEPT = 0.8
"""The share of a page's text that must stand in one piece for the order of its lines to be the reading order."""


def pdf_pages(path: Path) -> Iterator[tuple[str, str, str]]:
    """("page N", its Markdown, why there is none) of each page of a PDF.

    Page by page, because markitdown does not tell where a page of a whole file ends, and because a table anywhere in a
    file makes it read the columns of all other pages line by line (findings/markitdown-pdf-table-mixes-columns.sh).

    Raises:
        Unreadable: it is locked, damaged, or no PDF.
    """
    import pypdfium2
    from markitdown import StreamInfo
    from markitdown.converters import PdfConverter
    from pdfminer.high_level import extract_text

    try:
        whole = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        locked = "password" in str(error).lower()
        raise Unreadable("it is locked by a password" if locked else "it is damaged, or no PDF") from None
    for number in range(len(whole)):
        single, stream = pypdfium2.PdfDocument.new(), io.BytesIO()
        single.import_pages(whole, [number])
        single.save(stream)
        single.close()
        data = stream.getvalue()
        try:
            converted = PdfConverter().convert(io.BytesIO(data), StreamInfo(extension=".pdf")).markdown
            read = extract_text(io.BytesIO(data)) if _is_row(converted) else converted
        except Exception as error:  # whatever a damaged page makes the libraries below markitdown raise
            yield f"page {number + 1}", "", f"it cannot be read ({type(error).__name__})"
            continue
        text = page_text(converted, read)
        yield f"page {number + 1}", text, "" if text else "it has no text; a scanned page needs OCR first"
    whole.close()


def page_text(converted: str, read: str) -> str:
    """The Markdown of a page: the tables that `converted` found, in the paragraphs and the order of `read`.

    Args:
        converted: the page line by line, with its tables in Markdown and without blank lines between paragraphs.
        read: the same page column by column, without tables.
    """
    converted, read = (
        regex.sub(r"(?<=\S)[ \u00a0]{2,}(?=\S)", " ", text.replace("\f", "\n\n")) for text in (converted, read)
    )
    if not _is_row(converted):
        return joined(read)
    runs = regex.findall(r"(?m)(?:^\|.*(?:\n|$))+", converted)
    cells = set(_words(" ".join(runs)))
    paragraphs = [p for p in regex.split(r"\n\s*\n", read) if p.strip() and not set(_words(p)) <= cells]
    prose = " ".join(regex.sub(r"(?m)^\|.*$", "", converted).split())
    whole = sum(len(p) for p in paragraphs if " ".join(p.split()) in prose)
    if whole < _KEPT * sum(map(len, paragraphs)):
        return joined("\n\n".join(part.strip() for part in (*paragraphs, *runs)))
    starts = {" ".join(p.strip().split("\n")[0].split()) for p in paragraphs}
    lines: list[str] = []
    for line in converted.split("\n"):
        turns = bool(lines) and line.startswith("|") != lines[-1].startswith("|")
        lines += ["", line] if turns or " ".join(line.split()) in starts else [line]
    return joined("\n".join(lines))


def joined(text: str) -> str:
    """The paragraphs of a page without the blank lines that only wide line spacing made.

    A paragraph goes on in the next one if it does not end with a sentence, and its last line is full or the next begins
    with a small letter. "Key: value" lines that follow each other are one paragraph.
    """
    parts = [part.strip("\n") for part in regex.split(r"\n\s*\n", text) if part.strip()]
    full = _FULL * max((len(line) for part in parts for line in part.split("\n") if not _is_row(line)), default=0)
    result: list[str] = []
    for part in parts:
        if result and _goes_on(result[-1].split("\n")[-1].strip(), part.split("\n")[0].strip(), full):
            result[-1] = f"{result[-1]}\n{part}"
        else:
            result.append(part)
    return "\n\n".join(result)


def _goes_on(last: str, first: str, full: float) -> bool:
    if _is_row(last) or _is_row(first) or regex.match(r"[-*•·]\s|\d{1,3}[.)]\s|#", first):
        return False
    if _KEYED.match(last) and _KEYED.match(first):
        return True
    ended = regex.search(r"[.!?:;。！？：；][\p{Pe}\p{Pf}\"']*$", last)
    return not ended and (first[:1].islower() or (len(last) >= max(full, _SHORTEST_FULL) and not _KEYED.match(first)))


def _is_row(text: str) -> bool:
    return bool(regex.search(r"(?m)^\|", text))


def _words(text: str) -> list[str]:
    return regex.findall(r"[^\s|]+", text)
