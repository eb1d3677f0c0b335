"""Above: the layers from the split on, as a decoder of their own that goes on from the hidden state there."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from lorary.base.layers import decoder_layers
from lorary.base.rows import hidden_argument
from lorary.errors import LoraryError


def layers_above(base: Any, split: int) -> nn.Module:
    """The decoder of a base whose first layers pass their input through; the layers above are the base's own.

    It has module objects of its own where it differs, so other threads may run the base meanwhile.
    """
    decoder, layers = base.get_decoder(), decoder_layers(base)
    name = next((name for name, module in decoder.named_children() if module is layers), None)
    if name is None:
        raise LoraryError(f"the layers of a {type(decoder).__name__} are not its own; start from an empty cache")
    view = copy.copy(decoder)
    view._modules = {**decoder._modules, name: nn.ModuleList([*map(_through, layers[:split]), *layers[split:]])}
    return view


def _through(layer: nn.Module) -> nn.Module:
    """A layer with the same attributes that gives its input back."""
    passing = copy.copy(layer)
    passing.forward = lambda *args, **kwargs: hidden_argument(args, kwargs)  # type: ignore[method-assign]
    return passing
