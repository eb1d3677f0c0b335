"""Groups of memories written by the workers of a Dask cluster that runs already (https://distributed.dask.org).

Workers load the base by its name, take facts, and return factors; they write no file. What this process was handed back
it commits itself, so each memory is written once, whatever becomes of a worker: the jobs of one that dies go to others.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from uuid import uuid4

from distributed import Client, Future, KilledWorker, Worker, get_worker, wait
from distributed.comm import connect
from distributed.security import Security

import lorary.bank
import lorary.base
import lorary.memories
import lorary.model
from lorary.errors import LoraryError, LoraryWarning, one_line
from lorary.memories.groups import Job, Result, Take
from lorary.memories.writing import Report

ANSWERS = 5
"""Seconds in which a scheduler must answer, and have a worker."""
RETURNS = 60
"""Seconds in which a worker must come when the last one has gone; a nanny starts another in a few."""
_ALONE = threading.Lock()
"""Held by the job that runs: tokenizers do not bear two threads, and a second job in a process would gain little."""


class ClusterError(LoraryError):
    """A cluster that cannot write memories: nobody answers, its workers hold other code, or they died."""


class ClusterWarning(LoraryWarning):
    """A cluster that works less well than it could."""


class _Unwanted(Exception):
    """Ends a job that runs although nobody waits for it any more."""


@contextmanager
def connected(address: str) -> Iterator[Take]:
    """What has jobs done by the workers of the scheduler at `address`, such as "tcp://10.0.0.5:8786".

    Raises:
        ClusterError: no scheduler answers, it has no worker, or a worker would write other memories than this process.
    """
    workers = f"`dask worker {address} --nthreads 1`"
    try:
        with ThreadPoolExecutor(1) as thread:  # an event loop of its own, since a notebook's runs already
            thread.submit(asyncio.run, _answer(address)).result()
    except Exception as error:  # of what is no scheduler's answer, distributed raises whatever comes
        raise ClusterError(
            f"no Dask scheduler answers at {address!r} within {ANSWERS} s ({one_line(error)}); start one with "
            f"`dask scheduler`, whose first lines tell its address, and workers with {workers}"
        ) from error
    with Client(address, timeout=ANSWERS, set_as_default=False) as client:
        try:
            client.wait_for_workers(1, timeout=ANSWERS)
        except TimeoutError as error:
            raise ClusterError(f"the scheduler at {address!r} has no worker; start some with {workers}") from error
        _check(client)
        yield partial(_results, client, address)


async def _answer(address: str) -> None:
    """Ends where a scheduler answers. A client alone waits without end for a server of another kind, or a dead one."""
    options = Security().get_connection_args("client")
    comm = await asyncio.wait_for(connect(address, timeout=ANSWERS, **options), ANSWERS)
    await comm.close()


@cache
def versions() -> dict[str, str]:
    """What decides, beside a job, what its memories become: versions of the libraries, and our code as it stands."""
    sources = hashlib.sha256()
    for package in (lorary.bank, lorary.base, lorary.memories, lorary.model):
        for file in sorted(Path(str(package.__file__)).parent.glob("*.py")):
            sources.update(file.read_bytes())
    libraries = {name: version(name).partition("+")[0] for name in ("torch", "transformers")}
    return {"lorary": f"{version('lorary')} (code {sources.hexdigest()[:12]})", **libraries}


def _check(client: Client) -> None:
    """Raises ClusterError where a worker holds other versions; warns where it takes more jobs than it can do at once."""
    ours = versions()
    for worker, theirs in client.run(versions, on_error="return").items():
        if isinstance(theirs, BaseException):
            raise ClusterError(
                f"worker {worker} cannot import this lorary ({one_line(theirs)}); install there what is installed here"
            )
        _compare(worker, ours, theirs)
    crowded = {worker: threads for worker, threads in client.nthreads().items() if threads > 1}
    for worker, threads in list(crowded.items())[:1]:
        warnings.warn(
            f"{len(crowded)} of {len(client.nthreads())} workers take several jobs and do one at a time, {worker} one of "
            f"{threads}; start workers of one thread, several a machine: `dask worker ADDRESS --nworkers N --nthreads 1`",
            ClusterWarning,
            stacklevel=4,
        )


def _compare(worker: str, ours: Mapping[str, str], theirs: Mapping[str, str]) -> None:
    for name in ours:
        if ours[name] != theirs[name]:
            raise ClusterError(
                f"worker {worker} has {name} {theirs[name]}, this process has {ours[name]}; memories would differ by the "
                "worker that writes them, so install the same there"
            )


def _results(client: Client, address: str, jobs: Sequence[Job], reports: Sequence[Report]) -> Iterator[Result]:
    """The results of the jobs as they are finished; jobs that nobody waits for any more are cancelled."""
    topic, ours = f"lorary-{uuid4().hex}", versions()

    def hand_on(event: tuple[float, tuple[int, float, Sequence[float]]]) -> None:
        _, (number, passes, recall) = event
        reports[number](passes, list(recall))

    client.subscribe_topic(topic, hand_on)
    pending = {client.submit(write_group, job, ours, topic, pure=False) for job in jobs}
    try:
        while pending:
            finished, pending = _finished(client, address, pending)
            # What was written is handed over first, so that one job's error costs no other's memories.
            yield from (future.result() for future in sorted(finished, key=lambda future: future.status == "error"))
    except KilledWorker as error:
        raise ClusterError(
            f"a group was given up, since {error.allowed_failures + 1} workers at {address!r} died while they wrote it, "
            f"{error.last_worker.address} the last; most likely memory ran out (its log tells): give a worker more, or "
            "write fewer memories at once"
        ) from error
    except (CancelledError, OSError) as error:
        raise ClusterError(
            f"the scheduler at {address!r} is gone or gave the jobs up; what was saved stays: start it and its workers, "
            "then run the same command again"
        ) from error
    finally:
        client.cancel(list(pending))
        client.unsubscribe_topic(topic)


def _finished(client: Client, address: str, pending: set[Future]) -> tuple[set[Future], set[Future]]:
    """(the jobs that have ended, those that have not); waits for the first one to end."""
    while True:
        try:
            with client.as_current():
                return wait(pending, timeout=ANSWERS, return_when="FIRST_COMPLETED")
        except TimeoutError:
            pass
        try:
            client.wait_for_workers(1, timeout=RETURNS)
        except TimeoutError as error:
            raise ClusterError(
                f"the scheduler at {address!r} has had no worker for {RETURNS} s; what was saved stays: start workers, "
                "then run the same command again"
            ) from error


def write_group(job: Job, versions_of_client: Mapping[str, str], topic: str) -> Result:
    """On a worker: the job's result. Its name is what the cluster's dashboard shows.

    Raises:
        ClusterError: this worker came later and holds other versions, or it has no such base.
    """
    worker = get_worker()
    _compare(worker.address, versions_of_client, versions())
    try:
        with _ALONE:
            return job(_reporter(worker, job.number, topic))
    except LoraryError as error:
        raise ClusterError(f"worker {worker.address}: {one_line(error)}") from error


def _reporter(worker: Worker, number: int, topic: str) -> Callable[[float, list[float]], None]:
    """Sends what a job reports to the client, at most twice a second but for each whole pass; ends an unwanted job."""
    key, due = worker.get_current_task(), 0.0

    def report(passes: float, recall: list[float]) -> None:
        nonlocal due
        task = worker.state.tasks.get(key)
        if task is None or task.state == "cancelled":  # by Ctrl-C, say; Dask itself lets what runs run on
            raise _Unwanted
        if time.monotonic() >= due or passes == int(passes):
            due = time.monotonic() + 0.5
            worker.log_event(topic, (number, passes, recall))

    return report
