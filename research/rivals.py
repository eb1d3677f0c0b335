"""Rivals of the gate: how PEFT's own routers weigh the memories of a bank for questions."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from jaxtyping import Float
from peft import PeftModel
from torch import Tensor

from lorary.bank.bank import MemoryBank
from lorary.base.loading import Base
from lorary.base.prompts import prompt, prompt_batch
from lorary.memories.rows import tokenise
from lorary.model.composite import base_of
from lorary.randomness import seeded
from lorary.research.peft_routers import (
    PEFT,
    adapter_folders,
    check_rival,
    new_arrow,
    new_xlora,
    train_xlora,
    weights_of,
)
from lorary.research.settings import Budget, RivalError

_TOGETHER = 32
"""Questions a batch."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """Questions with their answers to train on, and questions to weigh the memories for."""

    trained: Sequence[tuple[str, str]]
    questions: Sequence[str]


def weigh(
    rival: str, bank: MemoryBank, task: Task, budget: Budget, *, seed: int = 0, base: Base | None = None
) -> tuple[dict[str, Any], Float[Tensor, "questions memories"] | None]:
    """(what a rival's run took, its weights of the memories for each question; None where it refuses the bank).

    What it took has the least and the greatest sum of a token's weights as its `total`.

    Args:
        seed: of first weights and order; the caller's random numbers are as they were afterwards.
        base: the bank's, loaded; it is left changed.

    Raises:
        RivalError: an unknown rival.
    """
    check_rival(rival)
    loaded, run = base_of(bank, base), {"rival": rival, "seed": seed, "peft": PEFT}
    with TemporaryDirectory() as work, seeded(seed):
        folders = adapter_folders(bank, Path(work))
        try:
            if rival == "xlora":
                return _xlora(loaded, folders, task, budget, seed, run)
            began = time.perf_counter()
            weights, total = _weights(new_arrow(loaded, folders, seed).eval(), loaded, task.questions, len(bank))
            return run | _took(time.perf_counter() - began, 0, 0, total), weights
        except RivalError as error:
            return run | {"refused": str(error)}, None
        finally:
            gc.collect()


def _xlora(
    base: Base, folders: Sequence[Path], task: Task, budget: Budget, seed: int, run: dict[str, Any]
) -> tuple[dict[str, Any], Tensor]:
    """The same of X-LoRA, whose seconds are those of its training."""
    rows = [tokenise(base.tokenizer, 0, i, question, answer) for i, (question, answer) in enumerate(task.trained)]
    model = new_xlora(base, folders)
    steps, seconds = train_xlora(model, rows, int(base.tokenizer.pad_token_id), budget, random.Random(seed))
    weights, total = _weights(model, base, task.questions, len(folders))
    return run | _took(seconds, steps, steps * min(budget.batch_size, len(rows)), total), weights


def _took(seconds: float, steps: int, rows: int, total: Tensor) -> dict[str, Any]:
    spread = [round(float(total.min()), 4), round(float(total.max()), 4)]
    return {"seconds": round(seconds, 1), "steps": steps, "rows": rows, "total": spread}


def _weights(
    model: PeftModel, base: Base, questions: Sequence[str], memories: int
) -> tuple[Float[Tensor, "questions memories"], Float[Tensor, " sums"]]:
    """(the weights for each question, means over tokens and layers; the sums of the weights at each token)."""
    texts = [prompt(base.tokenizer, question) for question in questions]
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # padding is wasted work
    scores, totals = torch.zeros(len(texts), memories), list[Tensor]()
    with weights_of(model, memories) as read:
        for part in (order[start : start + _TOGETHER] for start in range(0, len(order), _TOGETHER)):
            inputs = prompt_batch(base.tokenizer, [texts[i] for i in part], "right")
            weights, real = read(inputs.input_ids), inputs.attention_mask.float()
            totals.append(weights.sum(-1)[real > 0].flatten())
            scores[part] = over_tokens(weights.mean(2), real)
    return scores, torch.cat(totals)


def over_tokens(
    weights: Float[Tensor, "batch seq memories"], real: Float[Tensor, "batch seq"]
) -> Float[Tensor, "batch memories"]:
    """The mean over a row's real tokens."""
    return torch.einsum("bsm,bs->bm", weights, real) / real.sum(-1, keepdim=True)
