"""Where the time of writing a memory goes, and how fast this machine multiplies the matrices that occur."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from transformers import PreTrainedModel

from lorary.bank.facts import Fact
from lorary.base.layers import block_linears, layer_of, layers_path
from lorary.base.loading import Base
from lorary.base.rows import default_split
from lorary.memories.passes import batches_of_pass
from lorary.memories.recipe import Recipe
from lorary.memories.writing import Writer, _hits, step

_PRODUCTS = {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"}
_STEPS, _ROUNDS = 8, 3


def matmul_rates(model: PreTrainedModel, tokens: Sequence[int] = (64, 256)) -> list[dict[str, Any]]:
    """GFLOP/s of processor time of each linear's product in fp32 and bf16, for so many tokens; the best of three rounds."""
    prefix = layers_path(model)
    shapes = {path.split(".")[-1]: shape for path, shape in block_linears(model).items() if layer_of(path, prefix) == 0}
    embedding = model.get_output_embeddings().weight.shape
    shapes["head"] = (embedding[1], embedding[0])
    return [
        {"linear": name, "in": d_in, "out": d_out, "tokens": count, **_rates(d_in, d_out, count, model.device)}
        for name, (d_in, d_out) in shapes.items()
        for count in tokens
    ]


@torch.no_grad()
def _rates(d_in: int, d_out: int, tokens: int, device: torch.device) -> dict[str, float]:
    rates = {}
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(tokens, d_in, device=device).to(dtype)
        weight = torch.randn(d_out, d_in, device=device).to(dtype)
        seconds = _fastest(lambda x=x, weight=weight: nn.functional.linear(x, weight))  # type: ignore[misc]
        rates[str(dtype).removeprefix("torch.")] = round(2 * tokens * d_in * d_out / seconds / 1e9, 1)
    return rates


def _fastest(work: Callable[[], Any]) -> float:
    """Processor seconds of one call, the best of three rounds of 0.05 s."""
    work()
    best = float("inf")
    for _ in range(_ROUNDS):
        began, calls = time.process_time(), 0
        while time.process_time() - began < 0.05:
            work()
            calls += 1
        best = min(best, (time.process_time() - began) / calls)
    return best


def profile_of(base: Base, facts: Sequence[Fact], recipe: Recipe) -> dict[str, Any]:
    """Processor seconds of the parts of writing a memory of `facts`, and the share that products take of the steps.

    The parts of a step are measured on a few batches, and told a thousand tokens.
    """
    began = time.process_time()
    writer = Writer(base, [facts], recipe, default_split(base.model))
    below = time.process_time() - began
    store = writer.train_rows
    held = sum(len(row.ids) - 1 for row in (*store.rows, *writer.validation_rows.rows))
    optimizer = writer.optimizer()
    chunks = batches_of_pass(store, recipe, writer.order, range(len(store.rows)), {}, 1)[:_STEPS]
    step(writer, optimizer, chunks[0])
    tokens = sum(len(store.rows[i].ids) - 1 for chunk in chunks for i in chunk)
    parts = dict.fromkeys(("forward", "loss", "backward", "optimizer"), 0.0)
    for chunk in chunks:
        drawn = writer.vocabulary.draw()
        (logits, labels, _), spent = _spent(lambda a=chunk, b=drawn: writer.logits(store, a, b))  # type: ignore[misc]
        parts["forward"] += spent
        loss, spent = _spent(lambda a=logits, b=labels: writer.vocabulary.losses(a, b).mean())  # type: ignore[misc]
        parts["loss"] += spent
        optimizer.zero_grad(set_to_none=True)
        parts["backward"] += _spent(loss.backward)[1]
        parts["optimizer"] += _spent(optimizer.step)[1]
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for chunk in chunks:
            step(writer, optimizer, chunk)
    events = profiled.key_averages()
    asked = sum(len(row.ids) - 1 for row in writer.validation_rows.rows)
    measuring = _spent(lambda: _hits(writer, writer.validation_rows, 0))[1]
    return {
        "seconds": {"below the split, once a row": round(below / held * 1000, 4)}
        | {f"a step: {name}": round(spent / tokens * 1000, 4) for name, spent in parts.items()}
        | {"asking validation wordings": round(measuring / max(asked, 1) * 1000, 4)},
        "products": round(
            sum(e.self_cpu_time_total for e in events if e.key in _PRODUCTS)
            / sum(e.self_cpu_time_total for e in events),
            3,
        ),
        "tokens": tokens,
        "tokens_a_second": round(tokens / sum(parts.values())),
    }


def _spent(work: Callable[[], Any]) -> tuple[Any, float]:
    """(what some work returns, the processor seconds that it took)."""
    began = time.process_time()
    made: Tensor | Any = work()
    return made, time.process_time() - began
