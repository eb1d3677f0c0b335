"""What writing will take: facts, texts and tokens by counting, minutes by a few samples of the same work on this machine."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heapreplace
from itertools import groupby
from statistics import fmean, median
from typing import Any

import torch

from lorary.bank.facts import Fact
from lorary.base.layers import block_linears, layer_of, layers_path, mlp_targets
from lorary.base.loading import Base
from lorary.base.rows import SplitRows
from lorary.memories.passes import most_texts, rows_a_step
from lorary.memories.recipe import Recipe
from lorary.memories.rows import EVALUATED, Row, rows, validation_rows
from lorary.memories.writing import Writer, step
from lorary.tables import counted

KEY_BYTES = 4 * 384
"""Bytes of one wording's key under the default encoder: 384 numbers in fp32."""
_LEARNT, _SKIPPED = 4, 0.45
"""Times that a text is shown before many are certain, and how often it is shown from then on; seen on development topics."""
_SAMPLE, _TIMES = 32, 3
"""Rows that the machine is measured on, and how often: the median counts."""
_BUSY = 1.25
"""How much longer than the processor worked a sample takes from which on a machine is busy with something else."""
_BESIDE = 1.25
"""How much longer a process takes where others write beside it: seen with two on two cores, which share a memory bus."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What writing a group of memories takes; tokens are those that run, once or each time.

    Args:
        texts: trained ones and those kept for validation.
        below: tokens that run below the split, once.
        shown: tokens of the texts that all passes show, as far as can be foreseen.
        asked: tokens of the texts that are asked to measure recall, of the trained ones those that certificates count.
        step: rows of a step.
    """

    facts: int
    texts: int
    below: int
    shown: int
    asked: int
    step: int


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Seconds of this machine for a token: below the split, in a step, and asked.

    Args:
        waiting: how many times longer it took by the clock, since other work had its turns between.
    """

    below: float
    step: float
    asked: float
    waiting: float = 1.0

    @property
    def busy(self) -> bool:
        """Whether the machine had other work to do."""
        return self.waiting > _BUSY


def work_of(base: Base, memories: Sequence[Sequence[Fact]], recipe: Recipe) -> Work:
    """What the memories of one group take, each with its facts as they are trained on (`rows.kept_for_validation`)."""
    trained = rows(base.tokenizer, memories, **recipe.rows)
    kept = validation_rows(base.tokenizer, memories)
    by_fact = [list(own) for _, own in groupby(trained, key=lambda row: (row.memory, row.fact))]
    facts = Counter(own[0].memory for own in by_fact)
    shown = [(own, min(len(own), most_texts(recipe, facts[own[0].memory]) or len(own))) for own in by_fact]
    measures = max(1, recipe.max_epochs // 2)  # they begin once most rows are likely right
    judged = {row.memory for row in kept}
    counted_texts = [row for row in trained if row.counted]
    by_trained = [row for row in counted_texts if row.memory not in judged]  # nothing else is there to stop by
    return Work(
        facts=len(by_fact),
        texts=len(trained) + len(kept),
        below=_tokens(trained) + _tokens(kept),
        shown=round(sum(_times(len(own), n, recipe) * fmean(len(row.ids) - 1 for row in own) for own, n in shown)),
        asked=measures * _tokens(kept) + _tokens(counted_texts) + (measures - 1) * _tokens(by_trained),
        step=rows_a_step(recipe, sum(n for _, n in shown)),
    )


def _times(texts: int, a_pass: int, recipe: Recipe) -> float:
    """How many texts of a fact with so many all passes show, each so many, those left out that are certain."""
    if recipe.visits is not None:
        return float(recipe.visits * recipe.max_epochs)
    turns = [done * a_pass / texts for done in range(recipe.max_epochs)]
    return a_pass * sum(1.0 if before < _LEARNT else _SKIPPED for before in turns)


def _tokens(held: Sequence[Row]) -> int:
    return sum(len(row.ids) - 1 for row in held)


def speed_of(base: Base, memories: Sequence[Sequence[Fact]], recipe: Recipe, split_layer: int) -> Speed:
    """This machine's speed at writing, measured for some seconds on the first facts of the memories.

    On a processor it is the time for which it worked on this, the median of some samples: other work that has its turns
    between must not be taken for slowness, since it may be gone in a minute.
    """
    few = [own[: max(1, _SAMPLE // (len(memories) * _texts(own[0], recipe)))] for own in memories]
    writer = Writer(base, few, recipe, split_layer)
    store = writer.train_rows
    sample = range(min(len(store.rows), _SAMPLE))
    rows_again = writer.base.model, split_layer, store.rows, int(base.tokenizer.pad_token_id)
    batch = list(sample)[: work_of(base, memories, recipe).step]
    optimizer = writer.optimizer()
    step(writer, optimizer, batch)
    clock = _Clock(base.model.device.type == "cpu")
    below = clock.median(lambda: SplitRows(*rows_again).keep(sample))
    stepping = clock.median(lambda: step(writer, optimizer, batch))
    asking = clock.median(lambda: writer.recalled(store, list(sample)[:EVALUATED]))
    every, shown = _tokens([store.rows[i] for i in sample]), _tokens([store.rows[i] for i in batch])
    return Speed(below=below / every, step=stepping / shown, asked=asking / every, waiting=clock.waiting)


def _texts(fact: Fact, recipe: Recipe) -> int:
    return max(recipe.texts, len(fact.trained) + len(fact.cloze)) + len(fact.validation)


class _Clock:
    """Measures work: by the processor time of this thread, which the others of its pool wait for, or by the wall."""

    def __init__(self, on_processor: bool) -> None:
        self._now = time.thread_time if on_processor else time.perf_counter
        self._worked = self._passed = 0.0

    def median(self, work: Callable[[], Any]) -> float:
        """Seconds of one of some runs, the median."""
        seconds = list[float]()
        for _ in range(_TIMES):
            passed, worked = time.perf_counter(), self._now()
            work()
            seconds.append(self._now() - worked)
            self._passed += time.perf_counter() - passed
        self._worked += sum(seconds)
        return median(seconds)

    @property
    def waiting(self) -> float:
        """How many times longer all took by the clock on the wall."""
        return max(1.0, self._passed / max(self._worked, 1e-9))


def seconds_of(groups: Sequence[Work], speed: Speed, processes: int, loading: float = 0.0) -> float:
    """How long the groups take, each by the next process that is free.

    Args:
        loading: seconds that each of several processes needs to load the base.
    """
    busy, slower = [loading if processes > 1 else 0.0] * max(1, processes), _BESIDE if processes > 1 else 1.0
    for work in groups:
        taken = work.below * speed.below + work.shown * speed.step + work.asked * speed.asked
        heapreplace(busy, busy[0] + slower * taken)
    return max(busy)


def bytes_of(base: Base, memories: Sequence[Sequence[Fact]], recipe: Recipe, split_layer: int) -> int:
    """The bytes of the memories' adapters and keys, about."""
    names, prefix = recipe.target_modules or tuple(mlp_targets(base.model)), layers_path(base.model)
    weights = sum(
        recipe.r * (d_in + d_out)
        for path, (d_in, d_out) in block_linears(base.model).items()
        if path.split(".")[-1] in names and layer_of(path, prefix) >= split_layer
    )
    wordings = sum(len(fact.trained) for facts in memories for fact in facts)
    return len(memories) * weights * torch.float32.itemsize + wordings * KEY_BYTES


def tell_work(groups: Sequence[Work], size: int, seconds: float, passes: int, speed: Speed) -> str:
    """The plan of a build, in a line; of a machine that is busy also what it takes if it stays so."""
    facts, texts = (sum(getattr(work, name) for work in groups) for name in ("facts", "texts"))
    tokens = sum(work.below + work.shown + work.asked for work in groups)
    busy = ""
    if speed.busy:
        longer = counted_minutes(speed.waiting * seconds / 60)
        busy = f"; this machine is busy with other work, and if it stays so, about {longer}"
    return (
        f"plan: {counted(facts, 'fact')}, {counted(texts, 'text')}, {counted(tokens, 'token')} in {counted(passes, 'pass')} "
        f"at most: about {counted_minutes(seconds / 60)}, {size / 1e6:.1f} MB{busy}"
    )


def counted_minutes(minutes: float) -> str:
    """Minutes as people read them: seconds below two minutes."""
    return counted(max(1, round(60 * minutes)), "second") if minutes < 2 else f"{minutes:.1f} minutes"
