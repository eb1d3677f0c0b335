"""The demo: one memory and its first answer, then the commands on all chosen topics, each in a process of its own."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from rich.console import Console

from lorary.bank.facts import Fact, read_facts
from lorary.bank.files import MANIFEST

STEPS = ("first", "build", "train_router", "recall")


def demo(
    out: str | Path = "runs/demo",
    *,
    fresh: bool = False,
    sources: Sequence[Path],
    base: str | None = None,
    quick: bool = False,
    seed: int = 0,
) -> None:
    """Writes one memory and asks it a question, then writes the others, trains a gate, and scores the composite.

    What stands already is reused: memories by their facts and recipe, the gate by the bank, the scores by the
    composite; of a run over another base or with another seed nothing.

    Args:
        fresh: reuse nothing; the bank of an earlier run is deleted.
        sources: files of facts, a topic each; the first is written and asked before the others.
        base: another base than the default.
        quick: write the memories by `build --quick`.
        seed: of the writing and of the gate's training.
    """
    out, console = Path(out), Console(stderr=True)
    bank, composite = out / "bank", out / "composite"
    began = time.perf_counter()
    stamps = {name: _stamp(out / f".{name}") for name in STEPS}
    seconds = {name: stamp["seconds"] for name, stamp in stamps.items() if stamp}
    made_by = f"{base or 'the default base'}, {'quick' if quick else 'without haste'}, seed {seed}: "

    def step(name: str, stamp: Callable[[], str], *works: Callable[[], None]) -> None:
        if not fresh and (kept := stamps[name]) and kept["stamp"] == made_by + stamp():
            console.print(f"{name}: reused, in {seconds[name]:.0f} s when it ran (--fresh does it anew)")
            return
        start = time.perf_counter()
        for work in works:
            work()
        seconds[name] = round(time.perf_counter() - start, 1)
        (out / f".{name}").write_text(json.dumps({"stamp": made_by + stamp(), "seconds": seconds[name]}))

    out.mkdir(parents=True, exist_ok=True)
    chosen, seeded = ["--base", base] if base else [], ["--seed", str(seed)]
    if fresh and (bank / MANIFEST).is_file():
        shutil.rmtree(bank)
    gate = composite / "model.safetensors"
    build = partial(_run, "build", "--out", str(bank), *chosen, *seeded, *(["--quick"] if quick else []))
    train = partial(_run, "train-router", str(bank), "--out", str(composite), *seeded)
    recall = partial(_run, "recall", str(composite), "--out", str(out), "--replace")
    ask = partial(_ask, bank, next(iter(read_facts(sources[0]))), chosen)
    step("first", lambda: _hash(sources[0]), partial(build, str(sources[0])), ask)
    step("build", lambda: _hash(*sources, bank / MANIFEST), partial(build, *map(str, sources)))
    step("train_router", lambda: _hash(bank / MANIFEST, gate), train)
    step("recall", lambda: _hash(gate, out / "predictions.jsonl"), recall)
    total = round(sum(seconds[name] for name in STEPS), 1)
    peak = round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
    totals = json.dumps({"seconds": {**seconds, "total": total}, "peak_rss_mib": peak})
    _run("show", str(out), "--totals", totals)
    console.print(
        f"this run took {time.perf_counter() - began:.0f} s; see {out / 'report.md'} and {out / 'results.json'}"
    )


def _ask(bank: Path, fact: Fact, chosen: Sequence[str]) -> None:
    """Asks a bank for a fact by its memory alone, in a wording that nothing trained on where the fact has one."""
    question = (*fact.held_out, fact.question)[0]
    print(f"{question} (The fact says: {fact.answer}.)", flush=True)
    _run("ask", str(bank), question, "--no-lookup", *chosen)


def _run(*command: str) -> None:
    """Runs a command of this package in a process of its own; one that fails has told why, and ends this too."""
    # The report of `recall` is in report.md; the last screen says what matters of it, once.
    printed = subprocess.DEVNULL if command[0] == "recall" else None
    code = subprocess.run([sys.executable, "-m", "lorary", *command], stdout=printed).returncode
    if code:
        raise SystemExit(code)


def _hash(*files: Path) -> str:
    """Hex sha256 over the files' contents; a missing file counts too."""
    digest = sha256()
    for file in files:
        digest.update(file.read_bytes() if file.exists() else b"missing")
    return digest.hexdigest()


def _stamp(file: Path) -> dict[str, Any] | None:
    """What an earlier run noted of a step: a hash of what it made, and its seconds; None where there is no such note."""
    try:
        stamp = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return stamp if isinstance(stamp, dict) and {"stamp", "seconds"} <= stamp.keys() else None
