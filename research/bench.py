"""The speed bench: what a token, a prompt and a change of memory cost beside the base, and beside what PEFT offers.

Each cell is a process of its own (`bench_steps`), in which every step of a way stands beside a step of the base.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lorary.bank.files import to_json
from lorary.base.loading import EMBEDDED
from lorary.progress import progress_bars
from lorary.research.bench_cells import Cell, cells_of
from lorary.research.bench_report import summary, tell_speed
from lorary.research.bench_settings import SpeedBench
from lorary.research.plots import ratios_by_memories
from lorary.research.processes import measured_on, run_alone
from lorary.resume import REPORT, go_on, write_results

STUDY, SCHEMA, BENCH, PLOT = "bench", 1, "bench.json", "speed.png"


def speed_bench(
    out: str | Path, *, bench: SpeedBench | None = None, base: str = EMBEDDED, quiet: bool = False
) -> dict[str, Any]:
    """Measures the cells that are missing; writes `results.json`, `bench.json`, `report.md` and `speed.png` after each.

    What stands in `out` already, under the same settings, is kept; other cells may be asked for than before. The cells
    run from the first to the last, so the ones that need most memory come where they stand.

    Raises:
        StudyError: an unknown cell, or one that ends with an error: outputs that should be equal are not, for one.
    """
    bench = bench or SpeedBench()
    cells = cells_of(bench)
    settings = {"base": base, "repeats": bench.repeats, "steps": bench.steps}
    stands = go_on(out, STUDY, SCHEMA, {"settings": settings})
    results = stands or {
        "study": STUDY, "schema": SCHEMA, **measured_on("peft"), "settings": settings, "cells": {}
    }  # fmt: skip
    missing = [cell for name, cell in cells.items() if name not in results["cells"]]
    with progress_bars(quiet) as bars:
        bar = bars.start("measuring", len(missing))
        for cell in missing:
            results["cells"][cell.name] = {**asdict(cell), **_measured(cell, settings)}
            bar.advance(1, cell.name)
            _save(out, results)
    _save(out, results)
    return results


def _measured(cell: Cell, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a process of its own measures of a cell."""
    asked = {"cell": asdict(cell), "base_name": settings["base"]}
    asked |= {name: settings[name] for name in ("repeats", "steps")}
    ran = run_alone([sys.executable, "-m", "lorary.research.bench_steps", json.dumps(asked)])
    measured: dict[str, Any] = json.loads(ran.printed.splitlines()[-1])
    return {**measured, "process_seconds": ran.clock}


def _save(out: str | Path, results: Mapping[str, Any]) -> None:
    told = summary(results)
    files = {
        BENCH: to_json(told),
        REPORT: (tell_speed(results) + "\n").encode(),
        PLOT: ratios_by_memories(told["by_memories"]),
    }
    write_results(Path(out), results, files)
