"""What it takes to start: commands and imports, each in a process of its own, beside what any user of transformers pays."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from lorary.base.unpacking import CACHE
from lorary.progress import progress_bars
from lorary.research.processes import measured_on, run_alone
from lorary.research.settings import check_positive
from lorary.resume import REPORT, go_on, write_results
from lorary.tables import ABSENT, counted, markdown_table

STUDY, SCHEMA = "start-bench", 1
PEER = "import torch, transformers"
"""What all seconds are compared with."""
_GGUF = (
    "from lorary.base.embedded import embedded_file; file = embedded_file()\n"
    "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
    "own = {'gguf_file': file.name, 'local_files_only': True}\n"
    "AutoModelForCausalLM.from_pretrained(file.parent, dtype='bfloat16', **own)\n"
    "AutoTokenizer.from_pretrained(file.parent, **own)"
)
_SENTENCES = (
    "from lorary.routing.encoder import embedded_folder\n"
    "from sentence_transformers import SentenceTransformer\n"
    "SentenceTransformer(str(embedded_folder()), device='cpu').encode(['Who cooks?'])"
)
_LOAD = "from lorary.base.loading import load_base; load_base(dtype='bfloat16')"
_ENCODE = "from lorary.routing.encoder import load_encoder; load_encoder().encode(['Who cooks?'])"
FIRST = "load_base(), the first time"
PYTHON = {
    PEER: PEER,
    "from transformers import AutoModelForCausalLM, PreTrainedModel": "import torch, transformers\n"
    "from transformers import AutoModelForCausalLM, PreTrainedModel",
    "transformers opens the embedded base's GGUF file": _GGUF,
    "sentence-transformers encodes a question": _SENTENCES,
    "import lorary": "import lorary",
    "from lorary import LoraryForCausalLM": "from lorary import LoraryForCausalLM",
    FIRST: _LOAD,
    "load_base(), from then on": _LOAD,
    "load_encoder() encodes a question": _ENCODE,
}
"""Cell → the Python that it runs; those of peers come first. What finds the embedded files costs milliseconds."""


def commands(composite: str, question: str) -> dict[str, list[str]]:
    """Cell → the arguments of `lorary` that it runs."""
    import lorary.memories

    samples = str(Path(str(lorary.memories.__file__)).parent / "samples")
    return {
        "lorary --help": ["--help"],
        "lorary ask --help": ["ask", "--help"],
        "lorary list": ["list", composite],
        "lorary plan, the shipped samples": ["plan", samples],
        "lorary route": ["route", composite, question],
        "lorary ask": ["ask", composite, question],
    }


def start_bench(
    out: str | Path, *, composite: str, question: str, repeats: int = 5, quiet: bool = False
) -> dict[str, Any]:
    """Measures every cell `repeats` times; writes `results.json` and `report.md` into `out` after each round.

    A round runs each cell once, in turn forwards and backwards. What stands in `out` already, under the same settings, is
    kept. Before the first round the embedded base is unpacked, so that only the cell that says so does it again.

    Raises:
        StudyError: a cell that ends with an error, or fewer than one repeat.
    """
    check_positive("repeats", repeats)
    settings = {"composite": composite, "question": question}
    stands = go_on(out, STUDY, SCHEMA, {"settings": settings})
    results = stands or {
        "study": STUDY,
        "schema": SCHEMA,
        **measured_on("sentence-transformers"),
        "settings": settings,
        "rounds": [],
    }
    run = {cell: [sys.executable, "-c", code] for cell, code in PYTHON.items()}
    run |= {cell: [sys.executable, "-m", "lorary", *own] for cell, own in commands(composite, question).items()}
    seconds_of([sys.executable, "-c", _LOAD])
    with progress_bars(quiet) as bars:
        bar = bars.start("starting", (repeats - len(results["rounds"])) * len(run))
        while len(results["rounds"]) < repeats:
            cells = [*run] if len(results["rounds"]) % 2 == 0 else [*run][::-1]
            taken = {}
            for cell in cells:
                taken[cell] = _first(run[cell]) if cell == FIRST else seconds_of(run[cell])
                bar.advance(1, cell)
            results["rounds"].append(taken)
            write_results(Path(out), results, {REPORT: (tell_starts(results) + "\n").encode()})
    return results


def _first(command: Sequence[str]) -> list[float]:
    """What a command takes where nothing has been unpacked yet."""
    with tempfile.TemporaryDirectory() as cache:
        return seconds_of(command, {CACHE: cache})


def seconds_of(command: Sequence[str], environment: Mapping[str, str] | None = None) -> list[float]:
    """[seconds of the processor, seconds by the clock] that a process takes (`processes.run_alone`)."""
    ran = run_alone(command, environment)
    return [ran.processor, ran.clock]


def table_of(rounds: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, dict[str, list[float]]]:
    """Cell → [median, least, most] seconds of `processor` and `clock`, and of `beyond` the peer in the same round."""
    cells = [*PYTHON, *(cell for cell in (rounds[0] if rounds else ()) if cell not in PYTHON)]
    return {
        cell: {
            "processor": _spread([taken[cell][0] for taken in rounds]),
            "clock": _spread([taken[cell][1] for taken in rounds]),
            "beyond": _spread([taken[cell][0] - taken[PEER][0] for taken in rounds]),
        }
        for cell in cells
        if rounds
    }


def _spread(seconds: Sequence[float]) -> list[float]:
    return [round(value, 2) for value in (median(seconds), min(seconds), max(seconds))]


def tell_starts(results: Mapping[str, Any]) -> str:
    """The table of a run."""
    rows = [["what starts", "processor, s", f"beyond `{PEER}`", "clock, s"]]
    for cell, row in table_of(results["rounds"]).items():
        shown = {name: f"{middle:.2f} ({low:.2f} to {high:.2f})" for name, (middle, low, high) in row.items()}
        rows.append([f"`{cell}`", shown["processor"], ABSENT if cell == PEER else shown["beyond"], shown["clock"]])
    times = counted(len(results["rounds"]), "round")
    return f"Median (least to most) of {times}, each cell in a process of its own.\n\n{markdown_table(rows)}"
