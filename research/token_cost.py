"""What a token and a prompt cost: counted (bytes, products, launches), and measured beside that.

`python -m lorary.research.token_cost CELL` measures one cell in a process of its own, CELL as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from fnmatch import fnmatch
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import logging as transformers_logging

from lorary.base.loading import EMBEDDED, load_base
from lorary.progress import progress_bars
from lorary.research.bench_cells import Cell
from lorary.research.bench_models import composite, random_bank
from lorary.research.bench_report import KINDS, WAYS
from lorary.research.bench_steps import Timed
from lorary.research.counting import counted_pass, measured_rates
from lorary.research.processes import measured_on, run_alone
from lorary.research.settings import StudyError, check_positive
from lorary.resume import REPORT, go_on, write_results
from lorary.tables import markdown_table

STUDY, SCHEMA = "token-cost", 1


def cells(memories: int, prompt: int, names: Sequence[str] = ()) -> list[Cell]:
    """A token and a prompt under no memory, a named one, a route a request and a route a token, in both dtypes; or those of
    them whose name fits one of `names`. Raises StudyError for a name that fits none."""
    every = [
        Cell(name=f"{kind}_{way}_{dtype}", kind=kind, way=way, memories=memories, prompt=prompt, dtype=dtype)
        for dtype in ("float32", "bfloat16")
        for kind in ("decode", "prefill")
        for way in ("none", "named", "query", "token")
    ]
    if unknown := [name for name in names if not any(fnmatch(cell.name, name) for cell in every)]:
        raise StudyError(f"cell {unknown[0]!r} is unknown; choose from {', '.join(cell.name for cell in every)}")
    return [cell for cell in every if not names or any(fnmatch(cell.name, name) for name in names)]


def token_cost(
    out: str | Path,
    *,
    base: str = EMBEDDED,
    memories: int = 64,
    prompt: int = 128,
    steps: int = 20,
    names: Sequence[str] = (),
    quiet: bool = False,
) -> dict[str, Any]:
    """Counts and measures every cell, each in a process of its own; writes `results.json` and `report.md` after each. What
    stands in `out` already, under the same settings, is kept.

    Raises:
        StudyError: an unknown cell, a process that ends with an error, or a number below 1.
    """
    asked = cells(memories, prompt, names)
    check_positive("steps", steps)
    check_positive("memories", memories)
    settings = {"base": base, "memories": memories, "prompt": prompt, "steps": steps}
    results = go_on(out, STUDY, SCHEMA, {"settings": settings}) or {
        "study": STUDY, "schema": SCHEMA, **measured_on(), "settings": settings, "cells": {}
    }  # fmt: skip
    missing = [cell for cell in asked if cell.name not in results["cells"]]
    with progress_bars(quiet) as bars:
        bar = bars.start("measuring", len(missing))
        for cell in missing:
            command = [sys.executable, "-m", "lorary.research.token_cost", json.dumps([asdict(cell), base, steps])]
            results["cells"][cell.name] = json.loads(run_alone(command).printed.splitlines()[-1])
            bar.advance(1, cell.name)
            write_results(Path(out), results, {REPORT: (tell_cost(results) + "\n").encode()})
    return results


@torch.inference_mode()
def measure(cell: Cell, base_name: str, steps: int) -> dict[str, Any]:
    """What a step of the base and one of the composite ask for, and take.

    Returns:
        `base` and `own`: launches, products, bytes, flops, the seconds that these make up to by the machine's rates, and
        [median, least, greatest] seconds measured; `rates` of the machine.
    """
    base = load_base(base_name, dtype=cell.dtype)
    bank = random_bank(base, cell)
    timed = Timed(composite(bank, base, cell.way, cell.routes), bank, base, cell, 2 * steps + 2)

    def median_seconds(step: Callable[[], Any]) -> float:
        return _spread(step, 5 * steps)[0]

    rates = measured_rates(base.model.dtype, median_seconds)
    told: dict[str, Any] = {"cell": asdict(cell), "rates": asdict(rates)}
    for name, step in zip(("base", "own"), timed.block(0), strict=True):
        step()  # warms up
        operations = counted_pass(step)
        told[name] = {
            "launches": len(operations),
            "products": sum(asked.product for asked in operations),
            "bytes": sum(asked.bytes for asked in operations),
            "flops": sum(asked.flops for asked in operations),
            "counted": rates.seconds(operations),
            "measured": _spread(step, steps),
        }
    return told


def _spread(step: Callable[[], Any], steps: int) -> list[float]:
    """[median, least, greatest] seconds of a step."""
    taken = list[float]()
    for _ in range(steps):
        began = time.perf_counter()
        step()
        taken.append(time.perf_counter() - began)
    return [median(taken), min(taken), max(taken)]


def tell_cost(results: Mapping[str, Any]) -> str:
    """A table of a row a cell, the base's above those that it stands beside, and the machine's rates."""
    head = ["what", "dtype", "launches", "products", "MB", "GFLOP", "counted, ms", "measured, ms", "between"]
    rows, bases, rates = [head], set[tuple[str, str]](), dict[str, list[str]]()
    settings, order = results["settings"], [cell.name for cell in cells(1, 1)]
    for cell in sorted(results["cells"].values(), key=lambda cell: order.index(cell["cell"]["name"])):
        kind, way, dtype = (cell["cell"][name] for name in ("kind", "way", "dtype"))
        if (kind, dtype) not in bases:
            bases.add((kind, dtype))
            rows.append(_row(f"{KINDS[kind]}, the base", dtype, cell["base"]))
        rows.append(_row(f"{KINDS[kind]}, {WAYS[way]}", dtype, cell["own"]))
        found = cell["rates"]
        rates.setdefault(dtype, []).append(
            f"{found['bytes'] / 1e9:.1f} GB/s, {found['flops'] / 1e9:.0f} GFLOP/s, {found['launch'] * 1e6:.1f} µs"
        )
    machine = results["machine"]
    return "\n".join(
        [
            "# What a token costs",
            "",
            f"{results['made']}; {machine['cpu']}, {machine['cores']} cores, threads {machine['threads']}; base "
            f"{settings['base']}, {settings['memories']} memories, prompts of {settings['prompt']}; medians (least to "
            f"greatest) of {settings['steps']} steps. What another thread does beside a pass is not counted.",
            "",
            markdown_table(rows),
            "",
            *(
                f"- {dtype}: bytes, arithmetic and a launch: {found[len(found) // 2]}."
                for dtype, found in rates.items()
            ),
        ]
    )


def _row(name: str, dtype: str, cost: Mapping[str, Any]) -> list[str]:
    middle, least, greatest = (1000 * seconds for seconds in cost["measured"])
    counted = 1000 * cost["counted"]
    return [
        name, dtype, str(cost["launches"]), str(cost["products"]), f"{cost['bytes'] / 1e6:.0f}",
        f"{cost['flops'] / 1e9:.2f}", f"{counted:.1f}", f"{middle:.1f} ({least:.1f} to {greatest:.1f})",
        f"{middle - counted:+.1f}",
    ]  # fmt: skip


if __name__ == "__main__":
    transformers_logging.set_verbosity_error()
    settings_of_cell, base_name, steps = json.loads(sys.argv[1])
    print(json.dumps(measure(Cell(**settings_of_cell), base_name, steps)))
