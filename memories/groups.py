"""Groups of memories written side by side, each in a process of its own with its share of the cores.

One small model keeps a single core busy: its products are too small for a second thread to help. What a group holds
is the recipe's choice, never the number of processes, so the same seeds give the same memories on any machine.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from joblib import Parallel, delayed
from torch import Tensor

from lorary.bank.facts import Fact
from lorary.base.loading import Base, load_base
from lorary.errors import LoraryError
from lorary.memories.rows import Known, states_of
from lorary.memories.writing import Recipe, Report, Written, write
from lorary.progress import silence_loading_bars

Group = Sequence[Sequence[Fact]]
"""The facts of each memory of a group."""


class Result(NamedTuple):
    """A written group: its number, its memories, and the seconds it took, of the clock and of the processor."""

    number: int
    written: list[Written]
    seconds: float
    processor_seconds: float


def side_by_side(groups: int, processes: int | None, device: torch.device) -> int:
    """How many processes write: one a core at most, or as many as asked for; one on an accelerator.

    Raises:
        LoraryError: fewer than one.
    """
    if processes is not None and processes < 1:
        raise LoraryError(f"{processes} processes cannot write; give 1 or more, or none for one a core")
    return min(groups, processes or (torch.get_num_threads() if device.type == "cpu" else 1))


def write_groups(
    base: Base,
    load: dict[str, Any],
    groups: Sequence[Group],
    recipes: Sequence[Recipe],
    split_layer: int,
    reports: Sequence[Report],
    processes: int,
    shared: Sequence[Fact] = (),
) -> Iterator[Result]:
    """The memories of each group, as groups are finished.

    Args:
        shared: facts that several groups show. Each process runs their wordings below the split once, all of them in
            one order, so that what a memory comes to does not depend on the process that wrote it.
        load: how other processes load the base again by its name (`load_base`).
        recipes: one a group.
        reports: one a group, called as `write` calls it.
    """
    if processes <= 1:
        known = states_of(base, shared, split_layer) if shared else None
        for number, group in enumerate(groups):
            yield _timed(number, base, group, recipes[number], split_layer, reports[number], known)
        return
    threads = max(1, torch.get_num_threads() // processes)
    parallel = Parallel(n_jobs=processes, return_as="generator_unordered", inner_max_num_threads=threads)
    with _told([len(group) for group in groups], reports) as places:
        work = delayed(_in_a_process)
        yield from parallel(
            work(number, base.name, load, group, recipes[number], split_layer, places[number], tuple(shared))
            for number, group in enumerate(groups)
        )


def _timed(
    number: int, base: Base, group: Group, recipe: Recipe, split_layer: int, report: Report, known: Known | None
) -> Result:
    began, spent = time.perf_counter(), time.process_time()
    written = write(base, group, recipe, split_layer, report, known)
    return Result(number, written, time.perf_counter() - began, time.process_time() - spent)


@lru_cache(maxsize=1)
def _loaded(name: str, load: tuple[tuple[str, Any], ...]) -> Base:
    """The base, loaded once a process."""
    silence_loading_bars()
    return load_base(name, **dict(load))


@lru_cache(maxsize=1)
def _known(name: str, load: tuple[tuple[str, Any], ...], split_layer: int, shared: tuple[Fact, ...]) -> Known | None:
    """The states of the facts that groups share, run once a process."""
    return states_of(_loaded(name, load), shared, split_layer) if shared else None


def _in_a_process(
    number: int,
    name: str,
    load: dict[str, Any],
    group: Group,
    recipe: Recipe,
    split_layer: int,
    place: Path,
    shared: tuple[Fact, ...],
) -> Result:
    state = _shared(place, len(group))

    def report(passes: float, recall: list[float]) -> None:
        state.copy_(torch.tensor([passes, *recall]))

    by = tuple(load.items())
    return _timed(number, _loaded(name, by), group, recipe, split_layer, report, _known(name, by, split_layer, shared))


def _shared(place: Path, memories: int) -> Tensor:
    """(passes, recall of each memory): a file that two processes see as one tensor."""
    return torch.from_file(str(place), shared=True, size=1 + memories)


@contextmanager
def _told(memories: Sequence[int], reports: Sequence[Report]) -> Iterator[list[Path]]:
    """Files for the groups' states; what other processes write there is reported here, twice a second."""
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder) / str(number) for number in range(len(memories))]
        states = [_shared(place, count).zero_() for place, count in zip(places, memories, strict=True)]
        over = threading.Event()

        def tell() -> None:
            while not over.wait(0.5):
                for state, report in zip(states, reports, strict=True):
                    passes, *recall = state.tolist()
                    report(passes, recall)

        teller = threading.Thread(target=tell, daemon=True)
        teller.start()
        try:
            yield places
        finally:
            over.set()
            teller.join()
