"""Progress for people: what is happening and how long it will take, on standard error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partialmethod

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from tqdm.auto import tqdm


@dataclass
class ProgressBar:
    """One bar: `start` names a stage of so many passes, `report` says how far the current pass is."""

    progress: Progress
    task: TaskID

    def start(self, stage: str, total: int) -> None:
        """Begins a stage; its length is at most `total`."""
        self._passes, self._last = 0.0, 0.0
        self.progress.reset(self.task, total=total, description=stage, note="")

    def report(self, done: int, of: int, recall: Sequence[float]) -> None:
        """`done` of `of` rows of the current pass; `recall` by memory under validation wordings."""
        share = done / of
        self._passes, self._last = self._passes + (1.0 if done == of else 0.0), share
        finished = sum(value >= 1 for value in recall)
        note = f"recalled {100 * sum(recall) / len(recall):.0f} % of validation wordings, {finished} memories whole"
        self.progress.update(self.task, completed=self._passes + (share if share < 1 else 0.0), note=note)

    def advance(self, count: int = 1, note: str = "") -> None:
        """So much more is done."""
        self.progress.update(self.task, advance=count, note=note)


@contextmanager
def progress_bar(stage: str, quiet: bool = False) -> Iterator[ProgressBar]:
    """A progress bar on standard error; without a terminal it prints its last state only."""
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
        yield ProgressBar(progress, progress.add_task(stage, total=1, note=""))


def silence_loading_bars() -> None:
    """Turns other libraries' bars off for this process: loading takes seconds, and our own tell of what is long."""
    # The environment variable is read when tqdm is imported, which importing `lorary` has done.
    tqdm.__init__ = partialmethod(tqdm.__init__, disable=True)  # type: ignore[method-assign]
