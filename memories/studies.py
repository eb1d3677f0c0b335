"""What every study of memories has on disk: a header of what made it, results that a run goes on from, a report, a plot."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from lorary.bank.files import to_json, write_aside
from lorary.base.layers import fingerprint
from lorary.base.loading import Base
from lorary.base.rows import default_split
from lorary.errors import LoraryError
from lorary.memories.writing import Report
from lorary.progress import ProgressBar

RESULTS = "results.json"
NEVER = 2.0
"""A share of facts that no memory recalls, so that none stops early and all are shown theirs as often."""


class StudyError(LoraryError):
    """A study that cannot be read, continued or planned from: says why and what to do."""


@dataclass(kw_only=True)
class Header:
    """What made a study; `partial` until its run was finished."""

    schema: int
    partial: bool = True
    made: str
    configuration: Mapping[str, Any]
    versions: Mapping[str, str]
    machine: Mapping[str, Any]

    def check_same(self, other: Header, where: str) -> None:
        """Raises StudyError where `other` has other settings, so that its results cannot join these in `where`."""
        for told in ("configuration", "versions"):
            ours, theirs = getattr(other, told), getattr(self, told)
            if different := [key for key in ours if _plain(ours[key]) != theirs.get(key)]:
                name = different[0]
                raise StudyError(
                    f"{where} holds a study with {name} {theirs.get(name)!r}, not {ours[name]!r}; "
                    "give another folder, or the same settings to go on"
                )

    def footer(self) -> str:
        """The line of a report that tells machine and versions."""
        machine = self.machine
        at_once = f"processes at once {machine['processes']}, threads each {machine['threads']}"
        versions = ", ".join(f"{name} {told}" for name, told in self.versions.items())
        return f"{machine['cpu']}, {at_once}, {machine['dtype']}, Python {machine['python']}; {versions}; {self.made}"


def _plain(value: Any) -> Any:
    """A value as JSON gives it back."""
    return json.loads(json.dumps(value))


def heading(schema: int, base: Base, configuration: Mapping[str, Any], processes: int) -> dict[str, Any]:
    """The fields of a new study's header, with the base first in its configuration."""
    threads = torch.get_num_threads()
    return {
        "schema": schema,
        "made": date.today().isoformat(),
        "configuration": {
            "base": base.name,
            "revision": base.revision,
            "fingerprint": fingerprint(base.model),
            "split_layer": default_split(base.model),
            **configuration,
        },
        "versions": {name: version(name) for name in ("lorary", "torch", "transformers")},
        "machine": {
            "python": platform.python_version(),
            "cpu": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
            "threads": threads if processes <= 1 else max(1, threads // processes),
            "processes": max(1, processes),
            "dtype": str(base.model.dtype).removeprefix("torch."),
        },
    }


def read_results(place: str | Path, kind: str, schema: int) -> tuple[Path, dict[str, Any]]:
    """(the file, what it holds) of the study that `lorary <kind>` wrote into a folder, or into a file itself.

    Raises:
        StudyError: not there, not JSON, of another schema, or another kind of study.
    """
    path = Path(place) / RESULTS if Path(place).is_dir() else Path(place)
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise StudyError(f"{path} cannot be read; give a folder that `lorary {kind} --out` wrote") from None
    except ValueError as error:
        raise StudyError(f"{path} is not JSON ({error}); run `lorary {kind}` again") from None
    found = told if isinstance(told, dict) else {}
    if (other := found.get("study", kind)) != kind:
        raise StudyError(f"{path} was written by `lorary {other}`, not `lorary {kind}`; give another folder")
    if (number := found.get("schema")) != schema:
        raise StudyError(f"{path} has schema {number!r}, this version reads {schema}; run `lorary {kind}` again")
    return path, told


def header_of(told: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the header in decoded results."""
    return {field.name: told[field.name] for field in fields(Header)}


def save(place: Path, results: Mapping[str, Any], report: str, plots: Mapping[str, bytes]) -> None:
    """Writes plots by file name, then `report.md`, then the results, which say what stands."""
    for name, image in plots.items():
        write_aside(place / name, image)
    write_aside(place / "report.md", report.encode())
    write_aside(place / RESULTS, to_json(results))


def reporter(bar: ProgressBar, facts: int, name: str) -> Report:
    """What a group of so many facts tells the bar of all groups: facts shown; recall is measured at the end alone."""
    done = 0

    def told(passes: float, _: list[float]) -> None:
        nonlocal done
        if (shown := int(facts * passes)) > done:
            bar.advance(shown - done, name)
            done = shown

    return told
