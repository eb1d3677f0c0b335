"""Opening: a memory that a row needs from some token on reads first what that row has read, from the split on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from lorary.errors import LoraryError
from lorary.model.above import layers_above
from lorary.model.active_route import ActiveRoute, apply_route
from lorary.model.streams import one_hot


@torch.no_grad()
def open_streams(model: Any, cache: Any, new: Sequence[tuple[int, int]], count: int, mask: Tensor | None) -> None:
    """Adds the keys and values of new streams to the layers of a cache from the split on, behind those that it has.

    Args:
        new: (row, memory) of each; `count`, the number of memories, stands for the base.
        mask: of the cache's tokens and more, where there is padding.

    Raises:
        LoraryError: the cache does not keep the hidden state at the split, or the mask does not tell what is padding.
    """
    read = getattr(cache, "read", None)
    if read is None:
        raise LoraryError("this cache does not keep the hidden state at the split; start from an empty `RoutedCache`")
    if mask is not None and mask.ndim != 2:
        raise LoraryError(
            f"attention_mask is {tuple(mask.shape)}, and a memory that takes part from here on must know which tokens are "
            "padding; give a mask of [rows, tokens], or none"
        )
    rows, memories = (torch.tensor(each, device=read.hidden.device) for each in zip(*new, strict=True))
    past = read.hidden.shape[1]
    sliding = any(getattr(layer, "is_sliding", False) for layer in cache.layers)
    fresh: Any = DynamicCache(config=model.config.text_config) if sliding else DynamicCache()
    given = {"inputs_embeds": read.hidden[rows], "position_ids": read.positions[rows]}
    given["attention_mask"] = None if mask is None else mask.to(rows.device)[rows, :past]
    with apply_route(ActiveRoute(one_hot(memories, count)), model.factors):
        layers_above(model.base, read.split_layer)(**given, past_key_values=fresh, use_cache=True)
    for layer, own in zip(cache.layers[read.split_layer :], fresh.layers[read.split_layer :], strict=True):
        layer.keys, layer.values = torch.cat([layer.keys, own.keys]), torch.cat([layer.values, own.values])
