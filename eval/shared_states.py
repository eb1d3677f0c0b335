"""States that prompts share, run once: of a start that many prompts have in common, and of the layers below the split.

Every row of a batch reads the same start and keeps only its own rest. Attention over the start and over a row's rest
are computed apart and joined by their log-sum-exps, which is exact (as in FlashAttention's split over keys, arXiv
2205.14135; for a shared prefix, Hydragen, arXiv 2402.05099). All rows' queries meet the start's keys in one product,
and nothing of the start is copied for a row.

No memory touches the layers below the split, so the hidden state that enters the split, and the keys and values below
it, are the same whatever the route and whatever bank stands above. A condition then runs a prompt through the upper
layers alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    DynamicCache,
    DynamicLayer,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.masking_utils import sdpa_mask

from lorary.base.layers import attention, decoder_layers
from lorary.base.rows import lower, positions, skipped
from lorary.model.cache import RoutedCache, started_by
from lorary.model.modeling import LoraryForCausalLM

_NAME = "lorary_shared_start"
_QUERIES = 512
"""Queries that meet the start at once: their scores stay in a processor's cache."""


class _Rest(DynamicLayer):
    """The keys and values of each row after the start, which counts into its length."""

    def __init__(self, start: Any) -> None:
        super().__init__()
        self.start = start

    def get_seq_length(self) -> int:
        return self.start.get_seq_length() + super().get_seq_length()


def caches_all(config: PreTrainedConfig) -> bool:
    """Whether each layer's cache holds all tokens before, in the plain way."""
    layers = DynamicCache(config=config).layers
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)


def can_share(base: PreTrainedModel) -> bool:
    """Whether each layer of a base attends to all tokens before, in the plain way that can be split over a start, and
    lets its attention be replaced."""
    capped = getattr(base.config, "attn_logit_softcapping", None)
    return caches_all(base.config) and not capped and attention(base) in ("sdpa", "eager")


def after(start: RoutedCache, batch: int) -> RoutedCache:
    """A cache for `batch` rows that all begin with `start`, which one row filled."""
    return started_by(start, [_Rest(layer) for layer in start.layers], batch)


@contextmanager
def reading(model: PreTrainedModel, start: RoutedCache) -> Iterator[None]:
    """Lets the base read `start` before each row, under caches that `after` makes."""
    before = attention(model)
    assert before is not None  # `can_share` says so
    AttentionInterface.register(_NAME, partial(_attention, start))
    AttentionMaskInterface.register(_NAME, _mask)
    model.set_attn_implementation(_NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
        AttentionInterface.register(_NAME, _attention)  # the registry is the process's: it must not keep the start


def _mask(*args: Any, **kwargs: Any) -> Tensor | None:
    return sdpa_mask(*args, **{**kwargs, "allow_is_causal_skip": False})


def _attention(
    start: RoutedCache,
    module: nn.Module,
    query: Float[Tensor, "batch heads seq width"],
    key: Float[Tensor, "batch groups rest width"],
    value: Float[Tensor, "batch groups rest width"],
    attention_mask: Bool[Tensor, "batch 1 seq start_and_rest"],
    scaling: float,
    **_: Any,
) -> tuple[Float[Tensor, "batch seq heads width"], None]:
    layer: Any = start.layers[module.layer_idx]  # type: ignore[index]
    batch, heads, seq, width = query.shape
    groups = key.shape[1]
    own = query.view(batch, groups, -1, seq, width)
    # Every row sees all of the start: the queries of all rows, and of the heads that share keys, become one long row.
    together = own.transpose(0, 1).reshape(groups, -1, width)
    pieces = [attend(piece, layer.keys[0], layer.values[0], scaling) for piece in together.split(_QUERIES, 1)]
    above, above_sum = (
        torch.cat(part, 1).view(groups, batch, -1, seq, part[0].shape[-1]).transpose(0, 1)
        for part in zip(*pieces, strict=True)
    )
    seen = attention_mask[:, :, None, :, -key.shape[-2] :]
    below, below_sum = attend(own, key.unsqueeze(2), value.unsqueeze(2), scaling, seen)
    share = torch.sigmoid(above_sum - below_sum)
    joined = (above * share + below * (1 - share)).to(query.dtype)
    return joined.reshape(batch, heads, seq, -1).transpose(1, 2), None


def attend(
    query: Float[Tensor, "... seq width"],
    key: Float[Tensor, "... keys width"],
    value: Float[Tensor, "... keys width"],
    scaling: float,
    seen: Bool[Tensor, "... seq keys"] | None = None,
) -> tuple[Float[Tensor, "... seq width"], Float[Tensor, "... seq 1"]]:
    """Attention and, for joining it with attention over other keys, the log of the sum of its exponentials.

    Args:
        seen: which keys a query attends to; None: all. Of a query that sees none the log-sum-exp is the smallest number,
            so that it weighs nothing where it is joined.
    """
    scores = query.float() @ key.float().transpose(-1, -2)
    scores.mul_(scaling)
    if seen is not None:
        scores.masked_fill_(~seen, torch.finfo(scores.dtype).min)
    most = scores.amax(-1, keepdim=True)
    scores.sub_(most).exp_()
    total = scores.sum(-1, keepdim=True)
    return (scores.to(value.dtype) @ value).float() / total, most + total.log()


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
            inputs = {"attention_mask": mask, "position_ids": positions(mask), "route_weights": weights}
            model(inputs_embeds=hidden, past_key_values=cache, use_cache=True, logits_to_keep=1, **inputs)
        for number in range(self.split_layer):
            cache.update(below[:, number, 0], below[:, number, 1], number)
        return cache

    def _states(self, model: LoraryForCausalLM, rows: list[tuple[int, ...]], ids: Tensor, mask: Tensor) -> list[_State]:
        """The states of the prompts; those that are not kept yet are run, and kept as long as there is room."""
        states = {row: self._kept[row] for row in rows if row in self._kept}
        new = [number for number, row in enumerate(rows) if row not in states]
        if new:
            cache = DynamicCache(config=model.config.text_config)
            seen = mask[new]
            hidden = lower(model.base, self.split_layer, ids[new], seen, cache)
            layers: list[Any] = cache.layers[: self.split_layer]
            below = torch.stack([torch.stack([layer.keys, layer.values], 1) for layer in layers], 1)
            for number, entering, pairs, length in zip(new, hidden, below, seen.sum(-1).tolist(), strict=True):
                state = _State(entering[-length:].clone(), pairs[..., -length:, :].clone())
                states[rows[number]] = state
                # We never evict. Prompts are asked in the same order for every condition, so eviction of the least
                # recently used would miss every time.
                if (size := state.hidden.nbytes + state.below.nbytes) <= self._free:
                    self._kept[rows[number]], self._free = state, self._free - size
        return [states[row] for row in rows]


def _padded(states: list[Tensor], length: int) -> Tensor:
    """States [..., seq, width] of several lengths as one batch, with zeros on the left."""
    first = states[0]
    batch = first.new_zeros(len(states), *first.shape[:-2], length, first.shape[-1])
    for row, state in zip(batch, states, strict=True):
        row[..., length - state.shape[-2] :, :] = state
    return batch
