"""Markdown → its blocks, each under its headings: what questions, lists and tables in documents are read from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import regex
from markdown_it import MarkdownIt
from markdown_it.token import Token

_BOLD_LEVEL = 6
_BOLD_LINE = regex.compile(r"(\*\*|__)(?P<text>[^*\n]{2,100})\1:?")


@dataclass(frozen=True)
class Block:
    """A paragraph, an item of a list, a heading or a table of Markdown.

    Args:
        kind: "heading", "paragraph", "item" or "table".
        text: its Markdown, lines apart; empty for a table.
        headings: those that it stands under, the outermost first; a heading stands under itself.
        line: where it begins, from 1 on.
        rows: the cells of a table, its header first.
        level: of a heading, 1 to 6.
    """

    kind: str
    text: str
    headings: tuple[str, ...] = ()
    line: int = 0
    rows: tuple[tuple[str, ...], ...] = ()
    level: int = 0


def blocks_of(markdown: str) -> list[Block]:
    """The blocks of a text in Markdown, in order; code is left out.

    A paragraph that is a bold line alone is a heading, too; in a text without any, short lines without an end are.
    """
    blocks = list(_parsed(MarkdownIt("commonmark").enable("table").parse(markdown)))
    if not any(block.kind == "heading" for block in blocks):
        blocks = [replace(b, kind="heading", level=_BOLD_LEVEL) if _is_short_line(b) else b for b in blocks]
    path: list[tuple[int, str]] = []
    for place, block in enumerate(blocks):
        if block.kind == "heading":
            path = [(level, title) for level, title in path if level < block.level] + [(block.level, block.text)]
        blocks[place] = replace(block, headings=tuple(title for _, title in path))
    return blocks


def _parsed(tokens: Sequence[Token]) -> Iterator[Block]:
    """The blocks of tokens, not yet under their headings."""
    place = 0
    while place < len(tokens):
        token = tokens[place]
        line = token.map[0] + 1 if token.map else 0
        if token.type == "heading_open":
            yield Block("heading", plain(tokens[place + 1].content), line=line, level=int(token.tag[1:]))
        elif token.type == "table_open":
            end = next(i for i in range(place, len(tokens)) if tokens[i].type == "table_close")
            yield Block("table", "", line=line, rows=_rows(tokens[place:end]))
            place = end
        elif token.type == "inline" and tokens[place - 1].type == "paragraph_open":
            bold = _BOLD_LINE.fullmatch(token.content.strip())
            if token.level == 1 and bold and not bold["text"].rstrip().endswith(("?", "？")):
                yield Block("heading", plain(bold["text"]), line=line, level=_BOLD_LEVEL)
            else:
                starts = tokens[place - 2].type == "list_item_open"
                yield Block("item" if starts else "paragraph", token.content, line=line)
        place += 1


def _is_short_line(block: Block) -> bool:
    """Whether a paragraph may be a heading of a text that marks none."""
    text = block.text.strip()
    ended = regex.search(r"[.!?。！？:：;,]$", text)
    return block.kind == "paragraph" and "\n" not in text and len(text) <= 60 and not ended and ": " not in text


def plain(text: str) -> str:
    """Inline Markdown without its marks: emphasis, code, links and HTML tags."""
    text = regex.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = regex.sub(r"<(https?://[^>]*)>", r"\1", text)
    text = regex.sub(r"</?\p{L}[^<>]*>", " ", text)
    text = regex.sub(r"(?s)(\*\*\*|\*\*|\*|`)(?=\S)(.+?)(?<=\S)\1", r"\2", text)
    text = regex.sub(r"(?<![\p{L}\p{N}])(__|_)(?=\S)(.+?)(?<=\S)\1(?![\p{L}\p{N}])", r"\2", text)
    text = regex.sub(r"\\([\\`*_{}\[\]()#+.!|<>-])", r"\1", text)
    return " ".join(text.split())


def cut_at_headings(blocks: Sequence[Block], lines: int) -> list[tuple[str, int, int]]:
    """(heading, first line, line after the last) of the parts of a document, from 0 on; the first part has no heading.

    A document is cut at its outermost level that has two headings or more; one heading above them is the title.
    """
    levels = [block.level for block in blocks if block.kind == "heading"]
    level = next((level for level in range(1, 7) if levels.count(level) > 1), 0)
    starts = [(block.text, block.line - 1) for block in blocks if block.kind == "heading" and block.level == level]
    starts = [("", 0), *starts, ("", lines)]
    return [(heading, start, end) for (heading, start), (_, end) in pairwise(starts)]


def _rows(tokens: Sequence[Token]) -> tuple[tuple[str, ...], ...]:
    rows: list[list[str]] = []
    for place, token in enumerate(tokens):
        if token.type == "tr_open":
            rows.append([])
        elif token.type in ("th_open", "td_open"):
            rows[-1].append(plain(tokens[place + 1].content))
    return tuple(map(tuple, rows))
