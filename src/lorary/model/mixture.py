"""The hot path: a frozen linear layer plus a weighted sum of many memories' low-rank updates.

All memories' factors for one linear are stacked by rank slot, so mixed ranks and missing targets cost nothing
special, and the weighted sum is exact in ΔW (Hu et al. 2021, arXiv 2106.09685, with one gain a slot):

    y = W x + B ( g[slot → memory] ∘ (A x) )

The gains g belong to a request (`active_route.ActiveRoute`), never to a layer.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lorary.model.active_route import Layout, current_route

Factors = Mapping[str, tuple[Tensor, Tensor]]
"""A memory's factors: module path → (A [r, d_in], B [d_out, r] with the scaling folded in)."""


def low_rank_update(
    x: Float[Tensor, "*batch d_in"],
    down: Float[Tensor, "slots d_in"],
    up: Float[Tensor, "d_out slots"],
    gains: Float[Tensor, "*#batch slots"],
) -> Float[Tensor, "*batch d_out"]:
    """B (g ∘ (A x)): the weighted sum of the memories' updates, exact in ΔW.

    A gain of zero takes a slot out, whatever A x is there: infinity times zero would not be zero.
    """
    return torch.where(gains != 0, (x @ down.T) * gains, 0.0) @ up.T


class MixtureLinear(nn.Module):
    """A frozen linear layer with the stacked factors of many memories.

    Args:
        base_layer: the base's own layer; with no active memory the output is its output, bit for bit.
        factors: (A, scaled B) of each memory, None where a memory does not target this layer.
        layouts: the layouts of the layers made so far; layers whose slots stand for the same memories share one.
    """

    def __init__(
        self,
        base_layer: nn.Linear,
        factors: Sequence[tuple[Tensor, Tensor] | None],
        layouts: dict[tuple[int, ...], Layout] | None = None,
    ) -> None:
        super().__init__()
        self.base_layer = base_layer
        stacked = [(memory, pair) for memory, pair in enumerate(factors) if pair is not None]
        device = base_layer.weight.device
        self.down = nn.Parameter(torch.cat([a for _, (a, _) in stacked]).to(device), requires_grad=False)
        self.up = nn.Parameter(torch.cat([b for _, (_, b) in stacked], dim=1).to(device), requires_grad=False)
        memory_of_slot = tuple(memory for memory, (a, _) in stacked for _ in range(len(a)))
        self.layout = ({} if layouts is None else layouts).setdefault(memory_of_slot, Layout(memory_of_slot))

    def slots(self, memories: Collection[int]) -> tuple[Float[Tensor, "slots d_in"], Float[Tensor, "d_out slots"]]:
        """(A, B) of the slots of some memories, given by number."""
        slots = self.layout.slots(memories)
        if len(slots) == len(self.layout.memory_of_slot):
            return self.down, self.up
        index = torch.tensor(slots, dtype=torch.long, device=self.down.device)
        return self.down[index], self.up[:, index]

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        y = self.base_layer(x)
        route = current_route()
        applied = None if route is None else route.applied(self, x)
        return y if applied is None else y + low_rank_update(x, *applied)


def install(base: nn.Module, memories: Sequence[Factors]) -> dict[str, MixtureLinear]:
    """Replaces the linears of `base` that any memory targets by mixtures, in place; returns path → layer.

    Give it a base of its own (`base.layers.twin`): whoever else holds these modules would answer with the memories, too.
    """
    assert not mixtures(base), "a base carries the memories of one composite"
    layers: dict[str, MixtureLinear] = {}
    layouts: dict[tuple[int, ...], Layout] = {}
    for path in sorted({path for factors in memories for path in factors}):
        parent, _, name = path.rpartition(".")
        linear = base.get_submodule(path)
        assert isinstance(linear, nn.Linear), f"{path} is a {type(linear).__name__}"
        layers[path] = MixtureLinear(linear, [factors.get(path) for factors in memories], layouts)
        setattr(base.get_submodule(parent), name, layers[path])
    return layers


def mixtures(base: nn.Module) -> dict[str, MixtureLinear]:
    """The mixture layers of a base, by path."""
    return {path: module for path, module in base.named_modules() if isinstance(module, MixtureLinear)}
