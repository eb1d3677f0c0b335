"""Numbers as people read them: a table in Markdown or in lines, a count, a figure, a figure with its interval, a difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

ABSENT = "–"
"""What stands in a table where nothing was measured."""


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """The Markdown table whose first row is its head; an empty text for no rows.

    A bar or a line break within a cell would end the cell or the row, so a bar is escaped and a break becomes a space.
    """
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]] if rows else []
    return "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in lines)


def _cell(text: str) -> str:
    return text.replace("\n", " ").replace("|", r"\|")


def aligned_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines with aligned columns: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        aligned = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        lines.append("  ".join([first.ljust(widths[0]), *aligned]).rstrip())
    return lines


def left_aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of texts as lines with aligned columns, all to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """The number with its noun, in the plural but for 1: "1 fact", "2 memories", "3 passes".

    Args:
        plural: of a noun that has another than these ("person", "people").
    """
    if plural is None and noun.endswith("y") and noun[-2] not in "aeiou":
        plural = f"{noun[:-1]}ies"
    elif plural is None:
        plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def figure(value: float | None, digits: int = 3) -> str:
    """The value with so many digits, or a dash for what was not measured."""
    return ABSENT if value is None else f"{value:.{digits}f}"


def with_interval(score: Mapping[str, float] | None, digits: int = 3) -> str:
    """The value of a score with so many digits and its interval with three, or a dash for what was not measured.

    Args:
        score: `value`, `low` and `high`, as `lorary.statistics.interval` returns them.
    """
    if score is None:
        return ABSENT
    return f"{score['value']:.{digits}f} ({score['low']:.3f} to {score['high']:.3f})"


def percent(score: Mapping[str, float] | None) -> str:
    """The value of a score and its interval in percent, or a dash for what was not measured."""
    if score is None:
        return ABSENT
    return f"{score['value']:.0%} ({100 * score['low']:.0f} to {100 * score['high']:.0f})"


def difference(score: Mapping[str, float] | None, digits: int = 3) -> str:
    """A difference with its sign and its interval, bold where the interval excludes 0."""
    if score is None:
        return ABSENT
    text = f"{score['value']:+.{digits}f} ({score['low']:+.3f} to {score['high']:+.3f})"
    return f"**{text}**" if score["low"] > 0 or score["high"] < 0 else text
