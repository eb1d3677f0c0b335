"""What a bank of many memories costs to open and to change: `python -m lorary.research.bank_steps COMPOSITE`, one process.

The base and the encoder are loaded before anything is timed, so that what is told is the memories' part.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import logging as transformers_logging

from lorary.base.loading import EMBEDDED, load_base
from lorary.model.composite import load_composite
from lorary.research.bench_cells import Cell
from lorary.research.bench_models import composite, questions, random_bank
from lorary.routing.encoder import load_encoder

ADAPTERS = 64
STEPS = {
    "base": "the base alone is opened",
    "opening": "the composite is opened, its base apart",
    "first": "the first question is routed",
    "second": "the second question is routed",
    "adapters": f"the factors of {ADAPTERS} memories are read, checked and cast",
    "leaves": "a memory leaves",
    "after_leaving": "the next question is routed",
    "joins": "a memory with facts joins",
    "after_joining": "the next question is routed",
    "saving": "the composite is saved with both changes",
    "again": "it is saved again, unchanged",
}
"""Step → what happens in it."""
_STATUS = Path("/proc/self/status")


def write_composite(folder: str | Path, memories: int, base_name: str = EMBEDDED) -> None:
    """Saves a composite of so many random memories (`bench_models.random_bank`), in the dtype that this machine likes best."""
    base = load_base(base_name)
    cell = Cell(name="bank", kind="decode", way="query", memories=memories, prompt=16)
    model = composite(random_bank(base, cell), base, "query")
    model.router.features(questions(model.router.bank)[:1])  # index, names and lexicon are made, and saved with it
    model.save_pretrained(folder)


@torch.inference_mode()
def measure(folder: str, base_name: str = EMBEDDED) -> dict[str, list[float]]:
    """Step → [seconds of the processor, by the clock, MiB that the process holds beyond the base afterwards; 0 where the
    system does not tell]."""
    load_encoder().encode(["Who keeps the lamp?"])
    load_base(base_name)
    held = _mebibytes()
    taken: dict[str, list[float]] = {}

    def timed(step: str, act: Callable[[], Any]) -> Any:
        clock, processor = time.perf_counter(), time.process_time()
        result = act()
        seconds = time.process_time() - processor, time.perf_counter() - clock
        taken[step] = [*(round(value, 4) for value in seconds), round(_mebibytes() - held, 1)]
        return result

    timed("base", lambda: load_base(base_name))
    model = timed("opening", lambda: load_composite(folder, base=base_name))
    taken["opening"][:2] = [
        round(own - base, 4) for own, base in zip(taken["opening"], taken["base"][:2], strict=False)
    ]
    model.router.get_encoder()
    asked = iter(questions(model.router.bank))
    route = lambda: model.router.decide(model.router.features([next(asked)]), model.router.policy)  # noqa: E731
    timed("first", route)
    timed("second", route)
    timed("adapters", lambda: [model.factors.stack((number,)) for number in range(min(ADAPTERS, len(model.memories)))])
    leaving = model.router.bank[model.memories[len(model.memories) // 2]]
    joining = replace(leaving, tensors=dict(leaving.tensors))
    timed("leaves", lambda: model.remove_memory(leaving.name))
    timed("after_leaving", route)
    timed("joins", lambda: model.add_memory(joining, encoder=model.router.get_encoder()))
    timed("after_joining", route)
    timed("saving", lambda: model.save_pretrained(folder))
    timed("again", lambda: model.save_pretrained(folder))
    return taken


def _mebibytes() -> float:
    """What this process holds in memory of its own, files apart; 0 where the system does not tell."""
    if not _STATUS.exists():
        return 0.0
    [line] = [line for line in _STATUS.read_text().splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    transformers_logging.set_verbosity_error()
    print(json.dumps(measure(*sys.argv[1:])))
