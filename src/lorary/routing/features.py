"""What the gate reads of the hidden state at the split: a running mean over the tokens so far."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lorary.base.prompts import prompt, prompt_ids
from lorary.base.rows import lower

_AT_ONCE = 32
"""Prompts of one length that run together: without padding, so none changes another."""


def running_mean(
    hidden: Float[Tensor, "batch seq hidden"],
    counted: Float[Tensor, "batch seq"],
    start: tuple[Float[Tensor, "batch hidden"], Float[Tensor, " batch"]] | None = None,
) -> tuple[Float[Tensor, "batch seq hidden"], tuple[Float[Tensor, "batch hidden"], Float[Tensor, " batch"]]]:
    """The mean over the counted tokens up to each position, each token normalised, and the sums to go on from."""
    steps = functional.normalize(hidden.float(), dim=-1) * counted.unsqueeze(-1)
    total, count = steps.cumsum(1), counted.cumsum(1)
    if start is not None:
        total, count = total + start[0].unsqueeze(1), count + start[1].unsqueeze(1)
    return total / count.clamp(min=1).unsqueeze(-1), (total[:, -1], count[:, -1])


def counted_tokens(
    shape: Sequence[int], mask: Tensor | None = None, started: bool = False
) -> Float[Tensor, "batch seq"]:
    """1 for the tokens that the running mean counts: real ones, but not a row's first, the attention sink.

    Args:
        shape: (batch, seq, ...) of the tokens of this pass.
        mask: the attention mask, [batch, past + seq].
        started: earlier tokens are in the cache, so these hold no first one.
    """
    batch, seq = shape[:2]
    real = mask[:, -seq:].float() if mask is not None and mask.ndim == 2 else torch.ones(batch, seq)
    return real if started else real * (real.cumsum(1) > 1)


@torch.no_grad()
def pooled_prompts(
    base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, split_layer: int, questions: Sequence[str]
) -> Float[Tensor, "questions hidden"]:
    """The running mean at the last token of each question's prompt, as a composite sees it."""
    found = torch.zeros(len(questions), base.config.get_text_config().hidden_size)
    prompts = [prompt(tokenizer, question) for question in questions]
    by_length: dict[int, list[tuple[int, list[int]]]] = {}
    for row, ids in enumerate(prompt_ids(tokenizer, prompts)):
        by_length.setdefault(len(ids), []).append((row, ids))
    for alike in by_length.values():
        for start in range(0, len(alike), _AT_ONCE):
            rows, batch = zip(*alike[start : start + _AT_ONCE], strict=True)
            hidden = lower(base, split_layer, torch.tensor(batch, device=base.device))
            found[list(rows)] = running_mean(hidden.cpu(), counted_tokens(hidden.shape))[0][:, -1]
    return found
