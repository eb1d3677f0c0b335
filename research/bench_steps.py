"""A cell of the speed bench, run as a process of its own: `python -m lorary.research.bench_steps CELL`, CELL as JSON.

Each step stands beside a step of the base in the same process, so what else the machine does meets both.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import torch
from transformers import logging as transformers_logging

from lorary.bank.bank import MemoryBank
from lorary.base.loading import Base, load_base
from lorary.research.bench_cells import Cell
from lorary.research.bench_checks import MIXED, compared
from lorary.research.bench_models import composite, lighter, long_prompt, questions, random_bank
from lorary.research.bench_peers import peer_of
from lorary.research.settings import StudyError
from lorary.tables import counted

Step = Callable[[], Any]
"""A step; a number that it returns are the seconds that it took by its own clock."""
Block = tuple[Step, Step]
"""A step of the base and one of the other, to be timed in turn."""
FIRST_PROMPT = 48


@torch.inference_mode()
def measure(cell: Cell, base_name: str, repeats: int, steps: int) -> dict[str, Any]:
    """The steps of a cell, after outputs were compared.

    Returns:
        `blocks`: for each repeat a list of [when it began, the base's seconds, the other's]; `checked`: what was
        compared; `memories_used` by the last pass of a composite; `machine`: dtype, threads and instruction set.

    Raises:
        StudyError: outputs that should be equal are not, or a pass that should be routed was not.
    """
    base = load_base(base_name, dtype=cell.dtype)
    bank = random_bank(base, cell)
    lorary = cell.way in ("query", "token", "named", "none")
    own = lighter(base, cell.light)
    model: Any = composite(bank, own, cell.way, cell.routes) if lorary else peer_of(cell, bank, own)
    checked = compared(model, bank, own, cell)
    timed = Timed(model, bank, base, cell, steps)
    blocks, began = [], time.perf_counter()
    for repeat in range(repeats + 1):  # the first warms up
        pair = timed.block(repeat)
        order = (0, 1) if repeat % 2 else (1, 0)
        block = []
        for _ in range(steps):
            at, took = time.perf_counter() - began, [0.0, 0.0]
            for place in order:
                started = time.perf_counter()
                measured = pair[place]()
                took[place] = measured if isinstance(measured, float) else time.perf_counter() - started
            block.append([round(at, 4), *(round(seconds, 6) for seconds in took)])
        blocks.append(block)
    told = {"dtype": cell.dtype, "threads": torch.get_num_threads(), "cpu": torch.backends.cpu.get_cpu_capability()}
    return {"blocks": blocks[1:], "checked": checked, "machine": told, **timed.routed()}


@dataclass
class Timed:
    """The base and what stands beside it.

    Args:
        steps: of a block.
        cache: that the last pass of `model` left.
    """

    model: Any
    bank: MemoryBank
    base: Base
    cell: Cell
    steps: int
    cache: Any = None

    def block(self, repeat: int) -> Block:
        """The steps of one block, of questions that no block asked before."""
        asked = questions(self.bank)
        first = repeat * self.steps
        texts = [asked[(first + number) % len(asked)] for number in range(1, self.steps + 1)]
        kind: dict[str, Callable[[list[str]], Block]] = {
            "decode": self.decoding,
            "switch": self.switching,
            "turn": self.switching,
        }
        return kind.get(self.cell.kind, self.reading)(texts)

    @property
    def options(self) -> dict[str, Any]:
        """What a caller gives each pass: names a row where memories are named."""
        cell, names = self.cell, self.bank.names
        if cell.way == "named" or cell.way in MIXED:
            argument = MIXED.get(cell.way, "adapter_names")
            return {argument: [names[row % cell.routes] for row in range(cell.batch)]}
        return {"adapter_names": ["__base__"] * cell.batch} if cell.way == "none" else {}

    def decoding(self, texts: list[str]) -> Block:
        """A token each, after a cached prompt; X-LoRA keeps no cache, so it reads the prompt each time."""
        ids = long_prompt(self.base.tokenizer, texts[0], self.cell.prompt).repeat(self.cell.batch, 1)

        def stepping(asked: Any, options: Mapping[str, Any]) -> Step:
            output = asked(input_ids=ids, use_cache=True, logits_to_keep=1, **options)
            cache, token = output.past_key_values, output.logits[:, -1:].argmax(-1)
            if asked is self.model:
                self.cache = cache
            return lambda: asked(input_ids=token, past_key_values=cache, use_cache=True, logits_to_keep=1, **options)

        if self.cell.way == "llama.cpp":
            return stepping(self.base.model, {}), lambda: self.model.decode(ids)
        if self.cell.way == "xlora":
            return stepping(self.base.model, {}), lambda: self.model(input_ids=ids, logits_to_keep=1)
        return stepping(self.base.model, {}), stepping(self.model, self.options)

    def reading(self, texts: list[str]) -> Block:
        """A whole prompt each, up to the first token."""
        tokens = FIRST_PROMPT if self.cell.kind == "first_token" else self.cell.prompt
        prompts = [long_prompt(self.base.tokenizer, text, tokens).repeat(self.cell.batch, 1) for text in texts]

        def stepping(asked: Any, options: Mapping[str, Any]) -> Step:
            left = iter(prompts)

            def step() -> None:
                output = asked(input_ids=next(left), use_cache=True, logits_to_keep=1, **options)
                output.logits[:, -1].argmax(-1)
                if asked is self.model:
                    self.cache = output.past_key_values

            return step

        if self.cell.way == "llama.cpp":
            left = iter(prompts)
            return stepping(self.base.model, {}), lambda: self.model.read(next(left))
        return stepping(self.base.model, {}), stepping(self.model, self.options)

    def switching(self, texts: list[str]) -> Block:
        """A cached prompt goes on under another memory, beside a whole pass over it; with the next turn's first token where a
        turn is asked for."""
        ids, names = long_prompt(self.base.tokenizer, texts[0], self.cell.prompt), self.bank.names[:2]
        turns, mask = cycle(names), torch.ones_like(ids)
        self.cache = self.model(input_ids=ids, adapter_names=[next(turns)], use_cache=True).past_key_values
        settings: dict[str, Any] = {"max_new_tokens": 1, "do_sample": False, "attention_mask": mask}

        def turn() -> None:
            self.cache.crop(ids.shape[1] - 1 - self.cache.get_seq_length())
            now = {**settings, "past_key_values": self.cache, "adapter_names": [next(turns)]}
            self.model.generate(input_ids=ids, **now)

        if self.cell.kind == "turn":
            return lambda: self.model.generate(input_ids=ids, adapter_names=names[:1], **settings), turn
        return (
            lambda: self.model(input_ids=ids, adapter_names=names[:1], use_cache=True, logits_to_keep=1),
            lambda: self.model.switch_route(self.cache, adapter_names=[next(turns)]),
        )

    def routed(self) -> dict[str, Any]:
        """How many memories the last pass of a composite used.

        Raises:
            StudyError: it used none where it should have, or one where it should not.
        """
        plan = getattr(self.cache, "plan", None)
        decision = None if plan is None else plan.decision or plan.latest
        if decision is None:
            return {}
        used = int((decision.weights != 0).flatten(0, -2).any(0).sum())
        if (used == 0) != (self.cell.way == "none"):
            wrong = "no memory" if used == 0 else counted(used, "memory")
            raise StudyError(f"cell {self.cell.name!r} used {wrong}, so its time tells nothing")
        return {"memories_used": used}


if __name__ == "__main__":
    transformers_logging.set_verbosity_error()
    asked = json.loads(sys.argv[1])
    print(json.dumps(measure(Cell(**asked.pop("cell")), **asked)))
