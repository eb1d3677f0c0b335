"""The hot path: a frozen linear layer plus a weighted sum of memories' low-rank updates.

The factors of a route's memories for one linear are stacked by rank slot, so mixed ranks and missing targets cost nothing
special, and the weighted sum is exact in ΔW (Hu et al. 2021, arXiv 2106.09685, with one gain a slot):

    y = W x + B ( g[slot → memory] ∘ (A x) )

The gains g belong to a request (`active_route.ActiveRoute`), never to a layer. So do A and B where a bank's memories answer
(`factors.BankFactors`); where memories are trained, the layers hold the factors of them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lorary.model.active_route import current_route

if TYPE_CHECKING:
    from lorary.model.factors import BankFactors

Factors = Mapping[str, tuple[Tensor, Tensor]]
"""A memory's factors: module path → (A [r, d_in], B [d_out, r] with the scaling folded in)."""


def low_rank_update(
    x: Float[Tensor, "*batch d_in"],
    down: Float[Tensor, "*#rows slots d_in"],
    up: Float[Tensor, "*#rows d_out slots"],
    gains: Float[Tensor, "*#batch slots"] | None = None,
) -> Float[Tensor, "*batch d_out"]:
    """B (g ∘ (A x)): the weighted sum of the memories' updates, exact in ΔW; without gains each is 1.

    A gain of zero takes a slot out, whatever A x is there: infinity times zero would not be zero.

    Args:
        down, up: of all rows, or of each row its own.
    """
    slots = x @ down.mT
    return (slots if gains is None else torch.where(gains != 0, slots * gains, 0.0)) @ up.mT


def with_update(
    y: Float[Tensor, "*batch d_out"],
    x: Float[Tensor, "*batch d_in"],
    down: Float[Tensor, "*#rows slots d_in"],
    up: Float[Tensor, "*#rows d_out slots"],
    gains: Float[Tensor, "*#batch slots"] | None = None,
) -> Float[Tensor, "*batch d_out"]:
    """y and the `low_rank_update` of x, in y's place where each row has factors of its own and inference asks for no gradient:
    the update of a prompt is as large as y, and is never written out."""
    if (
        gains is None
        and down.ndim == x.ndim == 3
        and len(down) == len(x)
        and y.dtype == down.dtype
        and y.is_inference()
    ):
        return y.baddbmm_(x @ down.mT, up.mT)
    return y + low_rank_update(x, down, up, gains)


class MixtureLinear(nn.Module):
    """A frozen linear layer to which a route adds the updates of its memories.

    Args:
        base_layer: the base's own layer; with no active memory the output is its output, bit for bit.
        path: of this linear in the base.
        factors: number of each memory that targets this layer, in order → its (A, scaled B), which the layer then holds as
            parameters (`holds_factors`); without any, a route draws them from `source`.
    """

    down: nn.Parameter
    up: nn.Parameter

    def __init__(
        self, base_layer: nn.Linear, path: str, factors: Mapping[int, tuple[Tensor, Tensor]] | None = None
    ) -> None:
        super().__init__()
        self.base_layer, self.path = base_layer, path
        self.holds_factors = False
        self.source: BankFactors | None = None
        self.owners: tuple[int, ...] = ()
        self.register_parameter("down", None)
        self.register_parameter("up", None)
        if factors is not None:
            self.hold(factors)

    def hold(self, factors: Mapping[int, tuple[Tensor, Tensor]]) -> None:
        """Makes parameters of the factors of all memories that target this layer."""
        device = self.base_layer.weight.device
        self.down = nn.Parameter(torch.cat([a for a, _ in factors.values()]).to(device), requires_grad=False)
        self.up = nn.Parameter(torch.cat([b for _, b in factors.values()], dim=1).to(device), requires_grad=False)
        self.owners = tuple(memory for memory, (a, _) in factors.items() for _ in range(len(a)))
        self.holds_factors = True

    def release(self) -> None:
        """Lets go of the factors that it holds."""
        self.down = self.up = None  # type: ignore[assignment]
        self.owners, self.holds_factors = (), False

    def slots_of(self, memory: int) -> list[int]:
        """The slots of a memory in the factors that the layer holds."""
        return [slot for slot, owner in enumerate(self.owners) if owner == memory]

    def slots(
        self, memories: Sequence[int]
    ) -> tuple[Float[Tensor, "slots d_in"], Float[Tensor, "d_out slots"], tuple[int, ...]]:
        """(A, B, the place of each slot's memory among those given) of some memories, of the factors that the layer holds."""
        places = {memory: place for place, memory in enumerate(memories)}
        slots = [slot for slot, owner in enumerate(self.owners) if owner in places]
        owners = tuple(places[self.owners[slot]] for slot in slots)
        if len(slots) == len(self.owners):
            return self.down, self.up, owners
        index = torch.tensor(slots, dtype=torch.long, device=self.down.device)
        return self.down[index], self.up[:, index], owners

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        y = self.base_layer(x)
        route = current_route()
        if route is None:
            return y
        applied = route.applied(self, x)
        return y if applied is None else with_update(y, x, *applied)


def install(base: nn.Module, memories: Sequence[Factors]) -> dict[str, MixtureLinear]:
    """Replaces the linears of `base` that any memory targets by mixtures that hold all factors; returns path → layer.

    Give it a base of its own (`base.layers.twin`): whoever else holds these modules would answer with the memories, too.
    """
    assert not mixtures(base), "a base carries the memories of one composite"
    layers = lay(base, {path for factors in memories for path in factors})
    for path, layer in layers.items():
        layer.hold({n: factors[path] for n, factors in enumerate(memories) if path in factors})
    return layers


def lay(base: nn.Module, paths: Iterable[str]) -> dict[str, MixtureLinear]:
    """Puts mixtures without factors in the places of linears, in place; returns path → layer."""
    layers = {}
    for path in sorted(paths):
        linear = base.get_submodule(path)
        assert isinstance(linear, nn.Linear), f"{path} is a {type(linear).__name__}"
        layers[path] = MixtureLinear(linear, path)
        _set(base, path, layers[path])
    return layers


def take_up(base: nn.Module, paths: Iterable[str]) -> None:
    """Puts the base's own linears back in the places of mixtures."""
    for path in paths:
        _set(base, path, base.get_submodule(path).base_layer)  # type: ignore[arg-type]


def _set(base: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(base.get_submodule(parent), name, module)


def mixtures(base: nn.Module) -> dict[str, MixtureLinear]:
    """The mixture layers of a base, by path."""
    return {path: module for path, module in base.named_modules() if isinstance(module, MixtureLinear)}
