"""Writes many memories in one job: rows of several memories share each pass over the frozen base.

The layers below the split run once a row, not once a step; logits are computed only where there is a label. A memory
stops when its facts are recalled under validation wordings, which nothing trains on; one without any, under trained ones.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from lorary.bank.facts import Fact
from lorary.base.layers import bare_twin, block_linears, layer_of, layers_path, mlp_targets
from lorary.base.loading import Base
from lorary.memories.blocks import blocks_above
from lorary.memories.passes import batches_of_pass
from lorary.memories.rates import groups_by_rate
from lorary.memories.recipe import Recipe, falling
from lorary.memories.rows import EVALUATED, Known, Store, rows, validation_rows
from lorary.memories.sampling import SampledVocabulary
from lorary.model.active_route import ActiveRoute, apply_route
from lorary.model.mixture import MixtureLinear, install

Hits = tuple[tuple[bool, ...], ...]
"""Of each fact, whether greedy decoding gives its whole answer under each of its wordings."""
_BETAS = (0.9, 0.95)
"""AdamW's memory of gradients and of their squares: a memory takes some hundred steps, too few for a longer one."""
_LONGEST = 1.0
"""The norm that gradients are cut to: under a high rate single steps would throw a memory off."""
MOST = 0.8
"""The share of a pass's rows that must be likely right before recall is measured."""


@dataclass(frozen=True)
class Written:
    """One written memory: its unscaled LoRA factors by module path, and what was measured while writing.

    Args:
        trained_recall, validation_recall: share of its facts recalled under every such wording that is asked, of those that
            have one; None where no fact has one, so that nothing was measured.
        trained, validation: the same, wording by wording, in the order in which the facts have them; of the trained ones
            those alone that certificates ask (`rows.asked`).
        shown: times that a row of it took part in a step.
    """

    factors: dict[str, tuple[Tensor, Tensor]]
    trained_recall: float | None
    validation_recall: float | None
    epochs: int
    stopped: str
    trained: Hits = ()
    validation: Hits = ()
    shown: int = 0


Report = Callable[[float, list[float]], None]
"""Called after each step with (passes over the rows so far, validation recall by memory, NaN of one without such wordings)."""


class Writer:
    """The rows of some memories and the mixtures that learn them, over a frozen base of their own."""

    def __init__(
        self,
        base: Base,
        memories: Sequence[Sequence[Fact]],
        recipe: Recipe,
        split_layer: int,
        known: Known | None = None,
        plain: bool = False,
    ) -> None:
        base = replace(base, model=bare_twin(base.model))  # the mixtures go into modules that nobody else holds
        self.base, self.memories, self.recipe, self.split = base, memories, recipe, split_layer
        self.order = random.Random(recipe.seed)
        shown = rows(base.tokenizer, memories, **recipe.rows)
        self.train_rows = Store(base, split_layer, shown, known)
        self.validation_rows = Store(base, split_layer, validation_rows(base.tokenizer, memories), known)
        self.vocabulary = SampledVocabulary(
            (token for row in shown for token in row.ids[row.start :]),
            base.model.get_output_embeddings().weight.shape[0],
            recipe.compared,
            torch.Generator().manual_seed(recipe.seed),
        )
        self.layers = install(base.model, self._start())
        for layer in self.layers.values():
            layer.down.requires_grad_(True)
            layer.up.requires_grad_(True)
        probe = torch.tensor([self.train_rows.rows[0].ids[:-1]], device=base.model.device)
        self.blocks = None if plain else blocks_above(base.model, split_layer, self.layers, probe)

    def _start(self) -> list[dict[str, tuple[Tensor, Tensor]]]:
        """A from a uniform distribution (He), B zero, as PEFT starts; a generator of its own, so seeds repeat."""
        recipe, model = self.recipe, self.base.model
        generator = torch.Generator().manual_seed(recipe.seed)
        names, prefix = recipe.target_modules or tuple(mlp_targets(model)), layers_path(model)
        shapes = {
            path: shape
            for path, shape in block_linears(model).items()
            if path.split(".")[-1] in names and layer_of(path, prefix) >= self.split
        }

        def factors(shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
            bound = 1 / math.sqrt(shape[0])
            a = torch.empty(recipe.r, shape[0]).uniform_(-bound, bound, generator=generator)
            return a, torch.zeros(shape[1], recipe.r)

        return [{path: factors(shape) for path, shape in shapes.items()} for _ in self.memories]

    @property
    def parameters(self) -> list[Tensor]:
        """The factors of all memories."""
        return [factor for layer in self.layers.values() for factor in (layer.down, layer.up)]

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW over the factors of all memories; a group for each `share` of the rate (`rates.share_of_rate`)."""
        groups = groups_by_rate(self.layers.values())
        return torch.optim.AdamW(groups, lr=self.recipe.lr, betas=_BETAS, weight_decay=0.0, fused=True)

    def logits(self, store: Store, chunk: Sequence[int], tokens: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """(logits where there is a label, those labels, the row of each), as `SplitRows.logits` gives them."""
        memory = torch.tensor([store.rows[i].memory for i in chunk])
        one_hot = nn.functional.one_hot(memory, len(self.memories)).to(self.base.model.device, self.base.model.dtype)
        if self.blocks is not None:
            gains = one_hot.repeat_interleave(self.recipe.r, 1)
            return store.states.logits(chunk, tokens, partial(self.blocks, gains=gains))
        with apply_route(ActiveRoute(one_hot.unsqueeze(1))):
            return store.states.logits(chunk, tokens)

    @torch.no_grad()
    def recalled(self, store: Store, wanted: Sequence[int]) -> dict[int, bool]:
        """Row → whether greedy decoding would give the whole answer (every label is the argmax)."""
        right: dict[int, bool] = {}
        for chunk in store.batches(wanted, EVALUATED, None):
            logits, labels, row = self.logits(store, chunk)
            right.update(zip(chunk, _whole(logits.argmax(-1) == labels, row, len(chunk)).tolist(), strict=True))
        return right

    def snapshot(self, memory: int) -> dict[str, tuple[Tensor, Tensor]]:
        """The unscaled factors of one memory, as they are now."""

        def factors(layer: MixtureLinear) -> tuple[Tensor, Tensor]:
            down, up, _ = layer.slots([memory])
            scale = self.recipe.lora_alpha / self.recipe.r
            return down.detach().clone().cpu(), (up.detach() / scale).cpu()

        return {path: factors(layer) for path, layer in self.layers.items()}


def _whole(right: Bool[Tensor, " labels"], row: Tensor, rows_: int) -> Bool[Tensor, " rows"]:
    """Whether all of a row's labels are right."""
    wrong = torch.zeros(rows_, dtype=torch.long, device=row.device).index_add(0, row, (~right).long())
    return wrong == 0


def write(
    base: Base,
    memories: Sequence[Sequence[Fact]],
    recipe: Recipe,
    split_layer: int,
    report: Report | None = None,
    known: Known | None = None,
    plain: bool = False,
) -> list[Written]:
    """The memories for `memories` (the facts of each), in order, written together over the frozen base.

    The base stays as it is. Facts carry their `validation` wordings (`rows.with_validation`).

    Args:
        known: the states of rows that need not be run below the split again (`states_of`).
        plain: runs the base's own code above the split, and not the formulas of `blocks`.
    """
    return _run(Writer(base, memories, recipe, split_layer, known, plain), report or (lambda *_: None))


def _run(writer: Writer, report: Report) -> list[Written]:
    recipe, count = writer.recipe, len(writer.memories)
    optimizer = writer.optimizer()
    written: dict[int, Written] = {}
    kept = {row.memory for row in writer.validation_rows.rows}
    recall = [0.0 if memory in kept else math.nan for memory in range(count)]
    sure: dict[int, float] = {}
    shown = Counter[int]()
    for epoch in range(1, recipe.max_epochs + 1):
        open_rows = [i for i, row in enumerate(writer.train_rows.rows) if row.memory not in written]
        chunks = batches_of_pass(writer.train_rows, recipe, writer.order, open_rows, sure, epoch)
        done, planned = 0, sum(map(len, chunks))
        for chunk in chunks:
            rate = falling(recipe.lr, epoch - 1 + done / planned, recipe.max_epochs)
            for group in optimizer.param_groups:
                group["lr"] = group["share"] * rate
            sure.update(step(writer, optimizer, chunk))
            shown.update(writer.train_rows.rows[i].memory for i in chunk)
            done += len(chunk)
            report(epoch - 1 + done / planned, recall)
        if recipe.recall is None and epoch < recipe.max_epochs:
            continue  # none can stop yet, so what they recall so far decides nothing
        last, passed = epoch == recipe.max_epochs, [i for chunk in chunks for i in chunk]
        for memory in [m for m in range(count) if m not in written]:
            if not last and not _promising([sure[i] for i in passed if writer.train_rows.rows[i].memory == memory]):
                continue
            unseen = _hits(writer, writer.validation_rows, memory)
            measured = _whole_facts(unseen)
            seen = _hits(writer, writer.train_rows, memory) if measured is None or last else ()
            recall[memory] = math.nan if measured is None else measured
            judged = _whole_facts(seen) if measured is None else measured
            enough = judged is not None and recipe.recall is not None and judged >= recipe.recall
            if enough or last:
                seen = seen or _hits(writer, writer.train_rows, memory)
                stopped = "recalled" if enough else "cap"
                shares, factors = (_whole_facts(seen), measured), writer.snapshot(memory)
                written[memory] = Written(factors, *shares, epoch, stopped, seen, unseen, shown[memory])
        if len(written) == count:
            break
    return [written[m] for m in range(count)]


def step(writer: Writer, optimizer: torch.optim.Optimizer, chunk: Sequence[int]) -> dict[int, float]:
    """One step on one batch; returns row → the least probability that one of its tokens had."""
    tokens = writer.vocabulary.draw()
    logits, labels, row = writer.logits(writer.train_rows, chunk, tokens)
    losses = writer.vocabulary.losses(logits, labels)
    optimizer.zero_grad(set_to_none=True)
    losses.mean().backward()
    nn.utils.clip_grad_norm_(writer.parameters, _LONGEST)
    optimizer.step()
    worst = torch.zeros(len(chunk), device=row.device).scatter_reduce(0, row, losses.detach(), "amax")
    return dict(zip(chunk, (-worst).exp().tolist(), strict=True))


def _promising(sure: Sequence[float]) -> bool:
    """Whether most rows of a pass were likely right, so that it is worth measuring what is recalled."""
    return sum(probability > 0.5 for probability in sure) >= MOST * len(sure)


def _hits(writer: Writer, store: Store, memory: int) -> Hits:
    """What greedy decoding recalls of a memory's facts under the wordings in `store` that count."""
    wordings: list[list[int]] = [[] for _ in writer.memories[memory]]
    for i, row in enumerate(store.rows):
        if row.memory == memory and row.counted:
            wordings[row.fact].append(i)
    right = writer.recalled(store, [i for own in wordings for i in own])
    return tuple(tuple(right[i] for i in own) for own in wordings)


def _whole_facts(hits: Hits) -> float | None:
    """The share of facts recalled under every wording, of those that have one; None where none has."""
    facts = [all(wordings) for wordings in hits if wordings]
    return 1 - (len(facts) - sum(facts)) / len(facts) if facts else None
