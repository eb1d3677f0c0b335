"""The base in two parts: the layers below `split_layer`, which no memory touches, and those above it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from lorary.bases import decoder_layers


def default_split(model: PreTrainedModel) -> int:
    """The first layer that memories adapt by default: two thirds up.

    It trains half the layers that one third would; it was not shown to recall better.
    """
    return 2 * model.config.get_text_config().num_hidden_layers // 3


class _Reached(Exception):
    """Ends a forward pass at the split; carries the hidden state that enters it."""

    def __init__(self, hidden: Tensor) -> None:
        self.hidden = hidden


def hidden_argument(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """The hidden state among a decoder layer's arguments, [batch, seq, hidden]."""
    return args[0] if args else kwargs["hidden_states"]


def positions(attention_mask: Int[Tensor, "batch seq"]) -> Int[Tensor, "batch seq"]:
    """The position of each token; padding, on either side, counts for none."""
    return (attention_mask.cumsum(-1) - 1).clamp(min=0)


@torch.no_grad()
def lower(
    model: PreTrainedModel,
    split_layer: int,
    input_ids: Int[Tensor, "batch seq"],
    attention_mask: Int[Tensor, "batch seq"] | None = None,
    cache: Cache | None = None,
) -> Float[Tensor, "batch seq hidden"]:
    """The hidden state that enters layer `split_layer`; nothing above it runs.

    Args:
        attention_mask: 0 for padding; positions count the tokens that are none.
        cache: gets the keys and values of the layers that run.
    """

    def stop(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        raise _Reached(hidden_argument(args, kwargs))

    handle = decoder_layers(model)[split_layer].register_forward_pre_hook(stop, with_kwargs=True)
    try:
        given: dict[str, Any] = {
            "attention_mask": attention_mask,
            "past_key_values": cache,
            "use_cache": cache is not None,
        }
        if attention_mask is not None:
            given["position_ids"] = positions(attention_mask)
        model.get_decoder()(input_ids=input_ids, **given)
    except _Reached as reached:
        return reached.hidden
    finally:
        handle.remove()
    raise AssertionError("the forward pass never reached the split")


@contextmanager
def skipped(layers: list[nn.Module]) -> Iterator[None]:
    """Lets `layers` pass their input through, keeping every attribute that the model reads of them."""
    for layer in layers:
        layer.forward = lambda *args, **kwargs: hidden_argument(args, kwargs)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def upper(
    model: PreTrainedModel,
    split_layer: int,
    hidden: Float[Tensor, "batch seq hidden"],
    attention_mask: Int[Tensor, "batch seq"] | None = None,
) -> Float[Tensor, "batch seq hidden"]:
    """The decoder's last hidden state, from the hidden state that enters `split_layer`."""
    with skipped(list(decoder_layers(model)[:split_layer])):
        decoder = model.get_decoder()
        return decoder(inputs_embeds=hidden, attention_mask=attention_mask, use_cache=False).last_hidden_state
