"""What a gate of queries reads of the base: the running mean of hidden states at the last token of each prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from lorary.base.prompts import prompt, prompt_ids
from lorary.base.rows import lower
from lorary.routing.features import counted_tokens, running_mean

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_AT_ONCE = 32
"""Prompts of one length that run together: without padding, so none changes another."""


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
