"""What both studies of memories share, that of capacity and that of wordings: what made them, and how a bar tells them."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import date
from importlib.metadata import version
from typing import Any

import torch

from lorary.base.layers import fingerprint
from lorary.base.loading import Base
from lorary.base.rows import default_split
from lorary.memories.writing import Report
from lorary.progress import ProgressBar
from lorary.resume import Header

PLOT = "recall.png"


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


def settings_in(header: Header) -> dict[str, Mapping[str, Any]]:
    """What results must have been made with, for a study of this header to go on from them."""
    return {"configuration": header.configuration, "versions": header.versions}


def made_by(header: Header) -> str:
    """The line of a report that tells machine and versions."""
    machine = header.machine
    at_once = f"processes at once {machine['processes']}, threads each {machine['threads']}"
    versions = ", ".join(f"{name} {number}" for name, number in header.versions.items())
    return f"{machine['cpu']}, {at_once}, {machine['dtype']}, Python {machine['python']}; {versions}; {header.made}"


def reporter(bar: ProgressBar, facts: int, name: str) -> Report:
    """What a group of so many facts tells the bar of all groups: facts shown; recall is measured at the end alone."""
    done = 0

    def advance(passes: float, _: list[float]) -> None:
        nonlocal done
        if (shown := int(facts * passes)) > done:
            bar.advance(shown - done, name)
            done = shown

    return advance
