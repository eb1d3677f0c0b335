"""Mixing: what the gate's best memories weigh."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

EQUAL = 1e-5
"""Two scores that differ by less are a tie: the same wording, embedded in another batch, differs by about 1e-6."""
AT_TOKEN = 4
"""Memories whose predictions are mixed at a token, at most."""
LEAST_AT_TOKEN = 0.01
"""The least share that a memory, or the base, has of a token. A tenth costs text that changes topic 8 % of perplexity, half a
hundredth gains 1 % at most; no question on one topic has a second memory with so much where its answer begins (a development
bank)."""
NONE_AT_TOKEN = 0.25
"""The probability of none from which on the base alone predicts what follows a token: a wrong memory costs more than none, and
most text is no memory's."""


def mixture_weights(
    probabilities: Float[Tensor, "*batch memories_and_none"], top_k: int, top_p: float = 1.0
) -> Float[Tensor, "*batch memories"]:
    """The best memories' shares of 1 − p_none, 0 for all others.

    The best are the fewest that together have at least `top_p` of what is not none, and at most `top_k`
    (nucleus; Holtzman et al. 2020, arXiv 1904.09751). Of memories that are equally likely all are among them or none:
    which comes first would tell nothing of the query.
    """
    known = probabilities[..., :-1]
    top = known.topk(min(top_k + 1, known.shape[-1]), dim=-1)
    before = top.values.cumsum(-1) - top.values
    kept = (before < top_p * known.sum(-1, keepdim=True)) & (
        torch.arange(top.values.shape[-1], device=known.device) < top_k
    )
    likeliest_left = top.values.masked_fill(kept, -1.0).amax(-1, keepdim=True)
    values = torch.where(kept & (top.values > (1 + EQUAL) * likeliest_left), top.values, 0.0)
    shares = values / values.sum(-1, keepdim=True).clamp(min=1e-9) * (1 - probabilities[..., -1:])
    return torch.zeros_like(known).scatter(-1, top.indices, shares)
