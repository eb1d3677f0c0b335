"""The studies' plots, as PNG files: recall from 0 to 1 against what was varied."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lorary.memories.capacity_study import CapacityStudy

_COLOURS = ("#9ecae8", "#5aa5d8", "#2f7ed8", "#1f5aa8", "#0f3468")
_MARKS = "osD^v"
Point = Mapping[str, float]
"""A share with its interval: value, low and high."""


def recall_by_load(study: CapacityStudy) -> bytes:
    """A PNG: recall (y, 0 to 1) against facts a memory (x, by powers of two), a line a rank.

    Whole lines are unseen wordings, broken ones every trained wording; the grey line is the share that defines the knee.
    """
    figure = _figure()
    axes = figure.add_subplot()
    for number, rank in enumerate(study.ranks):
        points = study.points(rank)
        colour, mark = _COLOURS[number % len(_COLOURS)], _MARKS[number % len(_MARKS)]
        loads = [cell.load for cell in points]
        axes.plot(loads, [c.recall_trained for c in points], "--", color=colour, linewidth=1, alpha=0.8)
        unseen = [c.recall_unseen for c in points]
        axes.plot(loads, unseen, mark + "-", color=colour, markersize=5, label=f"rank {rank}", clip_on=False)
    axes.axhline(study.recall, color="grey", linewidth=0.8, zorder=0)
    _doubling(axes, sorted({cell.load for cell in study.cells}), "facts in a memory")
    axes.set_ylabel("share of facts recalled")
    axes.set_title("unseen wordings (whole lines), every trained wording (broken)", fontsize=10)
    if study.cells:
        axes.legend(frameon=False, loc="lower left")
    return _png(figure)


def recall_by_texts(
    trained: Mapping[int, float], unseen: Mapping[int, Point], others: Mapping[str, Point], reference: float | None
) -> bytes:
    """A PNG of two parts: recall against the number of trained wordings, and under other texts in their place.

    Args:
        trained, unseen: number of wordings → recall under trained ones, and under held-out ones with its interval.
        others: name of a setting → recall under held-out wordings with its interval.
        reference: recall of the setting that the others are compared with, a grey line.
    """
    figure = _figure(width=9.6)
    left, right = figure.subplots(1, 2, width_ratios=(1, 0.9))
    _intervals(left, list(unseen), list(unseen.values()))
    left.plot(
        list(unseen), [share["value"] for share in unseen.values()], "o-", color=_COLOURS[2], label="held-out wordings"
    )
    left.plot(list(trained), list(trained.values()), "--", color=_COLOURS[1], linewidth=1, label="trained wordings")
    _doubling(left, sorted({*unseen, *trained}), "wordings of a fact that were trained on")
    left.set_ylabel("share recalled")
    if unseen:
        left.legend(frameon=False, loc="lower right")
    names = list(others)
    for place, share in enumerate(others.values()):
        right.plot([share["low"], share["high"]], [place, place], color=_COLOURS[2], linewidth=1.5, alpha=0.5)
        right.plot([share["value"]], [place], "o", color=_COLOURS[2], clip_on=False)
    right.set_yticks(range(len(names)), names)
    right.set_ylim(max(1, len(names)) - 0.5, -0.5)  # from the first name down; there may be none yet
    right.set_xlim(0, 1.02)
    right.set_xlabel("share recalled under held-out wordings")
    if reference is not None:
        right.axvline(reference, color="grey", linewidth=0.8, zorder=0)
    for axes, title in ((left, "how many wordings"), (right, "which texts (the line is the reference)")):
        axes.set_title(title, fontsize=10)
        _clean(axes)
    return _png(figure)


def ratios_by_memories(lines: Mapping[str, Mapping[str, Sequence[float]]]) -> bytes:
    """A PNG: time as a ratio to the base's (y) against the number of memories (x, by powers of two), a line a way.

    Args:
        lines: way → number of memories → [ratio, least, greatest].
    """
    figure = _figure()
    axes = figure.add_subplot()
    for number, (line, points) in enumerate(lines.items()):
        colour, mark = _COLOURS[number % len(_COLOURS)], _MARKS[number % len(_MARKS)]
        counts = sorted(map(int, points))
        spreads = [points[str(count)] for count in counts]
        axes.vlines(counts, [low for _, low, _ in spreads], [high for *_, high in spreads], color=colour, alpha=0.5)
        axes.plot(counts, [ratio for ratio, *_ in spreads], mark + "-", color=colour, markersize=5, label=line)
    axes.axhline(1, color="grey", linewidth=0.8, zorder=0)
    axes.set_xscale("log", base=2)
    counts = sorted({int(count) for points in lines.values() for count in points})
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.set_xlabel("memories")
    axes.set_ylabel("time ÷ the base's")
    _clean(axes)
    if lines:
        axes.legend(frameon=False, fontsize=8)
    return _png(figure)


def _intervals(axes: Axes, x: Sequence[int], points: Sequence[Point]) -> None:
    for at, share in zip(x, points, strict=True):
        axes.plot([at, at], [share["low"], share["high"]], color=_COLOURS[2], linewidth=1.5, alpha=0.5)


def _doubling(axes: Axes, ticks: Sequence[int], label: str) -> None:
    """Shares against numbers that double."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(0, 1.02)
    axes.set_xlabel(label)
    _clean(axes)


def _clean(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.2)


def _figure(width: float = 7.0) -> Figure:
    return Figure(figsize=(width, 4.4), layout="constrained", dpi=150)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
