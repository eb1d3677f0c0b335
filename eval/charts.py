"""Charts as SVG texts that stand in a page: their ink is the page's text colour, so they suit light and dark."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lorary.eval.figures import CalibrationBin, Score

_INK = "#12ab34"
"""Stands for the page's text colour until the SVG is written; no series has it."""
_SERIES = ("#2f7ed8", "#e07b00", "#2a9d6f", "#a05ad6", "#c8415b")
_MARKS = "osD^vPX"
_WIDTH = 4.7
_FIT = 16
"""Columns of a matrix whose labels can be read on a phone without scrolling."""
_STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "grid.color": _INK,
    "grid.alpha": 0.15,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
}


def topics(by_condition: Mapping[str, Mapping[str, float]]) -> str:
    """Recall (x, 0 to 1) of each topic (y), a mark a condition."""
    names = list(next(iter(by_condition.values())))
    with rc_context(_STYLE):
        figure, axes = _axes(height=1.2 + 0.3 * len(names))
        for number, (condition, held) in enumerate(by_condition.items()):
            # Marks of one topic lie side by side, since conditions often agree.
            places = [y + 0.6 * ((number + 0.5) / len(by_condition) - 0.5) for y in range(len(names))]
            axes.plot([held[name] for name in names], places, **_mark(number), label=condition, markersize=4.5, lw=0)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(-0.03, 1.03)
        axes.set_xlabel("exact match")
        axes.grid(axis="both")
        _legend(axes, len(by_condition))
        return _svg(figure, "topics")


def confusion(rows: Sequence[str], columns: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """The memory that was asked for (rows) against the one that answered (columns), shaded by its share of the row.

    Of many memories it is as wide as its labels need, and its id is `wide`, so that a page lets it scroll.
    """
    wide = len(columns) > _FIT
    width = 1.6 + 0.25 * len(columns) if wide else _WIDTH
    with rc_context({**_STYLE, "font.size": 8}):
        figure, axes = _axes(height=1.2 + 0.62 * width * len(rows) / len(columns), width=width)
        for y, row in enumerate(counts):
            for x, count in enumerate(row):
                if count:
                    square = [x - 0.5, x + 0.5, x + 0.5, x - 0.5], [y - 0.5, y - 0.5, y + 0.5, y + 0.5]
                    axes.fill(*square, _SERIES[0], alpha=count / sum(row))
                    axes.text(x, y, str(count), ha="center", va="center")
        axes.set_xticks(range(len(columns)), columns, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(rows)), rows)
        axes.set_xlim(-0.5, len(columns) - 0.5)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel("answered by")
        axes.set_ylabel("held by")
        return _svg(figure, "wide" if wide else "confusion")


def reliability(bins: Sequence[CalibrationBin]) -> str:
    """The share of right choices (y) against the gate's confidence (x), a mark a bin, its area the questions in it."""
    most = max(b.questions for b in bins)
    with rc_context(_STYLE):
        figure, axes = _axes(height=3.4)
        axes.plot([0, 1], [0, 1], "--", color=_INK, alpha=0.5, linewidth=1, label="as sure as right")
        sizes = [20 + 140 * b.questions / most for b in bins]
        x, y = [b.confidence for b in bins], [b.right for b in bins]
        axes.plot(x, y, color=_SERIES[0], linewidth=1, alpha=0.6)
        axes.scatter(x, y, sizes, color=_SERIES[0], alpha=0.85, label="gate", zorder=3, clip_on=False)
        axes.set_xlim(0, 1.02)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("confidence")
        axes.set_ylabel("share right")
        axes.grid()
        _legend(axes, 2)
        return _svg(figure, "reliability")


def damage(points: Mapping[str, tuple[float, float]]) -> str:
    """Perplexity of unrelated text, as a multiple of the base's (y), against recall (x), a mark a way of routing."""
    with rc_context(_STYLE):
        figure, axes = _axes(height=3.0)
        axes.axhline(1.0, linestyle="--", color=_INK, alpha=0.5, linewidth=1)
        for number, (name, (recalled, ratio)) in enumerate(points.items()):
            axes.plot([recalled], [ratio], **_mark(number), label=name, markersize=7, lw=0, clip_on=False)
        axes.set_xlim(-0.03, 1.03)
        if max(ratio for _, ratio in points.values()) > 10:
            axes.set_yscale("log")
        axes.set_xlabel("exact match")
        axes.set_ylabel("perplexity ÷ the base's")
        axes.grid()
        _legend(axes, len(points))
        return _svg(figure, "damage")


def numbers(series: Mapping[str, Sequence[tuple[int, Score]]], label: str) -> str:
    """Recall with its interval (y, 0 to 1) against a number of memories (x, doubling), a line a series.

    Args:
        label: of the x axis.
    """
    with rc_context(_STYLE):
        figure, axes = _axes(height=3.2)
        ticks = sorted({number for held in series.values() for number, _ in held})
        for place, (name, held) in enumerate(series.items()):
            style = _mark(place)
            # Lines lie side by side, since ways often agree.
            x = [number * 1.03 ** (place - (len(series) - 1) / 2) for number, _ in held]
            y = [score.value for _, score in held]
            for at, (_, score) in zip(x, held, strict=True):
                axes.plot([at, at], [score.low, score.high], color=style["color"], linewidth=1.5, alpha=0.5)
            axes.plot(x, y, "-", **style, label=name, markersize=4.5, linewidth=1)
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlabel(label)
        axes.set_ylabel("exact match")
        axes.grid()
        _legend(axes, len(series))
        return _svg(figure, label.replace(" ", "-"))


def split(parts: Mapping[str, Mapping[str, float]]) -> str:
    """Milliseconds (x) of each part of an answer, stacked, a bar a way of routing (y)."""
    names = list(parts)
    with rc_context(_STYLE):
        figure, axes = _axes(height=1.6)
        before = [0.0] * len(names)
        for number, part in enumerate(next(iter(parts.values()))):
            width = [parts[name][part] for name in names]
            axes.barh(names, width, left=before, height=0.55, color=_SERIES[number], label=part)
            before = [b + w for b, w in zip(before, width, strict=True)]
        axes.invert_yaxis()
        axes.set_xlabel("milliseconds")
        axes.grid(axis="x")
        _legend(axes, 3)
        return _svg(figure, "split")


def _mark(number: int) -> dict[str, Any]:
    """Colour and mark of a series: of so many colours and marks no two pairs are alike."""
    turn, colour = divmod(number, len(_SERIES))
    return {"color": _SERIES[colour], "marker": _MARKS[(colour + turn) % len(_MARKS)]}


def _axes(height: float, width: float = _WIDTH) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _legend(axes: Axes, entries: int) -> None:
    """The legend above the plot, where no data lie, in even rows of three at most."""
    rows = math.ceil(entries / 3)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=math.ceil(entries / rows), handletextpad=0.4)


def _svg(figure: Figure, name: str) -> str:
    """The figure as an `<svg>` element, the same bytes each time, with ids of its own."""
    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": name, "svg.id": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace(_INK, "currentColor")
