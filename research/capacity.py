"""The capacity study: rank × load of invented facts, each fact shown as often whatever the load → recall, cost, the knee.

arXiv 2603.01097 fixed the steps of a run, so its large loads were also under-trained; here every load makes the same
number of passes over its facts' wordings, and no memory stops early. As in `lorary build`, what is certain already is
shown one pass in four; each cell tells how often a fact was shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from safetensors.torch import save as to_safetensors
from torch import Tensor

from lorary.bank.adapters import PREFIX
from lorary.bank.facts import Fact
from lorary.base.loading import EMBEDDED, Base, load_base
from lorary.base.rows import default_split
from lorary.memories.capacity_study import SCHEMA, STUDY, CapacityStudy, Cell, read_capacity
from lorary.memories.groups import Result, side_by_side, write_groups
from lorary.memories.rows import rows
from lorary.memories.writing import Recipe, Written
from lorary.progress import progress_bars
from lorary.research.fact_sets import invented_facts
from lorary.research.memory_study import PLOT, heading, made_by, reporter, settings_in
from lorary.research.plots import recall_by_load
from lorary.research.settings import Grid
from lorary.resume import REPORT, go_on, write_results
from lorary.statistics import wilson
from lorary.tables import ABSENT, counted, markdown_table, with_interval

Place = tuple[int, int, int]
"""Of a cell: rank, load, seed."""


def measure_capacity(
    out: str | Path,
    *,
    grid: Grid | None = None,
    base: str | Base = EMBEDDED,
    processes: int | None = None,
    quiet: bool = False,
) -> CapacityStudy:
    """Measures every cell of the grid; writes `results.json`, `report.md` and `recall.png` into `out` after each group.

    Cells that stand in `out` already, under the same settings, are kept.

    Args:
        processes: that write groups of memories side by side, where the base is given by name; None: one a core.

    Raises:
        ResumeError: `out` holds a study under other settings, or files of somebody else.
    """
    grid, place = grid or Grid(), Path(out)
    loaded = load_base(base) if isinstance(base, str) else base
    at_once = side_by_side(len(packs(grid, set())), processes if isinstance(base, str) else 1, loaded.model.device)
    study = _begin(place, grid, loaded, at_once)
    missing = packs(grid, {(cell.rank, cell.load, cell.seed) for cell in study.cells})
    recipes = [recipe_of(grid, pack[0][0], pack[0][2]) for pack in missing]
    groups = [[invented_facts(load, seed, grid.wordings) for _, load, seed in pack] for pack in missing]
    with progress_bars(quiet) as bars:
        bar = bars.start("measuring capacity", grid.exposures * sum(load for pack in missing for _, load, _ in pack))
        reports = []
        for number, pack in enumerate(missing, 1):
            facts = sum(load for _, load, _ in pack)
            named = f"group {number} of {len(missing)} (rank {pack[0][0]}, {counted(facts, 'fact')})"
            reports.append(reporter(bar, facts, named))
        split, shared = default_split(loaded.model), shown_again(grid, missing)
        for made in write_groups(loaded, {}, groups, recipes, split, reports, at_once, shared):
            study.cells.extend(cells_of(loaded, missing[made.number], groups[made.number], made))
            _write(study, place)
    study.partial = False
    _write(study, place)
    return study


def packs(grid: Grid, stand: set[Place]) -> list[list[Place]]:
    """The cells that do not stand yet, in groups of one rank that hold at most the largest load's facts.

    A step takes a fixed number of rows, so the memories of full groups make about as many steps as each other, whatever
    their load. Groups of small loads come first: they tell most a minute.
    """
    packed: list[list[Place]] = []
    for rank in dict.fromkeys(grid.ranks):
        groups: list[list[Place]] = []
        cells = [(rank, load, seed) for load in sorted(set(grid.loads), reverse=True) for seed in range(grid.seeds)]
        for cell in [cell for cell in cells if cell not in stand]:
            fits = [group for group in groups if sum(load for _, load, _ in [*group, cell]) <= max(grid.loads)]
            if fits:
                fits[0].append(cell)
            else:
                groups.append([cell])
        packed += groups
    return sorted(packed, key=lambda group: group[0][1])


def shown_again(grid: Grid, missing: Sequence[Sequence[Place]]) -> list[Fact]:
    """The facts that memories of several groups show: of each seed the longest list, with which all others begin."""
    largest = dict(sorted((seed, load) for pack in missing for _, load, seed in pack))
    return [fact for seed, load in largest.items() for fact in invented_facts(load, seed, grid.wordings)]


def recipe_of(grid: Grid, rank: int, seed: int = 0) -> Recipe:
    """How the memories of a group are written: as `lorary build` does, but each to the last pass."""
    plain = Recipe()
    alpha = rank * plain.lora_alpha // plain.r
    cells = {"r": rank, "lora_alpha": alpha, "max_epochs": grid.exposures, "seed": seed}
    return Recipe(**cells, recall=None, texts=0, texts_a_pass=None)


def cells_of(base: Base, pack: Sequence[Place], facts: Sequence[Sequence[Fact]], made: Result) -> list[Cell]:
    """The cells of one written group, whose memories shared the passes over the base and so share its seconds."""
    cells = [_cell(base, *cell) for cell in zip(pack, facts, made.written, strict=True)]
    tokens = sum(cell.row_tokens for cell in cells)
    shares = [(cell, cell.row_tokens / tokens) for cell in cells]
    clock, processor = made.seconds, made.processor_seconds
    return [replace(c, seconds=round(clock * s, 1), processor_seconds=round(processor * s, 1)) for c, s in shares]


def _cell(base: Base, place: Place, facts: Sequence[Fact], written: Written) -> Cell:
    tensors: dict[str, Tensor] = {}
    for path, (a, b) in written.factors.items():
        tensors[f"{PREFIX}{path}.lora_A.weight"], tensors[f"{PREFIX}{path}.lora_B.weight"] = a, b.contiguous()
    shown = rows(base.tokenizer, [facts])
    answers = {row.fact: len(row.ids) - row.start for row in shown}
    assert written.trained_recall is not None, "every invented fact has wordings to train on"
    assert written.validation_recall is not None, "and one for validation"
    return Cell(
        **dict(zip(("rank", "load", "seed"), place, strict=True)),
        recall_trained=round(written.trained_recall, 4),
        recall_unseen=round(written.validation_recall, 4),
        seconds=0.0,
        processor_seconds=0.0,
        bytes=len(to_safetensors(tensors, metadata={"format": "pt"})),
        parameters=sum(tensor.numel() for tensor in tensors.values()),
        answer_tokens=sum(answers.values()),
        row_tokens=sum(len(row.ids) for row in shown),
        shown=round(written.shown / len(facts), 2),
    )


def _begin(place: Path, grid: Grid, base: Base, processes: int) -> CapacityStudy:
    """The study that stands in `place`, to go on with, or an empty one."""
    recipe = asdict(recipe_of(grid, 1))
    configuration: dict[str, Any] = {
        "exposures": grid.exposures,
        "wordings": grid.wordings,
        "rows_a_step": recipe["batch_size"],
        "alpha_over_rank": recipe["lora_alpha"],
        **{name: recipe[name] for name in ("target_modules", "lr", "compared", "thinned_copies", "thinned_share")},
    }
    fresh = CapacityStudy(**heading(SCHEMA, base, configuration, processes), recall=grid.recall, cells=[])
    if go_on(place, STUDY, SCHEMA, settings_in(fresh), writes=(REPORT, PLOT)) is not None:
        fresh.cells.extend(read_capacity(place).cells)
    return fresh


def _write(study: CapacityStudy, place: Path) -> None:
    study.cells.sort(key=lambda cell: (cell.rank, cell.load, cell.seed))
    write_results(place, study.to_json(), {REPORT: tell_capacity(study).encode(), PLOT: recall_by_load(study)})


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
