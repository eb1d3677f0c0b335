"""Features: what the gate reads of queries, and the running mean of the hidden state over the tokens so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

KINDS = ("wordings", "passages", "wording_grams", "passage_grams", "document_grams")
"""What the contents tell of a memory: its nearest wording and passage by the encoder, those that share most runs of four letters
with the query, and all its passages as one text by those."""


@dataclass  # not frozen: Lightning moves its tensors to the device in place
class Features:
    """What the gate reads of a batch of queries, in training and in serving alike.

    Args:
        embedding: the sentence embeddings.
        votes: the index's votes for each memory.
        asked: the embeddings of the questions without their names; None where it is no feature, as the next three.
        names: the votes of the lexicon of names alone.
        contents: what each memory's wordings and passages have in common with the query, by `KINDS`.
        hidden: the hidden state at the split, pooled; one a query, or one a token.
        parts: what a gate of tokens says of each part of the query (`reading.PARTS`), over the memories and none.
    """

    embedding: Float[Tensor, "*batch embedding"]
    votes: Float[Tensor, "*batch memories"]
    asked: Float[Tensor, "*batch embedding"] | None = None
    names: Float[Tensor, "*batch memories"] | None = None
    contents: Float[Tensor, "*batch memories kinds"] | None = None
    hidden: Float[Tensor, "*tokens hidden"] | None = None
    parts: Float[Tensor, "*batch parts memories_and_none"] | None = None

    def __len__(self) -> int:
        return len(self.embedding)

    def rows(self, index: Tensor | Sequence[int]) -> Features:
        """The features of the rows given by number."""
        return self._each(lambda rows: rows[index])

    def to(self, device: torch.device) -> Features:
        """The same on another device."""
        return self._each(lambda rows: rows.to(device))

    def over(self, memories: Tensor, contents: Float[Tensor, "*batch kept kinds"]) -> Features:
        """The same over some of the memories alone, given by number.

        Args:
            contents: what those have in common with the queries.
        """
        names = None if self.names is None else self.names[..., memories]
        return replace(self, votes=self.votes[..., memories], names=names, contents=contents)

    def with_hidden(self, hidden: Float[Tensor, "*tokens hidden"] | None) -> Features:
        """The same with a hidden state; where it has one a token, the other features are the same for all tokens."""
        per_token = hidden is not None and hidden.ndim == self.embedding.ndim + 1
        features = self._each(lambda rows: rows.unsqueeze(1)) if per_token else self
        return replace(features, hidden=hidden)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Features:
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        changed: dict[str, Any] = {name: None if rows is None else change(rows) for name, rows in values.items()}
        return Features(**changed)


Sums = tuple[Float[Tensor, "batch seen hidden"], Float[Tensor, "batch seen"]]
"""Sums and counts of the hidden states up to each token: what a running mean goes on from."""


def running_mean(
    hidden: Float[Tensor, "batch seq hidden"],
    counted: Float[Tensor, "batch seq"],
    before: Sums | None = None,
) -> tuple[Float[Tensor, "batch seq hidden"], tuple[Float[Tensor, "batch seq hidden"], Float[Tensor, "batch seq"]]]:
    """The mean over the counted tokens up to each position, each token normalised, and the sums to go on from.

    Args:
        before: the sums up to each token before these.
    """
    steps = functional.normalize(hidden.float(), dim=-1) * counted.unsqueeze(-1)
    total, count = steps.cumsum(1), counted.cumsum(1)
    if before is not None:
        total, count = total + before[0][:, -1:], count + before[1][:, -1:]
    return total / count.clamp(min=1).unsqueeze(-1), (total, count)


def counted_tokens(
    shape: Sequence[int], mask: Tensor | None = None, started: bool = False
) -> Float[Tensor, "batch seq"]:
    """1 for the tokens that the running mean counts: real ones, but not a row's first, the attention sink.

    Args:
        shape: (batch, seq, ...) of the tokens of this pass.
        mask: the attention mask, [batch, past + seq].
        started: earlier tokens are in the cache; without a mask these hold no first one.
    """
    batch, seq = shape[:2]
    if mask is None or mask.ndim != 2:
        real = torch.ones(batch, seq)
        return real if started else real * (real.cumsum(1) > 1)
    return (mask.bool() & (mask.cumsum(1) > 1))[:, -seq:].float()
