"""PDF → the Markdown of each page, in the order in which people read it."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import regex

from lorary.intake.source import Unreadable
from lorary.tables import markdown_table

_KEYED = regex.compile(r"\p{L}[^:.!?]{0,40}:\s\S.{0,60}$")
_LEADER = regex.compile(r".*?(?:[.·…_]\s?){4,}\s*\d+\s*")
_FULL, _SHORTEST_FULL = 0.8, 40
"""The share of the longest line, and the letters, from which on a line is full."""
_MANY = 3
"""The pages on which a line must stand to be one that runs above or below the text."""
_FILLED = 0.7
_AS_LINES = 0.2
"""The share of filled cells, and of rows that stand in the text as one line, of what is a table."""

Rows = Sequence[Sequence[str]]


def pdf_pages(path: Path) -> Iterator[tuple[str, str, str]]:
    """("page N", its Markdown, why there is none) of each page of a PDF.

    The text is pdfminer's, which reads one column after the other. The tables are pdfplumber's, where they have lines,
    else markitdown's, where they are no prose: it takes text with wide gaps between words for tables
    (findings/markitdown-pdf-prose-becomes-table.sh), and a table anywhere in a file makes it read the columns of all pages
    line by line (findings/markitdown-pdf-table-mixes-columns.sh). So it sees one page at a time.

    Raises:
        Unreadable: the file is locked, damaged, or no PDF.
    """
    import pypdfium2

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
        try:
            text = _page(stream.getvalue())
        except ImportError:
            raise
        except Exception as error:  # whatever a damaged page makes the libraries below markitdown raise
            yield f"page {number + 1}", "", f"it cannot be read ({type(error).__name__})"
            continue
        yield f"page {number + 1}", text, "" if text else "it has no text; a scanned page needs OCR first"
    whole.close()


def without_running_lines(pages: Sequence[str]) -> tuple[list[str], list[str]]:
    """(pages without the lines that stand above or below the text of many, each of those lines once).

    A first or last line runs if it stands on three pages or more, whatever numbers are in it; a bare number always does.
    """
    ends = [part for page in pages for part in _ends(page)]
    counts = Counter(_unnumbered(line) for line in ends)
    running = {line for line in ends if not _unnumbered(line) or counts[_unnumbered(line)] >= _MANY}
    kept = []
    for page in pages:
        lines = page.split("\n")
        while lines and (not lines[0].strip() or lines[0].strip() in running):
            del lines[0]
        while lines and (not lines[-1].strip() or lines[-1].strip() in running):
            del lines[-1]
        kept.append("\n".join(lines))
    return kept, sorted(running)


def without_leaders(pages: Sequence[str]) -> tuple[list[str], list[str]]:
    """(pages without the lines of a table of contents, those lines): their dots lead to the number of a page."""
    led = [line for page in pages for line in page.split("\n") if _LEADER.fullmatch(line)]
    return ["\n".join(line for line in page.split("\n") if line not in led) for page in pages], led


def _ends(page: str) -> list[str]:
    """The first two and the last two lines of a page."""
    lines = [line.strip() for line in page.split("\n") if line.strip()]
    return [line for line in {*lines[:2], *lines[-2:]} if not _is_row(line)]


def _unnumbered(line: str) -> str:
    return regex.sub(r"[\d\W]+|\b[ivxlc]+\b", " ", line).strip()


def _page(data: bytes) -> str:
    """The Markdown of a PDF of one page."""
    import pdfplumber
    from markitdown import StreamInfo
    from markitdown.converters import PdfConverter
    from pdfminer.high_level import extract_text

    text = extract_text(io.BytesIO(data))
    with pdfplumber.open(io.BytesIO(data)) as pdf:
        found = [[[" ".join((c or "").split()) for c in row] for row in rows] for rows in pdf.pages[0].extract_tables()]
    if not any(map(is_table, found)):
        converted = PdfConverter().convert(io.BytesIO(data), StreamInfo(extension=".pdf")).markdown
        found = [rows for rows in tables_in(converted) if not is_prose(rows, text)]
    return page_text(text, [rows for rows in found if is_table(rows)])


def tables_in(markdown: str) -> list[list[list[str]]]:
    """The rows of the tables of a text in Markdown, each with its header."""
    blocks = regex.findall(r"(?m)(?:^\|.*(?:\n|$))+", markdown)
    lines = [[line for line in block.splitlines() if not regex.fullmatch(r"[|\s:-]+", line)] for block in blocks]
    return [[[cell.strip() for cell in line.strip().strip("|").split("|")] for line in block] for block in lines]


def is_table(rows: Rows) -> bool:
    """Whether rows have a head of two cells or more, and nearly all of their cells are filled."""
    cells = [bool(cell.strip()) for row in rows for cell in row]
    return len(rows) > 1 and len(rows[0]) > 1 and all(rows[0]) and sum(cells) >= _FILLED * len(cells)


def is_prose(rows: Rows, text: str) -> bool:
    """Whether rows stand in the text as lines: then their cells are words of sentences, set with wide gaps."""
    whole = " ".join(text.split())
    lines = sum(" ".join(" ".join(row).split()) in whole for row in rows)
    return lines > _AS_LINES * len(rows)


def page_text(text: str, tables: Sequence[Rows]) -> str:
    """The Markdown of a page: its text, in which each table stands in the place of its cells."""
    text = regex.sub(r"(?<=\S)[ \u00a0]{2,}(?=\S)", " ", text.replace("\f", "\n\n"))
    parts = [part.strip("\n") for part in regex.split(r"\n\s*\n", text) if part.strip()]
    for rows in tables:
        cells = {" ".join(cell.split()) for row in rows for cell in row} | {
            " ".join(" ".join(row).split()) for row in rows
        }
        start, end = _longest_run([all(" ".join(line.split()) in cells for line in part.split("\n")) for part in parts])
        parts[start:end] = [markdown_table(rows)]
    return joined(parts)


def _longest_run(flags: Sequence[bool]) -> tuple[int, int]:
    """(start, end) of the longest run of true flags; (n, n) where none is true."""
    best = (len(flags), len(flags))
    start = 0
    for place, flag in enumerate([*flags, False]):
        if flag:
            continue
        if place - start > best[1] - best[0]:
            best = (start, place)
        start = place + 1
    return best


def joined(parts: Sequence[str]) -> str:
    """The paragraphs of a page, as one text without the blank lines that only wide line spacing made.

    A paragraph goes on in the next one if it does not end with a sentence, and its last line is full or the next begins
    with a small letter. "Key: value" lines that follow each other are one paragraph.
    """
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


def _is_row(line: str) -> bool:
    return line.startswith("|")
