"""A bank of many memories: what opening it takes, the first question, a memory that joins or leaves, and saving."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from lorary.base.loading import EMBEDDED
from lorary.progress import progress_bars
from lorary.research.bank_steps import STEPS, write_composite
from lorary.research.processes import measured_on, run_alone
from lorary.research.settings import check_positive
from lorary.resume import REPORT, go_on, write_results
from lorary.tables import ABSENT, counted, markdown_table

STUDY, SCHEMA, COMPOSITE = "bank-bench", 1, "composite"
AIMS = {
    "opening": 1.0, "first": 0.5, "adapters": 0.5, "leaves": 0.05, "after_leaving": 0.05, "joins": 0.05,
    "after_joining": 0.05, "again": 0.5,
}  # fmt: skip
"""Step → the seconds that we aim at for 1,000 memories."""


def bank_bench(
    out: str | Path, *, memories: int = 1000, base: str = EMBEDDED, repeats: int = 5, quiet: bool = False
) -> dict[str, Any]:
    """Writes a composite of random memories into `out`, then measures every step `repeats` times, each time in a process of its
    own; writes `results.json` and `report.md` after each. What stands in `out` already, under the same settings, is kept.

    Raises:
        StudyError: a process that ends with an error, or fewer than one memory or repeat.
    """
    check_positive("repeats", repeats)
    check_positive("memories", memories)
    folder, settings = Path(out) / COMPOSITE, {"base": base, "memories": memories}
    results = go_on(out, STUDY, SCHEMA, {"settings": settings}, writes=(REPORT, COMPOSITE)) or {
        "study": STUDY, "schema": SCHEMA, **measured_on(), "settings": settings, "rounds": []
    }  # fmt: skip
    if not (folder / "config.json").exists():
        write_results(Path(out), results, {})  # so that a run that is stopped now goes on
        write_composite(folder, memories, base)
    with progress_bars(quiet) as bars:
        bar = bars.start("measuring", repeats - len(results["rounds"]))
        while len(results["rounds"]) < repeats:
            ran = run_alone([sys.executable, "-m", "lorary.research.bank_steps", str(folder), base])
            results["rounds"].append(json.loads(ran.printed.splitlines()[-1]))
            bar.advance(1)
            write_results(Path(out), results, {REPORT: (tell_bank(results) + "\n").encode()})
    return results


def table_of(rounds: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, dict[str, list[float]]]:
    """Step → [median, least, most] of `processor` and `clock` (seconds) and of `held` (MiB beyond the base)."""
    columns = ("processor", "clock", "held")
    return {
        step: {name: _spread([taken[step][place] for taken in rounds]) for place, name in enumerate(columns)}
        for step in STEPS
        if rounds
    }


def _spread(values: Sequence[float]) -> list[float]:
    return [round(value, 3) for value in (median(values), min(values), max(values))]


def tell_bank(results: Mapping[str, Any]) -> str:
    """The table of a run."""
    rows = [["what happens", "processor, s", "clock, s", "aim, s", "MiB beyond the base, then"]]
    for step, row in table_of(results["rounds"]).items():
        seconds = [f"{middle:.3f} ({low:.3f} to {high:.3f})" for middle, low, high in (row["processor"], row["clock"])]
        aim = AIMS.get(step)
        missed = " (missed)" if aim is not None and row["processor"][0] > aim else ""
        rows.append([STEPS[step], *seconds, f"{aim:g}{missed}" if aim else ABSENT, f"{row['held'][0]:.0f}"])
    machine, settings = results["machine"], results["settings"]
    return "\n".join(
        [
            f"# A bank of {counted(settings['memories'], 'memory')}",
            "",
            f"{results['made']}; {machine['cpu']}, {machine['cores']} cores, threads {machine['threads']}; base "
            f"{settings['base']}; {', '.join(f'{name} {number}' for name, number in results['versions'].items())}.",
            "",
            f"Median (least to most) of {counted(len(results['rounds']), 'round')}, each in a process of its own, with base and "
            "encoder loaded before. Memories are random, of rank 8 on the MLPs above the default split, with four facts of two "
            "wordings each. Aims are compared with seconds of the processor.",
            "",
            markdown_table(rows),
        ]
    )
