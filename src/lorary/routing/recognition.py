"""Recognition: how likely it is that any memory knows what is asked, by what a query has in common with what is stored."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lorary.routing.features import KINDS

SIGNS = ("margin", "meaning", "letters", "document", "names")
"""Of the memory that the contents put first: how far it lies before the next; how near its nearest wording or passage is by
the encoder, and by letters; how much of the query all its passages hold; how many of the query's names it has."""
_FAR = 10.0
"""Logits by which a memory lies before the next; more say nothing further."""
START = torch.tensor([[-11.0, 2.5, 9.5, 11.0, 9.0, 0.5], [-5.0, 4.5, 0.0, 16.0, 10.5, 0.0]])
"""The constant and the weight of each sign: of queries whose words the encoder knows, and of those that it does not."""


def signs(
    contents: Float[Tensor, "*batch memories kinds"],
    names: Float[Tensor, "*batch memories"] | None,
    logits: Float[Tensor, "*batch memories"],
) -> Float[Tensor, "*batch signs"]:
    """The signs (`SIGNS`) by which a query is recognised.

    Args:
        names: the votes of the lexicon of names; zeros where it is None.
        logits: what the contents say of each memory together.
    """
    ordered, order = logits.sort(-1, descending=True)
    best = order[..., :1]
    second = ordered[..., 1] if logits.shape[-1] > 1 else torch.zeros_like(ordered[..., 0])
    wordings, passages, wording_grams, passage_grams, document = (
        scores.gather(-1, best).squeeze(-1) for scores in contents.unbind(-1)
    )
    letters = torch.maximum(wording_grams, passage_grams)
    columns = [
        (ordered[..., 0] - second).clamp(max=_FAR) / _FAR,
        torch.maximum(wordings, passages),
        letters,
        torch.where(document > 0, document, letters),  # a memory without passages is no worse for that
        torch.zeros_like(letters) if names is None else names.gather(-1, best).squeeze(-1),
    ]
    return torch.stack(columns, dim=-1)


def words_unknown(contents: Float[Tensor, "*batch memories kinds"]) -> Bool[Tensor, "*batch"]:
    """Whether the encoder was not asked about a query, because it does not know its words."""
    by_encoder = [KINDS.index("wordings"), KINDS.index("passages")]
    return ~contents[..., by_encoder].any(-1).any(-1)


def recognised(
    told: Float[Tensor, "*batch signs"],
    unknown: Bool[Tensor, "*batch"],
    weights: Float[Tensor, "2 signs_and_constant"],
) -> Float[Tensor, "*batch"]:
    """The log-odds that a memory knows what is asked: a logistic regression over the signs, a row for each kind of query."""
    chosen = weights[unknown.long()]
    return chosen[..., 0] + (chosen[..., 1:] * told).sum(-1)


def sum_of(
    terms: Mapping[str, Float[Tensor, "*batch memories"]], scales: Mapping[str, Tensor]
) -> Float[Tensor, "*batch memories"]:
    """What the terms that nothing was trained for say together: those of the contents, and of names."""
    taken = [scales[name] * terms[name] for name in (*KINDS, "names") if name in terms]
    return torch.stack(taken).sum(0)
