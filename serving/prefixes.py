"""Prefixes: what was read of the last conversations, so that a chat that goes on reads its new turn alone.

No memory adapts a layer below the split, so what those layers made of a text holds under any route: rows share it. What the
layers above made holds under the route that made it; under another they run again over the hidden states that left the split,
as a cached chat is switched (`model.switching`).

Where a memory leaves the bank or is rewritten, all are let go of, not those alone that were read under it: a chat may have had an
answer or a passage of it in an earlier turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from transformers.cache_utils import DynamicCache

from lorary.model.above import layers_above
from lorary.model.active_route import apply_route
from lorary.model.modeling import LoraryForCausalLM
from lorary.serving.row_route import RowRoute, Share

LEAST = 64
"""Tokens that a prefix must spare: a row that has one is read by itself, and others wait meanwhile."""


@dataclass(frozen=True, eq=False)
class Prefix:
    """A text that was read, one row.

    Args:
        split: the layer at which the routes part.
        shares: what the row applied.
        layers: keys and values of each layer, [1, heads, tokens, width].
        hidden: what entered the split.
    """

    tokens: list[int]
    split: int
    shares: tuple[Share, ...]
    layers: list[tuple[Tensor, Tensor]]
    hidden: Float[Tensor, "tokens hidden"]

    @property
    def bytes(self) -> int:
        """What it holds."""
        return sum(tensor.nbytes for tensor in (self.hidden, *(each for pair in self.layers for each in pair)))


class Prefixes:
    """The prefixes of the rows that left last, up to some MiB; who asks again for one keeps it.

    Args:
        mebibytes: 0 keeps none.
    """

    def __init__(self, mebibytes: float) -> None:
        self.most = mebibytes * 2**20
        self._kept: list[Prefix] = []

    @property
    def bytes(self) -> int:
        """What all hold."""
        return sum(prefix.bytes for prefix in self._kept)

    def longest(self, ids: Sequence[int], split: int) -> tuple[Prefix, int] | None:
        """(the text that begins as these tokens do the longest, how many it spares); None where none spares enough. One token
        at least is left to be read."""
        best, count = None, LEAST - 1
        for prefix in self._kept:
            if prefix.split == split and (shared := shared_tokens(prefix.tokens, ids[:-1])) > count:
                best, count = prefix, shared
        if best is None:
            return None
        self._kept.remove(best)
        self._kept.append(best)
        return best, count

    def forget(self) -> None:
        """Lets go of all that is kept."""
        self._kept.clear()

    def wants(self, tokens: int) -> bool:
        """Whether a text of so many tokens may be kept."""
        return self.most > 0 and tokens >= LEAST

    def keep(self, prefix: Prefix) -> None:
        """Keeps a text, in place of those that it goes on from; what was asked for longest ago goes where there is no room."""
        if prefix.bytes > self.most:
            return
        self._kept = [old for old in self._kept if shared_tokens(old.tokens, prefix.tokens) < len(old.tokens)]
        self._kept.append(prefix)
        while self.bytes > self.most:
            self._kept.pop(0)


def shared_tokens(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two texts begin with alike."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def begun(
    model: LoraryForCausalLM, prefix: Prefix, count: int, shares: tuple[Share, ...], route: RowRoute
) -> DynamicCache:
    """A cache that has read the first tokens of a prefix under a route: where another made it, the layers above the split run
    again."""
    cache = DynamicCache()
    for number, (keys, values) in enumerate(prefix.layers):
        cache.update(keys[:, :, :count], values[:, :, :count], number)
    if prefix.shares != shares:
        above = DynamicCache()
        places = torch.arange(count, device=prefix.hidden.device).unsqueeze(0)
        given = {"inputs_embeds": prefix.hidden[None, :count], "position_ids": places}
        with apply_route(route):
            layers_above(model.base, prefix.split)(**given, past_key_values=above, use_cache=True)
        cache.layers[prefix.split :] = above.layers[prefix.split :]
    return cache
