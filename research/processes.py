"""Processes: a command run by itself, what it took and what it printed; and on what a study was measured."""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from typing import Any

from lorary.research.settings import StudyError


@dataclass(frozen=True)
class Ran:
    """A process that ended well.

    Args:
        processor: its seconds of the processor, those it waited for included.
        clock: its seconds by the clock.
        printed: what it wrote to standard output.
    """

    processor: float
    clock: float
    printed: str


def run_alone(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Ran:
    """What a command takes and prints, in a process of its own.

    Args:
        environment: variables that it gets besides this process's.

    Raises:
        StudyError: it ended with an error.
    """
    with tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as said:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=printed, stderr=said, env={**os.environ, **(environment or {})})
        _, status, used = os.wait4(process.pid, 0)
        clock = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            lines = said.read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
            raise StudyError(
                f"{' '.join(command[1:])!r} ended with {process.returncode}: {lines[-1]}; run it by itself"
            )
        printed.seek(0)
        output = printed.read().decode(errors="replace")
    return Ran(round(used.ru_utime + used.ru_stime, 3), round(clock, 3), output)


def measured_on(*libraries: str) -> dict[str, Any]:
    """When, with which versions and on what a study is measured."""
    machine = {
        "python": platform.python_version(),
        "cpu": platform.machine(),
        "cores": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
    }
    versions = {name: version(name) for name in ("lorary", "torch", "transformers", *libraries)}
    return {"made": date.today().isoformat(), "versions": versions, "machine": machine}
