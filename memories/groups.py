"""Groups of memories as jobs, which processes of this machine or the workers of a cluster take.

One small model keeps a single core busy: its products are too small for a second thread to help. What a group holds
is the recipe's choice, never the number of processes, so the same seeds give the same memories on any machine.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from joblib import Parallel, delayed
from torch import Tensor

from lorary.bank.facts import Fact
from lorary.base.layers import BaseError, fingerprint
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


@dataclass(frozen=True)
class Job:
    """A group to write, as it travels to another process: facts and recipe as they are, the base by its name.

    Args:
        number: of the group.
        load: what loads the base again by its name (`load_base`).
        base_fingerprint: of the base that is meant; another one of the same name is refused.
        shared: facts that several groups show.
        threads: that a CPU computes with; their number decides how sums are rounded.
    """

    number: int
    base: str
    load: tuple[tuple[str, Any], ...]
    base_fingerprint: str
    group: Group
    recipe: Recipe
    split_layer: int
    shared: tuple[Fact, ...]
    threads: int

    def __call__(self, report: Report) -> Result:
        """Writes the group in this process, which keeps the base for its next job."""
        by = self.base, self.load, self.base_fingerprint
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            known = _known(*by, self.split_layer, self.shared)
            return _timed(self.number, _loaded(*by), self.group, self.recipe, self.split_layer, report, known)
        finally:
            torch.set_num_threads(before)


Take = Callable[[Sequence[Job], Sequence[Report]], Iterator[Result]]
"""Does jobs elsewhere: yields results as they are finished, and hands on what each job reports meanwhile."""


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
    take: Take | None = None,
) -> Iterator[Result]:
    """The memories of each group, as groups are finished.

    Args:
        shared: facts that several groups show. Each process runs their wordings below the split once, all of them in
            one order, so that what a memory comes to does not depend on the process that wrote it.
        load: how other processes load the base again by its name (`load_base`).
        recipes: one a group.
        reports: one a group, called as `write` calls it.
        processes: of this machine that write, each with its share of the threads.
        take: who writes instead of them, with as many threads each, so that they write the same.
    """
    if take is None and processes <= 1:
        known = states_of(base, shared, split_layer) if shared else None
        for number, group in enumerate(groups):
            yield _timed(number, base, group, recipes[number], split_layer, reports[number], known)
        return
    # Other machines multiply other types fastest, so this one's goes with the name.
    by = base.name, tuple({**load, "dtype": base.model.dtype}.items()), fingerprint(base.model)
    threads = max(1, torch.get_num_threads() // max(1, processes))
    jobs = [Job(n, *by, group, recipes[n], split_layer, tuple(shared), threads) for n, group in enumerate(groups)]
    yield from (take or partial(_by_processes, processes, threads))(jobs, reports)


def _by_processes(processes: int, threads: int, jobs: Sequence[Job], reports: Sequence[Report]) -> Iterator[Result]:
    parallel = Parallel(n_jobs=processes, return_as="generator_unordered", inner_max_num_threads=threads)
    with _told([len(job.group) for job in jobs], reports) as places:
        work = delayed(_in_a_process)
        yield from parallel(work(job, place) for job, place in zip(jobs, places, strict=True))


def _timed(
    number: int, base: Base, group: Group, recipe: Recipe, split_layer: int, report: Report, known: Known | None
) -> Result:
    began, spent = time.perf_counter(), time.process_time()
    written = write(base, group, recipe, split_layer, report, known)
    return Result(number, written, time.perf_counter() - began, time.process_time() - spent)


@lru_cache(maxsize=1)
def _loaded(name: str, load: tuple[tuple[str, Any], ...], base_fingerprint: str) -> Base:
    """The base, loaded once a process. Raises BaseError where its name stands for another one here."""
    silence_loading_bars()
    base = load_base(name, **dict(load))
    if fingerprint(base.model) != base_fingerprint:
        raise BaseError(
            f"base {name!r} is another base here than where the command was given; put the same files there, or give a "
            "name that means the same everywhere"
        )
    return base


@lru_cache(maxsize=1)
def _known(
    name: str, load: tuple[tuple[str, Any], ...], base_fingerprint: str, split_layer: int, shared: tuple[Fact, ...]
) -> Known | None:
    """The states of the facts that groups share, run once a process."""
    return states_of(_loaded(name, load, base_fingerprint), shared, split_layer) if shared else None


def _in_a_process(job: Job, place: Path) -> Result:
    state = _shared(place, len(job.group))

    def report(passes: float, recall: list[float]) -> None:
        state.copy_(torch.tensor([passes, *recall]))

    return job(report)


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
