"""Learning: facts are remembered, corrected and forgotten while a server runs.

A process of its own writes the memory in the bank (`lorary update`, `lorary forget`), so answers go on meanwhile, and what is
killed is finished by the next call or start. Then the composite takes the memory up, between two steps of the answers.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorary.bank.facts import Fact
from lorary.bank.manifest import read_manifest
from lorary.errors import one_line
from lorary.serving.errors import RequestError

_KEPT = 100
"""Jobs that are told of; older ones are forgotten once they have ended."""
_WAITING = 20
"""Jobs that may wait."""
_PATIENCE = 10.0
"""Seconds that a process which is to end may take."""
Change = Callable[[Callable[[], Any]], "Future[Any]"]
TakeUp = Callable[[Path, Sequence[str]], None]


@dataclass
class LearnJob:
    """One change of a memory on its way.

    Args:
        what: it does, for people.
        state: "waiting", "running", "done" or "failed".
        error: why it failed.
    """

    what: str
    memory: str
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    state: str = "waiting"
    error: str | None = None
    begun: float = field(default_factory=time.monotonic)
    ended: float | None = None

    def to_json(self) -> dict[str, Any]:
        """What is told of it."""
        seconds = round((self.ended or time.monotonic()) - self.begun, 1)
        told = {name: getattr(self, name) for name in ("id", "what", "memory", "state", "error")}
        return told | {"seconds": seconds}


class Learner:
    """Writes memories of a bank one after the other, and lets the composite take them up.

    Args:
        bank: folder of the bank that the composite was made from.
        change: does work in the engine's thread.
        take_up: lets the composite take the memories of some names over from the bank, or lets go of those that left it.
    """

    def __init__(self, bank: str | Path, change: Change, take_up: TakeUp) -> None:
        self.bank, self._change, self._take_up = Path(bank), change, take_up
        self._jobs: dict[str, LearnJob] = {}
        self._lock = threading.Lock()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="lorary-learner")
        self._process: subprocess.Popen[str] | None = None
        self._closing = False

    def remember(self, memory: str, facts: Sequence[Fact]) -> LearnJob:
        """Begins to take facts into a memory, which is made where there is none; a fact that shares a wording with an older one
        takes its place. Raises RequestError where too many jobs wait."""
        lines = "".join(json.dumps(fact.to_json(), ensure_ascii=False) + "\n" for fact in facts)
        job = LearnJob(f"{memory}: remember {facts[0].question!r}", memory)
        return self._begin(job, ["update", str(self.bank), memory], lines)

    def forget(self, memory: str, ids: Sequence[str]) -> LearnJob:
        """Begins to forget facts of a memory by their ids. Raises RequestError where too many jobs wait."""
        job = LearnJob(f"{memory}: forget {len(ids)} of its facts", memory)
        return self._begin(job, ["forget", str(self.bank), memory, "--facts", *ids], None)

    def job(self, number: str) -> LearnJob:
        """A job by its id. Raises RequestError for an unknown one."""
        with self._lock:
            if number not in self._jobs:
                raise RequestError(404, "no job has that id; older ones are not kept", "not_found")
            return self._jobs[number]

    def close(self) -> None:
        """Ends the job that runs, which loses nothing: the bank is as it was, or as it was to be. No process is left."""
        with self._lock:  # a process is either there to be ended, or never begins
            self._closing, process = True, self._process
        if process is not None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_PATIENCE)
            process.kill()
        self._worker.shutdown(cancel_futures=True)

    def _begin(self, job: LearnJob, command: list[str], facts: str | None) -> LearnJob:
        with self._lock:
            if sum(own.ended is None for own in self._jobs.values()) >= _WAITING:
                raise RequestError(429, f"{_WAITING} changes wait already; ask again later", "too_many_requests")
            ended = [number for number, own in self._jobs.items() if own.ended is not None]
            for number in ended[: max(0, len(self._jobs) - _KEPT)]:
                del self._jobs[number]
            self._jobs[job.id] = job
        self._worker.submit(self._run, job, command, facts)
        return job

    def _run(self, job: LearnJob, command: list[str], facts: str | None) -> None:
        job.state, job.begun = "running", time.monotonic()
        error = None
        try:
            before = read_manifest(self.bank)
            error = self._written(command, facts)
            # Also where it failed: a memory is committed before its proof is known.
            if read_manifest(self.bank) != before:
                self._change(lambda: self._take_up(self.bank, [job.memory])).result()
        except Exception as raised:
            error = error or one_line(raised)
        job.error, job.ended = error, time.monotonic()
        job.state = "done" if error is None else "failed"

    def _written(self, command: list[str], facts: str | None) -> str | None:
        """Runs a command of Lorary to its end; what it says went wrong, None where nothing did."""
        with tempfile.TemporaryDirectory() as work:
            if facts is not None:
                file = Path(work) / "facts.jsonl"
                file.write_text(facts, encoding="utf-8")
                command = [*command, str(file)]
            with self._lock:
                if self._closing:
                    return "the server ends"
                self._process = process = subprocess.Popen(
                    [sys.executable, "-m", "lorary", *command, "--quiet"],
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            _, said = process.communicate()
            code, self._process = process.returncode, None
        lines = [line for line in said.splitlines() if line.startswith("lorary: ") and "warning:" not in line]
        if not code:
            return None
        return lines[-1].removeprefix("lorary: ").removeprefix("error: ") if lines else f"it ended with {code}"
