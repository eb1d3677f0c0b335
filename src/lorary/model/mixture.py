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
Layouts = dict[tuple[tuple[int, int], ...], Layout]
"""The layouts of a base's layers, by the ranks that they lay out."""


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
        factors: number of each memory that targets this layer, in order → its (A, scaled B).
        layouts: the layouts of the layers made so far; layers whose slots stand for the same memories share one.
    """

    def __init__(
        self, base_layer: nn.Linear, factors: Mapping[int, tuple[Tensor, Tensor]], layouts: Layouts | None = None
    ) -> None:
        super().__init__()
        self.base_layer = base_layer
        device = base_layer.weight.device
        self.down = nn.Parameter(torch.cat([a for a, _ in factors.values()]).to(device), requires_grad=False)
        self.up = nn.Parameter(torch.cat([b for _, b in factors.values()], dim=1).to(device), requires_grad=False)
        ranks = tuple((memory, len(a)) for memory, (a, _) in factors.items())
        self.layout = _shared({} if layouts is None else layouts, ranks)

    def slots(self, memories: Collection[int]) -> tuple[Float[Tensor, "slots d_in"], Float[Tensor, "d_out slots"]]:
        """(A, B) of the slots of some memories, given by number."""
        slots = self.layout.slots(memories)
        down, up = self.down, self.up
        if len(slots) == len(down) == up.shape[1]:
            return down, up
        index = torch.tensor(slots, dtype=torch.long, device=down.device)
        return down[index], up[:, index]

    def append(self, memory: int, a: Tensor, b: Tensor, layouts: Layouts) -> None:
        """Adds the slots of a memory whose number is above all others'; the others' slots stay what they are.

        The layout comes last: a request that runs meanwhile finds its own slots in the longer stacks, too.
        """
        self._stack(torch.cat([self.down.detach(), a.to(self.down)]), torch.cat([self.up.detach(), b.to(self.up)], 1))
        self.layout = _shared(layouts, (*self.layout.ranks, (memory, len(a))))

    def drop(self, memory: int, layouts: Layouts) -> None:
        """Takes out the slots of a memory, where it has any; the memories after it count one less."""
        others = [other for other, _ in self.layout.ranks if other != memory]
        if len(others) < len(self.layout.ranks):
            down, up = self.slots(others)
            self._stack(down.detach(), up.detach().contiguous())
        self.layout = _shared(layouts, tuple((m - (m > memory), r) for m, r in self.layout.ranks if m != memory))

    def _stack(self, down: Tensor, up: Tensor) -> None:
        self.down = nn.Parameter(down, requires_grad=self.down.requires_grad)
        self.up = nn.Parameter(up, requires_grad=self.up.requires_grad)

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
    layouts: Layouts = {}
    paths = sorted({path for factors in memories for path in factors})
    return {
        path: _put(base, path, {n: factors[path] for n, factors in enumerate(memories) if path in factors}, layouts)
        for path in paths
    }


def append(base: nn.Module, memory: int, factors: Factors) -> None:
    """Lets a memory join those that `base` carries, in place; only the layers that it targets change.

    A request that runs meanwhile in another thread is answered as before.

    Args:
        memory: its number, above all others'.
    """
    layers = mixtures(base)
    layouts = {layer.layout.ranks: layer.layout for layer in layers.values()}
    for path, pair in sorted(factors.items()):
        if path in layers:
            layers[path].append(memory, *pair, layouts)
        else:
            _put(base, path, {memory: pair}, layouts)


def drop(base: nn.Module, memory: int) -> None:
    """Takes a memory's slots out of `base`, in place; a linear that no other memory targets is the base's own again.

    The numbers of the memories after it change, so no request may run on these modules: drop it in a twin of the base.
    """
    layouts: Layouts = {}
    for path, layer in mixtures(base).items():
        if [other for other, _ in layer.layout.ranks] == [memory]:
            _set(base, path, layer.base_layer)
        else:
            layer.drop(memory, layouts)


def _shared(layouts: Layouts, ranks: tuple[tuple[int, int], ...]) -> Layout:
    if ranks not in layouts:
        layouts[ranks] = Layout(ranks)
    return layouts[ranks]


def _put(base: nn.Module, path: str, factors: Mapping[int, tuple[Tensor, Tensor]], layouts: Layouts) -> MixtureLinear:
    """The mixture that now stands in the place of the linear at `path`."""
    linear = base.get_submodule(path)
    assert isinstance(linear, nn.Linear), f"{path} is a {type(linear).__name__}"
    layer = MixtureLinear(linear, factors, layouts)
    _set(base, path, layer)
    return layer


def _set(base: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(base.get_submodule(parent), name, module)


def mixtures(base: nn.Module) -> dict[str, MixtureLinear]:
    """The mixture layers of a base, by path."""
    return {path: module for path, module in base.named_modules() if isinstance(module, MixtureLinear)}
