"""A capacity study as it lies on disk: what a memory of each rank recalled of each load of facts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import groupby
from pathlib import Path
from typing import Any

from lorary.resume import Header, ResumeError, header_of, read_results

STUDY = "capacity"
SCHEMA = 2
SHIPPED = Path(__file__).with_name("capacity.json")
"""The study that a plan is made from where none is given, in installs that ship one."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One memory of the study.

    Args:
        load: facts in it.
        recall_trained: share of its facts recalled under every trained wording, by greedy decoding.
        recall_unseen: share recalled under a wording that no fact was trained on.
        seconds: of writing above the split; of memories written together, each one's share by row tokens.
        processor_seconds: the same in processor time; fewer on a busy machine, more where several threads work.
        bytes: of its adapter file.
        answer_tokens: of all its answers, each with the token that ends it.
        row_tokens: of all its rows (every trained wording with its answer), which one pass reads.
        shown: times that a fact was shown, on average over its facts; what is certain already is shown less often.
    """

    rank: int
    load: int
    seed: int
    recall_trained: float
    recall_unseen: float
    seconds: float
    processor_seconds: float
    bytes: int
    parameters: int
    answer_tokens: int
    row_tokens: int
    shown: float


@dataclass(kw_only=True)
class CapacityStudy(Header):
    """All cells that were measured, and what made them; `recall` is the share that defines the knee."""

    recall: float
    cells: list[Cell]

    def to_json(self) -> dict[str, Any]:
        knees = {rank: self.knee(rank, self.recall) for rank in self.ranks}
        return {
            "study": STUDY,
            **asdict(self),
            "knees": {str(rank): None if cell is None else cell.load for rank, cell in knees.items()},
            "seeds": sorted({cell.seed for cell in self.cells}),
        }

    @property
    def ranks(self) -> list[int]:
        return sorted({cell.rank for cell in self.cells})

    def points(self, rank: int) -> list[Cell]:
        """The cells of one rank by load, averaged over seeds."""
        cells = sorted((cell for cell in self.cells if cell.rank == rank), key=lambda cell: cell.load)
        return [_mean(list(group)) for _, group in groupby(cells, key=lambda cell: cell.load)]

    def knee(self, rank: int, recall: float) -> Cell | None:
        """The mean cell of the largest load whose mean recall under unseen wordings is at least `recall`, or None."""
        return next((cell for cell in reversed(self.points(rank)) if cell.recall_unseen >= recall), None)


def _mean(cells: Sequence[Cell]) -> Cell:
    """The mean cell of several seeds; counts are rounded, the seed is the number of seeds."""
    values: dict[str, Any] = {"seed": len(cells)}
    for name in (field.name for field in fields(Cell) if field.name != "seed"):
        mean = sum(getattr(cell, name) for cell in cells) / len(cells)
        values[name] = mean if isinstance(getattr(cells[0], name), float) else round(mean)
    return Cell(**values)


def read_capacity(place: str | Path) -> CapacityStudy:
    """The study in a folder that `lorary research capacity` wrote, or in its `results.json`.

    Raises:
        ResumeError: there is none, or it is not whole.
    """
    results = read_results(place, STUDY, SCHEMA)
    try:
        cells = [Cell(**cell) for cell in results["cells"]]
        return CapacityStudy(**header_of(results), recall=results["recall"], cells=cells)
    except (KeyError, TypeError) as error:
        raise ResumeError(
            f"{place} is not a whole capacity study ({error}); run `lorary research capacity` into another folder"
        ) from None
