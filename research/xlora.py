"""PEFT's X-LoRA (Buehler and Buehler 2024, arXiv 2402.07148) over the memories of a bank: trained, and its weights read."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from peft import PeftModel, XLoraConfig, get_peft_model
from torch import Tensor, nn

from lorary.base.loading import Base
from lorary.base.rows import pad
from lorary.memories.rows import Row
from lorary.research.rivals import Budget, Contest, Outcome, RivalError, over_tokens


def new_xlora(base: Base, folders: Sequence[Any]) -> PeftModel:
    """X-LoRA over the adapters in `folders`, untrained, with PEFT's default classifier; only that can be trained.

    The base's linears are replaced in place; `unload` is not offered, so load the base anew afterwards.

    Raises:
        RivalError: PEFT refuses the adapters, in its own words.
    """
    base.model.config.use_cache = False  # it refuses a base with a cache
    # It loads its adapters under their numbers and then asks for them by the keys given here, so those are numbers too.
    adapters = {str(number): str(folder) for number, folder in enumerate(folders)}
    hidden = base.model.config.get_text_config().hidden_size
    config = XLoraConfig(task_type="CAUSAL_LM", hidden_size=hidden, adapters=adapters)
    try:
        model: Any = get_peft_model(base.model, config)
    except (ValueError, TypeError) as error:
        raise RivalError(f"PEFT refuses these adapters: {str(error).splitlines()[0]}") from error
    classifier = model.base_model.internal_xlora_classifier
    # It takes the base's dtype; steps of a small learning rate are lost in bf16.
    classifier.layers.float()
    classifier.layers[0].register_forward_pre_hook(lambda _, args: (args[0].float(),))
    assert isinstance(model, PeftModel)
    return model


def scalings_of(model: PeftModel) -> Float[Tensor, "batch seq layers memories"]:
    """The weights that the last pass gave each memory."""
    xlora: Any = model.base_model
    scalings = xlora.get_latest_scalings()
    assert isinstance(scalings, Tensor)
    return scalings


def xlora_outcome(base: Base, contest: Contest, budget: Budget, seed: int) -> Outcome:
    """X-LoRA's weights for the rows, after as many seconds of the language-model loss on the trained answers.

    It has no use for labels: its classifier learns through the mixture alone.
    """
    model = new_xlora(base, contest.folders)
    steps, spent = train(model, contest.trained, contest.pad_id, budget, random.Random(seed))
    scores, totals = torch.zeros(len(contest.prompts), len(contest.folders)), list[Tensor]()
    with torch.no_grad():
        for rows, ids, real in contest.batches():
            model(input_ids=ids.to(base.model.device), logits_to_keep=1)
            weights = scalings_of(model).float().mean(2).cpu()
            totals.append(weights.sum(-1)[real > 0])
            scores[rows] = over_tokens(weights, real)
    total = torch.cat(totals)
    spread = (round(float(total.min()), 4), round(float(total.max()), 4))
    return Outcome(scores, spread, round(spent, 1), steps, steps * min(budget.batch_size, len(contest.trained)))


def train(
    model: PeftModel,
    rows: Sequence[Row],
    pad_id: int,
    budget: Budget,
    order: random.Random,
    spent_so_far: Callable[[float], None] = lambda _: None,
) -> tuple[int, float]:
    """(steps, seconds) of X-LoRA's training on the answers of the rows; the learning rate falls straight to nothing at
    the end of the time.

    Args:
        spent_so_far: is told the seconds before each step.
    """
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=budget.lr, weight_decay=0.0)
    left: list[Row] = []
    steps, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < budget.seconds:
        spent_so_far(spent)
        for group in optimizer.param_groups:
            group["lr"] = budget.lr * (1 - spent / budget.seconds)
        if not left:
            left = order.sample(rows, len(rows))
        chunk, left = left[: budget.batch_size], left[budget.batch_size :]
        ids, labels = pad(chunk, pad_id)
        row, column = (labels != -100).nonzero(as_tuple=True)
        logits = model(input_ids=ids.to(model.device)).logits[row, column].float()
        loss = nn.functional.cross_entropy(logits, labels[row, column].to(logits.device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        steps += 1
    return steps, time.perf_counter() - began
