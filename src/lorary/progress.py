"""Progress for people: what is happening and how long it will take, on standard error."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partialmethod

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from tqdm.auto import tqdm

from lorary.tables import counted


@dataclass
class ProgressBar:
    """One bar: how far a stage is, of a length that it can fall short of."""

    progress: Progress
    task: TaskID

    def report(self, passes: float, recall: Sequence[float]) -> None:
        """So many passes are done, and this is the recall by memory under validation wordings, NaN where it has none."""
        measured = [value for value in recall if not math.isnan(value)]
        whole = sum(value >= 1 for value in measured)
        note = "no validation wordings, so recall is not measured"
        if measured:
            share = 100 * sum(measured) / len(measured)
            note = f"recalled {share:.0f} % under validation wordings, {counted(whole, 'memory')} whole"
        self.progress.update(self.task, completed=passes, note=note)

    def advance(self, count: int = 1, note: str = "") -> None:
        """So much more is done."""
        self.progress.update(self.task, advance=count, note=note)


@dataclass
class ProgressBars:
    """The bars of one command."""

    progress: Progress

    def start(self, stage: str, total: int) -> ProgressBar:
        """A bar for a stage whose length is at most `total`."""
        return ProgressBar(self.progress, self.progress.add_task(stage, total=total, note=""))


@contextmanager
def progress_bars(quiet: bool = False) -> Iterator[ProgressBars]:
    """Progress bars on standard error; without a terminal they print their last state only."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("at most"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as progress:
        yield ProgressBars(progress)


def silence_loading_bars() -> None:
    """Turns other libraries' bars off for this process: loading takes seconds, and our own tell of what is long."""
    # tqdm reads its environment variable when it is imported, which may have been long ago.
    tqdm.__init__ = partialmethod(tqdm.__init__, disable=True)  # type: ignore[method-assign]
