"""Labels by loss: which memory explains an answer best, where nobody said whose it is."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from lorary.base.rows import SplitRows
from lorary.model.active_route import ActiveRoute, apply_route
from lorary.model.modeling import LoraryForCausalLM
from lorary.progress import progress_bars
from lorary.router_training.queries import Example, answer_row

_ROWS = 64
"""Of a pass; nothing trains."""


@torch.no_grad()
def answer_losses(
    model: LoraryForCausalLM, answers: SplitRows, chunk: Sequence[int], *, base: bool = False
) -> Float[Tensor, "rows sources"]:
    """The mean loss of each answer's tokens under each memory alone, in nats; the layers below the split run once.

    Args:
        chunk: the rows of `answers`.
        base: the last column is the loss under the base alone.
    """
    alone = [one_hot.expand(len(chunk), 1, -1) for one_hot in torch.eye(len(model.memories), device=model.device)]
    losses = []
    for weights in (*alone, None) if base else alone:
        with apply_route(ActiveRoute(weights)):
            logits, wanted, row = answers.logits(chunk)
        each, row = functional.cross_entropy(logits, wanted, reduction="none").cpu(), row.cpu()
        losses.append(torch.zeros(len(chunk)).index_add(0, row, each) / row.bincount(minlength=len(chunk)))
    return torch.stack(losses, dim=-1)


def losses_of(
    model: LoraryForCausalLM, examples: Sequence[Example], *, quiet: bool = False
) -> Float[Tensor, "examples memories_and_base"]:
    """The mean loss of each example's answer under each memory alone, and under the base last; a bar on standard error."""
    rows = [answer_row(model.tokenizer, example) for example in examples]
    answers = SplitRows(model.base, model.config.split_layer, rows, int(model.tokenizer.pad_token_id))
    losses = torch.zeros(len(examples), len(model.memories) + 1)
    by_length = sorted(range(len(rows)), key=lambda i: len(rows[i].ids))  # padding is wasted work
    with progress_bars(quiet) as bars:
        bar = bars.start("loss of each completion under each memory", len(rows))
        for start in range(0, len(by_length), _ROWS):
            part = by_length[start : start + _ROWS]
            losses[part] = answer_losses(model, answers, part, base=True)
            bar.advance(len(part))
    return losses


def least(losses: Float[Tensor, "examples memories_and_base"]) -> Int[Tensor, " examples"]:
    """The number of the memory with the least loss; that of none where the base alone explains an answer as well."""
    none = losses.shape[-1] - 1
    loss, memory = losses[:, :none].min(-1)
    return torch.where(loss < losses[:, none], memory, none)
