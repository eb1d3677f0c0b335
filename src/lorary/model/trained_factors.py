"""The factors of a composite's memories as its own parameters, to be trained by any optimizer, and from there into the bank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lorary.bank.adapters import PREFIX
from lorary.bank.targets import scaling
from lorary.model.mixture import mixtures

Trained = Mapping[str, tuple[bool, bool]]
"""Path of a layer that holds factors → whether its A and its B have a gradient."""


def hold_factors(model: Any, trained: Trained | None = None) -> None:
    """Lets each layer hold the factors of all memories that adapt it, as parameters without a gradient.

    Args:
        trained: which of them have one.
    """
    bank = model.router.bank
    every = [memory.factors(bank.shapes) for memory in bank]
    for path, layer in mixtures(model.base).items():
        layer.hold({number: factors[path] for number, factors in enumerate(every) if path in factors})
        down, up = (trained or {}).get(path, (False, False))
        layer.down.requires_grad_(down)
        layer.up.requires_grad_(up)
    model._draw_factors()


def trained_layers(model: Any) -> Trained:
    """The layers that hold factors."""
    layers = {path: layer for path, layer in mixtures(model.base).items() if layer.holds_factors}
    return {path: (layer.down.requires_grad, layer.up.requires_grad) for path, layer in layers.items()}


def release_factors(model: Any) -> None:
    """Takes what was trained into the bank, and the parameters out of the layers."""
    keep_trained_factors(model, model.state_dict())
    for layer in mixtures(model.base).values():
        layer.release()
    model._draw_factors()


def keep_trained_factors(model: Any, state: Mapping[str, Tensor]) -> None:
    """Takes factors that were trained in the layers, or loaded into them, into the bank.

    A memory whose factors are as the bank has them stays as it is. One that changed loses its certificate, because its
    recall was measured before.
    """
    bank, layers = model.router.bank, mixtures(model.base)
    held = {path: layer for path, layer in layers.items() if layer.holds_factors}
    for number, memory in enumerate(list(bank) if held else ()):
        stored, changed = dict(memory.tensors.items()), dict[str, Tensor]()
        for path, (down, up) in memory.factors().items():
            slots = held[path].slots_of(number)
            now_down, now_up = state[f"base.{path}.down"][slots], state[f"base.{path}.up"][:, slots]
            if torch.equal(now_down.cpu(), down.to(now_down.dtype)) and torch.equal(now_up.cpu(), up.to(now_up.dtype)):
                continue
            a, b = (f"{PREFIX}{path}.lora_{factor}.weight" for factor in "AB")
            scale = scaling(memory.adapter_config, path, len(down))
            changed[a] = now_down.detach().to("cpu", stored[a].dtype).contiguous()
            changed[b] = (now_up.detach().float() / scale).to("cpu", stored[b].dtype).contiguous()
        if changed:
            card = {name: value for name, value in memory.card.items() if name != "certificate"}
            bank.memories[memory.name] = replace(
                memory, tensors=stored | changed, card=card | {"recipe": "trained in a composite"}
            )
