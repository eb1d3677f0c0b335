"""What a caller asks for: routes given by name or weight, the texts to route by, the plan that a cache keeps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase
from transformers.cache_utils import Cache

from lorary.base.prompts import conversation_text
from lorary.model.cache import Plan
from lorary.routing.policy import Decision, by_caller, named_weights


def given_by_caller(
    adapter_names: Sequence[str] | None, route_weights: Tensor | None, batch: int, memories: Sequence[str]
) -> Decision | None:
    """The caller's decision, if there is one; where beams repeat each row, names are repeated too.

    Raises:
        ValueError: both given, an unknown memory, or a wrong number of rows.
    """
    if adapter_names is not None and route_weights is not None:
        raise ValueError("give adapter_names or route_weights, not both")
    if adapter_names is not None:
        if isinstance(adapter_names, str) or len(adapter_names) == 0 or batch % len(adapter_names):
            raise ValueError(f"adapter_names must be a list with a name for each of the {batch} rows")
        weights = named_weights(adapter_names, memories)
        return by_caller(weights.repeat_interleave(batch // len(weights), 0))
    if route_weights is None:
        return None
    if tuple(route_weights.shape) != (batch, len(memories)):
        raise ValueError(
            f"route_weights is {tuple(route_weights.shape)}, it must be ({batch}, {len(memories)}): a row each"
        )
    return by_caller(route_weights)


def plan_of(cache: Cache | None, given: Decision | None) -> Plan:
    """The plan that made a cache.

    Raises:
        ValueError: the cache holds none, or another than the caller's.
    """
    plan = getattr(cache, "plan", None)
    if plan is None:
        raise ValueError("this cache was not made by this model, so its route is unknown; start from an empty cache")
    made = None if plan.decision is None else plan.decision.weights
    if given is not None and (made is None or not torch.equal(made.cpu(), given.weights.cpu())):
        raise ValueError("this cache was made by another route than the one given; start from an empty cache")
    return plan


def routing_texts(
    tokenizer: PreTrainedTokenizerBase,
    input_ids: Tensor | None,
    mask: Tensor | None,
    given: str | Sequence[str] | None,
    batch: int,
) -> list[str]:
    """The query of each row: the caller's `routing_text`, or what its conversation asks (`conversation_text`).

    Raises:
        ValueError: a wrong number of texts, or neither texts nor tokens.
    """
    if given is not None:
        texts = [given] if isinstance(given, str) else list(given)
        if not texts or batch % len(texts):
            raise ValueError(f"routing_text has {len(texts)} texts for {batch} rows; give one a row")
        return [text for text in texts for _ in range(batch // len(texts))]
    if input_ids is None:
        raise ValueError("inputs_embeds hold no text to route by; give routing_text, adapter_names or input_ids")
    kept = mask.bool() if mask is not None and mask.ndim == 2 else torch.ones_like(input_ids, dtype=torch.bool)
    rows = [row[keep] for row, keep in zip(input_ids, kept, strict=True)]
    return [conversation_text(tokenizer, str(tokenizer.decode(row))) for row in rows]
