"""A capacity study for people: every cell, the knee of each rank, and what made it."""

from __future__ import annotations

from lorary.memories.capacity_study import CapacityStudy
from lorary.research.memory_study import made_by
from lorary.statistics import wilson
from lorary.tables import ABSENT, counted, markdown_table, with_interval

_HEAD = [
    "rank",
    "facts",
    "answer tokens",
    "shown",
    "every trained wording",
    "an unseen wording (95 %)",
    "seconds",
    "of the processor",
    "bytes",
    "parameters",
]


def tell_capacity(study: CapacityStudy) -> str:
    """The study in Markdown."""
    made = study.configuration
    rows = [
        [
            str(cell.rank),
            str(cell.load),
            f"{cell.answer_tokens:,}",
            f"{cell.shown:.1f}",
            f"{cell.recall_trained:.3f}",
            with_interval(wilson(cell.recall_unseen, cell.load)),
            f"{cell.seconds:.0f}",
            f"{cell.processor_seconds:.0f}",
            f"{cell.bytes:,}",
            f"{cell.parameters:,}",
        ]
        for rank in study.ranks
        for cell in study.points(rank)
    ]
    lines = [
        "# Capacity",
        "",
        *(["**Partial**: the run is not finished; the same command goes on.", ""] if study.partial else []),
        markdown_table([_HEAD, *rows]),
        "",
        f"The knee is the largest load that recalls {study.recall:g} of its facts under an unseen wording:",
        "",
        markdown_table(_knees(study)),
        "",
        f"- Every load makes {counted(made['exposures'], 'pass')} over its facts, each in "
        f"{counted(made['wordings'], 'wording')}; a row whose every token is certain is passed "
        "over three times in four, and `shown` is how often a fact was shown. Intervals are over facts, of one set of "
        "facts.",
        f"- Base {made['base']}, layers from {made['split_layer']}, {counted(len({c.seed for c in study.cells}), 'seed')}.",
        f"- {made_by(study)}. Seconds are of that machine as it was then, shared by row tokens among the memories that "
        "were written together.",
        "",
    ]
    return "\n".join(lines)


def _knees(study: CapacityStudy) -> list[list[str]]:
    rows = [["rank", "knee", "answer tokens", "facts a 1,000 parameters", "answer tokens a 1,000 parameters"]]
    for rank in study.ranks:
        cell = study.knee(rank, study.recall)
        if cell is None:
            rows.append([str(rank), "none measured", *[ABSENT] * 3])
            continue
        most = " or more" if cell.load == study.points(rank)[-1].load else ""
        density = [f"{1000 * count / cell.parameters:.3f}" for count in (cell.load, cell.answer_tokens)]
        rows.append([str(rank), f"{counted(cell.load, 'fact')}{most}", f"{cell.answer_tokens:,}", *density])
    return rows
