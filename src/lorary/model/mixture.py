"""The hot path: a frozen linear layer plus a weighted sum of many memories' low-rank updates.

All memories' factors for one linear are stacked by rank slot, so mixed ranks and missing targets cost nothing
special, and the weighted sum is exact in ΔW (Hu et al. 2021, arXiv 2106.09685, with one gain a slot):

    y = W x + B ( g[slot → memory] ∘ (A x) )
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

Factors = Mapping[str, tuple[Tensor, Tensor]]
"""A memory's factors: module path → (A [r, d_in], B [d_out, r] with the scaling folded in)."""


def low_rank_update(
    x: Float[Tensor, "*batch d_in"],
    down: Float[Tensor, "slots d_in"],
    up: Float[Tensor, "d_out slots"],
    gains: Float[Tensor, "*#batch slots"],
) -> Float[Tensor, "*batch d_out"]:
    """B (g ∘ (A x)): the weighted sum of the memories' updates, exact in ΔW."""
    return ((x @ down.T) * gains) @ up.T


@dataclass(eq=False)
class ActiveRoute:
    """The weights that every mixture layer of one model applies, set anew for each forward pass."""

    weights: Float[Tensor, "batch seq_or_1 memories"] | None = None
    active: Int[Tensor, " active"] | None = None
    _gains: dict[tuple[int, ...], Tensor] = field(default_factory=dict)

    def set(self, weights: Float[Tensor, "batch seq_or_1 memories"] | None) -> None:
        """Applies `weights`; memories that no row of the batch uses take no part, and None means the base alone."""
        self._gains.clear()
        self.weights = self.active = None
        if weights is not None and weights.shape[-1] > 0:
            used = (weights != 0).flatten(0, -2).any(0)
            if bool(used.any()):
                self.weights, self.active = weights, used.nonzero().squeeze(-1)

    def gains(self, memory_of_slot: tuple[int, ...], index: Int[Tensor, " slots"], x: Tensor) -> Tensor:
        """The route's weight for each slot, [batch, seq or 1, slots], shared by layers with the same slots."""
        assert self.weights is not None
        if memory_of_slot not in self._gains:
            self._gains[memory_of_slot] = self.weights[..., index.to(self.weights.device)].to(x.device, x.dtype)
        return self._gains[memory_of_slot]


class MixtureLinear(nn.Module):
    """A frozen linear layer with the stacked factors of many memories.

    Args:
        base_layer: the base's own layer; with no active memory the output is its output, bit for bit.
        factors: (A, scaled B) of each memory, None where a memory does not target this layer.
        route: the weights to apply, shared by all layers of the model.
    """

    memory_of_slot: Tensor

    def __init__(
        self, base_layer: nn.Linear, factors: Sequence[tuple[Tensor, Tensor] | None], route: ActiveRoute
    ) -> None:
        super().__init__()
        self.base_layer = base_layer
        self._route = (route,)  # in a tuple, so that copies of the module tree keep sharing one route
        held = [(m, pair) for m, pair in enumerate(factors) if pair is not None]
        device = base_layer.weight.device
        self.down = nn.Parameter(torch.cat([a for _, (a, _) in held]).to(device), requires_grad=False)
        self.up = nn.Parameter(torch.cat([b for _, (_, b) in held], dim=1).to(device), requires_grad=False)
        slots = [m for m, (a, _) in held for _ in range(len(a))]
        self.register_buffer("memory_of_slot", torch.tensor(slots, device=device), persistent=False)
        self._selected: tuple[tuple[int, ...], tuple[int, ...], Tensor, Tensor, Tensor] | None = None

    def _active_slots(self, active: Tensor, dtype: torch.dtype) -> tuple[tuple[int, ...], Tensor, Tensor, Tensor]:
        """(memory of each active slot, the same as a tensor, A, B), kept between calls while nothing trains."""
        key = (*active.tolist(), self.down._version, self.up._version)
        selected = self._selected
        if selected is None or selected[0] != key or selected[3].dtype != dtype or self.down.requires_grad:
            slots = torch.isin(self.memory_of_slot, active.to(self.memory_of_slot.device)).nonzero().squeeze(-1)
            memories = self.memory_of_slot[slots]
            whole = len(slots) == len(self.memory_of_slot)
            down, up = (self.down, self.up) if whole else (self.down[slots], self.up[:, slots])
            selected = (key, tuple(memories.tolist()), memories, down.to(dtype), up.to(dtype))
            self._selected = None if self.down.requires_grad else selected
        return selected[1:]

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        y = self.base_layer(x)
        route = self._route[0]
        if route.active is None:
            return y
        memory_of_slot, memories, down, up = self._active_slots(route.active, x.dtype)
        if not memory_of_slot:
            return y
        return y + low_rank_update(x, down, up, route.gains(memory_of_slot, memories, x))


def install(base: nn.Module, memories: Sequence[Factors], route: ActiveRoute) -> dict[str, MixtureLinear]:
    """Replaces the linears of `base` that any memory targets by mixtures, in place.

    Calling it again with other memories replaces the stacks. Returns path → layer.
    """
    remove(base)
    layers: dict[str, MixtureLinear] = {}
    for path in sorted({path for factors in memories for path in factors}):
        parent, _, name = path.rpartition(".")
        linear = base.get_submodule(path)
        assert isinstance(linear, nn.Linear), f"{path} is a {type(linear).__name__}"
        layers[path] = MixtureLinear(linear, [factors.get(path) for factors in memories], route)
        setattr(base.get_submodule(parent), name, layers[path])
    return layers


def remove(base: nn.Module) -> None:
    """Puts the base's own linears back, in place."""
    for path, module in list(base.named_modules()):
        if isinstance(module, MixtureLinear):
            parent, _, name = path.rpartition(".")
            setattr(base.get_submodule(parent), name, module.base_layer)
