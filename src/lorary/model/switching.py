"""Switching: a cached chat goes on under another route. Below the split its cache stays; the layers above run again.

No memory adapts a layer below the split, so what those layers made of the chat holds under any route. A `RoutedCache` keeps
the hidden state that left them (`read.Read`), and the layers above take it from there.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from lorary.base.rows import positions
from lorary.model.above import layers_above
from lorary.model.active_route import apply_route
from lorary.model.cache import Plan, RoutedCache, as_before_if_it_fails
from lorary.model.planning import route_of_pass
from lorary.model.read import Read


def why_not(model: Any, cache: Any, rows: int) -> str | None:
    """Why the layers above the split cannot run again over what a cache holds; None where they can."""
    read: Read | None = getattr(cache, "read", None)
    if not isinstance(cache, RoutedCache) or read is None:
        return f"this {type(cache).__name__} does not keep the hidden state at the split"
    if read.split_layer != model.config.split_layer:
        return f"it was made with a split at layer {read.split_layer}, which is now {model.config.split_layer}"
    if read.tokens.shape != (rows, cache.get_seq_length()):
        return f"it keeps the hidden state of {tuple(read.tokens.shape)} rows and tokens, not of all that it holds"
    return None


def can_switch(model: Any, cache: Any, plan: Plan, input_ids: Tensor | None, mask: Tensor | None) -> bool:
    """Whether `switch` makes of a cache what a pass over the beginning of these tokens under a plan would make."""
    if input_ids is None or why_not(model, cache, len(input_ids)) is not None or len(plan) != len(input_ids):
        return False
    # From the embeddings on it would be a whole pass; and a gate that reads all of the prompt has not seen its end here.
    if model.config.split_layer == 0 or (plan.waits and model.config.granularity == "query"):
        return False
    read, count = cache.read, cache.get_seq_length()
    begun = input_ids[:, :count].to(read.tokens.device)
    if count >= input_ids.shape[1] or not torch.equal(begun, read.tokens):
        return False
    # `generate` counts the real tokens; a pass that was given no positions counts the padding, too.
    real = torch.ones_like(begun) if mask is None else mask[:, :count].to(begun.device)
    return torch.equal(positions(real)[real > 0], read.positions[real > 0])


@torch.no_grad()
def switch(model: Any, cache: Any, plan: Plan, mask: Int[Tensor, "batch seq"] | None) -> None:
    """Runs the layers above the split again over all that a cache holds, under a plan, which the cache then keeps.

    What it holds is afterwards that of a fresh pass under the plan, bit for bit where the cache was made in one pass; where it
    grew token by token, the lower layers' hidden states differ from those of one pass by rounding.

    Args:
        mask: 0 for padding, for all tokens of the cache at least; None where there is none.
    """
    assert cache.read is not None
    split, hidden = cache.read.split_layer, cache.read.hidden
    fresh = RoutedCache(config=model.config.text_config)
    mask = None if mask is None else mask[:, : hidden.shape[1]]
    given = {"inputs_embeds": hidden, "attention_mask": mask, "position_ids": cache.read.positions}
    with (
        as_before_if_it_fails(cache, True, plan),
        apply_route(route_of_pass(model, plan, hidden.shape, mask, kept=1), model.factors),
    ):
        layers_above(model.base, split)(**given, past_key_values=fresh, use_cache=True)
    cache.layers[split:] = fresh.layers[split:]
    cache.plan = plan
