"""Read: what a cache has read, so that another route can take it over from the split on."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

Part = tuple[Tensor, Tensor | None, Tensor]


class Read:
    """What a cache has read: its tokens, their positions, and the hidden state of each that entered the split.

    It is a twentieth of what the cache holds (SmolLM2-135M), and lets another route take over (`switching`).

    Args:
        split_layer: the layer whose input is kept.
        part: tokens [batch, seq], positions [batch or 1, seq] and hidden states [batch, seq, hidden]; without positions each
            token follows the one before it.
    """

    def __init__(self, split_layer: int, part: Part) -> None:
        self.split_layer = split_layer
        self._parts = [part]

    def _whole(self) -> tuple[Tensor, Tensor, Tensor]:
        """All parts as one, put together when they are asked for, not at each token."""
        if len(self._parts) > 1 or self._parts[0][1] is None:
            parts, first = [], 0
            for tokens, places, hidden in self._parts:
                last = first + tokens.shape[1]
                if places is None:
                    places = torch.arange(first, last, device=tokens.device)
                parts.append((tokens, places.expand(tokens.shape), hidden))
                first = last
            tokens, places, hidden = (torch.cat(each, 1) for each in zip(*parts, strict=True))
            self._parts = [(tokens, places, hidden)]
        return self._parts[0]  # type: ignore[return-value]

    @property
    def tokens(self) -> Int[Tensor, "batch seq"]:
        return self._whole()[0]

    @property
    def positions(self) -> Int[Tensor, "batch seq"]:
        return self._whole()[1]

    @property
    def hidden(self) -> Float[Tensor, "batch seq hidden"]:
        return self._whole()[2]

    def add(self, part: Part) -> None:
        """Goes on with more tokens."""
        self._parts.append(part)

    def rows(self, index: Tensor) -> Read:
        """That of the rows given by number."""
        tokens, places, hidden = (each[index.to(each.device)] for each in self._whole())
        return Read(self.split_layer, (tokens, places, hidden))

    def first(self, count: int) -> Read:
        """That of the first so many tokens."""
        tokens, places, hidden = (each[:, :count] for each in self._whole())
        return Read(self.split_layer, (tokens, places, hidden))
