"""How fast each adapted linear learns: at the recipe's rate, and slower where the base's weights are small.

AdamW moves every number of a factor by about its rate, whatever the base. So one rate is a small change of large weights and a
large change of small ones: there a memory recalls no more by it, and ruins what it has nothing to do with.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from lorary.model.mixture import MixtureLinear

LARGE = 0.17
"""The root mean square of weights from which on a linear learns at the recipe's rate: no linear of SmolLM2-135M above its
split, on which the recipe was chosen, has less."""


def share_of_rate(weight: Tensor) -> float:
    """The share of a recipe's learning rate at which the factors beside such weights learn: their root mean square over
    `LARGE`, 1 at most, to three digits, so that the groups are few.

    So an update keeps its size beside W, as with layer-wise rates (You et al. 2017, arXiv 1708.03888).
    """
    return min(1.0, round(float(weight.detach().float().square().mean().sqrt()) / LARGE, 3))


def groups_by_rate(layers: Iterable[MixtureLinear]) -> list[dict[str, Any]]:
    """The factors of mixture layers as groups of an optimizer: `params`, and the `share` of the rate that they learn at."""
    groups: dict[float, list[Tensor]] = {}
    for layer in layers:
        groups.setdefault(share_of_rate(layer.base_layer.weight), []).extend((layer.down, layer.up))
    return [{"params": factors, "share": share} for share, factors in groups.items()]
