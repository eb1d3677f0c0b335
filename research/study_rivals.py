"""PEFT's routers in a gate study: each runs in a process of its own, and meets the study on disk."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from lorary.progress import progress_bars

RIVALS = ("xlora", "arrow")


def rival(
    name: str, seed: int, bank: Path, study: Path, budget: Mapping[str, float], quiet: bool
) -> tuple[dict[str, Any], Float[Tensor, "questions memories"] | None]:
    """(what a rival tells of its run, its weights of the memories; None where it refuses the bank or fails).

    Its files in the study's folder are taken as they are, if it ran there before.
    """
    path = study / "rivals" / f"{name}-{seed}.json"
    if not path.is_file():
        options = [f"--{key}={value}" for key, value in budget.items()]
        command = ["rival-scores", str(bank), "--study", str(study), "--rival", name, "--seed", str(seed), *options]
        with progress_bars(quiet) as bars:
            bar = bars.start(f"rival {name}, seed {seed}, trains at most {budget['seconds']:.0f} s", 1)
            done = subprocess.run(
                [sys.executable, "-m", "lorary", *command], capture_output=True, text=True, check=False
            )
            bar.advance()
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            return {"rival": name, "seed": seed, "refused": f"it failed: {last}"}, None
    told = json.loads(path.read_text(encoding="utf-8"))
    scores = path.with_suffix(".safetensors")
    return told, load_file(scores)["scores"] if "refused" not in told else None
