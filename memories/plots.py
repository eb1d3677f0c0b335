"""A capacity study for people: its table and its plot."""

from __future__ import annotations

import io

from matplotlib.figure import Figure

from lorary.memories.planning import Study, knee, wilson

_COLOURS = ("#9ecae8", "#5aa5d8", "#2f7ed8", "#1f5aa8", "#0f3468")
_MARKS = "osD^v"


def recall_by_load(study: Study) -> bytes:
    """A PNG: recall (y, 0 to 1) against facts a memory (x, by powers of two), a line a rank.

    Whole lines are unseen wordings, broken ones every trained wording; the grey line is the share that defines the knee.
    """
    figure = Figure(figsize=(7.0, 4.4), layout="constrained", dpi=150)
    axes = figure.add_subplot()
    for number, rank in enumerate(study.ranks):
        points = study.points(rank)
        colour, mark = _COLOURS[number % len(_COLOURS)], _MARKS[number % len(_MARKS)]
        loads = [cell.load for cell in points]
        axes.plot(loads, [c.recall_trained for c in points], "--", color=colour, linewidth=1, alpha=0.8)
        unseen = [c.recall_unseen for c in points]
        axes.plot(loads, unseen, mark + "-", color=colour, markersize=5, label=f"rank {rank}", clip_on=False)
    axes.axhline(study.recall, color="grey", linewidth=0.8, zorder=0)
    axes.set_xscale("log", base=2)
    loads = sorted({cell.load for cell in study.cells})
    axes.set_xticks(loads, [str(load) for load in loads])
    axes.minorticks_off()
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("facts in a memory")
    axes.set_ylabel("share of facts recalled")
    axes.set_title("unseen wordings (whole lines), every trained wording (broken)", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.2)
    if loads:
        axes.legend(frameon=False, loc="lower left")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def report(study: Study) -> str:
    """The study in Markdown: every cell, the knee of each rank, and what made it."""
    made, machine = study.configuration, study.machine
    rows = [
        ["rank", "facts", "every trained wording", "an unseen wording (95 %)", "seconds", "bytes", "parameters"],
        *(
            [
                str(cell.rank),
                str(cell.load),
                f"{cell.recall_trained:.3f}",
                "{:.3f} ({:.3f} to {:.3f})".format(cell.recall_unseen, *wilson(cell.recall_unseen, cell.load)),
                f"{cell.seconds:.0f}",
                f"{cell.bytes:,}",
                f"{cell.parameters:,}",
            ]
            for rank in study.ranks
            for cell in study.points(rank)
        ),
    ]
    lines = [
        "# Capacity",
        "",
        *(["**Partial**: the run is not finished; the same command goes on.", ""] if study.partial else []),
        *_markdown(rows),
        "",
        f"The knee is the largest load that recalls {study.recall:g} of its facts under an unseen wording:",
        "",
        *_markdown(_knees(study)),
        "",
        f"- Each fact is shown {made['exposures']} times in each of {made['wordings']} wordings, whatever the load; a row "
        "whose every token is certain is passed over three times in four. Intervals are over facts, of one set of facts.",
        f"- Base {made['base']}, layers from {made['split_layer']}, {len({c.seed for c in study.cells})} seeds, "
        f"{study.made}; {', '.join(f'{k} {v}' for k, v in study.versions.items())}.",
        f"- {machine['cpu']}, {machine['threads']} threads, {machine['dtype']}, Python {machine['python']}; seconds are "
        "of that machine as it was then, shared by row tokens among the memories that were written together.",
        "",
    ]
    return "\n".join(lines)


def _knees(study: Study) -> list[list[str]]:
    rows = [["rank", "knee", "answer tokens", "facts a 1,000 parameters", "answer tokens a 1,000 parameters"]]
    for rank in study.ranks:
        cell = knee(study.cells, rank, study.recall)
        if cell is None:
            rows.append([str(rank), "none measured", "–", "–", "–"])
            continue
        most = " or more" if cell.load == study.points(rank)[-1].load else ""
        density = [f"{1000 * count / cell.parameters:.3f}" for count in (cell.load, cell.answer_tokens)]
        rows.append([str(rank), f"{cell.load} facts{most}", f"{cell.answer_tokens:,}", *density])
    return rows


def _markdown(rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in [rows[0], ["---"] * len(rows[0]), *rows[1:]]]
