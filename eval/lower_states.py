"""What the layers below the split make of a prompt: kept, so that a prompt asked under many routes runs them once.

No memory touches those layers, so the hidden state that enters the split, and the keys and values below it, are the
same whatever the route and whatever bank stands above. A condition then runs the prompt through the upper layers alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache

from lorary.base.layers import decoder_layers
from lorary.base.rows import lower, positions, skipped
from lorary.eval.shared_start import caches_all
from lorary.model.cache import RoutedCache
from lorary.model.modeling import LoraryForCausalLM

_HELD = 1024**3
"""Bytes that are kept at most; what does not fit is run anew for each condition."""


@dataclass(frozen=True)
class _State:
    """Of one prompt: the hidden state that enters the split, and the keys (0) and values (1) of the layers below it."""

    hidden: Float[Tensor, "seq hidden"]
    below: Float[Tensor, "layers 2 groups seq width"]


class LowerStates:
    """The states of the prompts that were asked so far.

    Args:
        split_layer: the layers below it are kept; no memory of a model that is asked may touch them.
    """

    def __init__(self, split_layer: int) -> None:
        self.split_layer = split_layer
        self._kept: dict[tuple[int, ...], _State] = {}
        self._free = _HELD

    def serves(self, model: LoraryForCausalLM) -> bool:
        """Whether the model's layers below the split are the frozen base's, and each caches all tokens in the plain way."""
        return caches_all(model.config.text_config) and 0 < self.split_layer <= model.config.split_layer

    @torch.no_grad()
    def started(
        self,
        model: LoraryForCausalLM,
        ids: Int[Tensor, "batch seq"],
        mask: Int[Tensor, "batch seq"],
        weights: Float[Tensor, "batch memories"],
    ) -> RoutedCache:
        """A cache that holds left-padded prompts under the routes given; only the upper layers run, where they can."""
        rows = [tuple(row[seen.bool()].tolist()) for row, seen in zip(ids, mask, strict=True)]
        states = self._states(model, rows, ids, mask)
        hidden = _padded([state.hidden for state in states], ids.shape[1])
        below = _padded([state.below for state in states], ids.shape[1])
        cache = RoutedCache(config=model.config.text_config)
        with skipped(list(decoder_layers(model.base)[: self.split_layer])):
            given = {"attention_mask": mask, "position_ids": positions(mask), "route_weights": weights}
            model(inputs_embeds=hidden, past_key_values=cache, use_cache=True, logits_to_keep=1, **given)
        for number in range(self.split_layer):
            cache.update(below[:, number, 0], below[:, number, 1], number)
        return cache

    def _states(self, model: LoraryForCausalLM, rows: list[tuple[int, ...]], ids: Tensor, mask: Tensor) -> list[_State]:
        """The states of the prompts; those that are not kept yet are run, and kept as long as there is room."""
        found = {row: self._kept[row] for row in rows if row in self._kept}
        new = [number for number, row in enumerate(rows) if row not in found]
        if new:
            cache = DynamicCache(config=model.config.text_config)
            seen = mask[new]
            hidden = lower(model.base, self.split_layer, ids[new], seen, cache)
            layers: list[Any] = cache.layers[: self.split_layer]
            below = torch.stack([torch.stack([layer.keys, layer.values], 1) for layer in layers], 1)
            for number, state, pairs, length in zip(new, hidden, below, seen.sum(-1).tolist(), strict=True):
                one = _State(state[-length:].clone(), pairs[..., -length:, :].clone())
                found[rows[number]] = one
                # None is put out for a newer one: who asks all prompts round after round would then find none of them.
                if (size := one.hidden.nbytes + one.below.nbytes) <= self._free:
                    self._kept[rows[number]], self._free = one, self._free - size
        return [found[row] for row in rows]


def _padded(states: list[Tensor], length: int) -> Tensor:
    """States [..., seq, width] of several lengths as one batch, with zeros on the left."""
    first = states[0]
    batch = first.new_zeros(len(states), *first.shape[:-2], length, first.shape[-1])
    for row, state in zip(batch, states, strict=True):
        row[..., length - state.shape[-2] :, :] = state
    return batch
