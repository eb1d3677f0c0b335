"""ActiveRoute: the weights that one request applies, and what each mixture layer needs of them, worked out once.

The route of a running forward pass stands in a context variable. Each thread and each task has its own, so two
requests on one model never meet.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from lorary.model.mixture import MixtureLinear

_CURRENT: ContextVar[ActiveRoute | None] = ContextVar("lorary_active_route", default=None)


class Layout:
    """Which rank slots stand for which memory; shared by all layers whose slots stand for the same memories.

    Args:
        ranks: (memory, its number of slots), in the order of the slots and of the memories' numbers.
    """

    def __init__(self, ranks: tuple[tuple[int, int], ...]) -> None:
        self.ranks = ranks
        ends = list(accumulate((rank for _, rank in ranks), initial=0))
        self._spans = {memory: range(start, start + rank) for (memory, rank), start in zip(ranks, ends, strict=False)}

    def slots(self, memories: Collection[int]) -> list[int]:
        """The slots of some memories, given by number."""
        return [slot for memory in self._among(memories) for slot in self._spans[memory]]

    def memories(self, memories: Collection[int]) -> list[int]:
        """The memory that each of those slots stands for."""
        return [memory for memory in self._among(memories) for _ in self._spans[memory]]

    def _among(self, memories: Collection[int]) -> list[int]:
        return sorted(self._spans.keys() & memories)


class ActiveRoute:
    """The weights that the mixture layers of one request apply; layers whose memories have no weight stay the base's.

    Args:
        weights: [batch, seq or 1, memories]; None means the base alone.
        decide: gives the weights from the hidden state at the split, where they are not known before.
    """

    def __init__(
        self,
        weights: Float[Tensor, "batch seq_or_1 memories"] | None = None,
        decide: Callable[[Float[Tensor, "batch seq hidden"]], Tensor] | None = None,
    ) -> None:
        self.active: frozenset[int] = frozenset()
        self._decide = decide
        self._factors: dict[MixtureLinear, tuple[Tensor, Tensor]] = {}
        self._gains: dict[Layout, Tensor] = {}
        self._set(weights)

    def _set(self, weights: Tensor | None) -> None:
        active: frozenset[int] = frozenset()
        if weights is not None and weights.numel():
            # The one synchronisation of a request: which memories any row uses.
            active = frozenset((weights.detach() != 0).flatten(0, -2).any(0).nonzero().squeeze(-1).tolist())
        if active != self.active:
            self._factors.clear()
        self._gains.clear()
        self.weights, self.active = weights, active

    def at_split(self, hidden: Float[Tensor, "batch seq hidden"]) -> None:
        """Decides, where the decision waits for the hidden state that enters the split."""
        if self._decide is not None:
            self._set(self._decide(hidden))

    def applied(self, layer: MixtureLinear, x: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
        """(A, B, gains) of the slots that take part in a layer; None where there is none."""
        if not self.active:
            return None
        factors = self._factors.get(layer)
        if factors is None or factors[0].dtype != x.dtype or factors[0].device != x.device:
            down, up = layer.slots(self.active)
            factors = down.to(x.device, x.dtype), up.to(x.device, x.dtype)
            if not layer.down.requires_grad:  # what is trained changes from pass to pass
                self._factors[layer] = factors
        if not len(factors[0]):
            return None
        return *factors, self._gain(layer.layout, x)

    def _gain(self, layout: Layout, x: Tensor) -> Float[Tensor, "batch seq_or_1 slots"]:
        gains = self._gains.get(layout)
        if gains is None or gains.dtype != x.dtype or gains.device != x.device:
            assert self.weights is not None
            index = torch.tensor(layout.memories(self.active), dtype=torch.long, device=self.weights.device)
            gains = self.weights[..., index].to(x.device, x.dtype)
            if not gains.requires_grad:  # a layer that runs again for its gradient must do what it did
                self._gains[layout] = gains
        return gains

    def rows(self, index: Tensor) -> ActiveRoute:
        """The route of the rows given by number; what the layers need of the memories is kept."""
        route = ActiveRoute()
        if self.weights is not None:
            route.weights, route.active, route._factors = self.weights[index], self.active, self._factors
        return route

    def __deepcopy__(self, memo: dict[int, Any]) -> ActiveRoute:
        """A copy of the weights alone: a copied cache must not copy the layers."""
        return ActiveRoute(None if self.weights is None else self.weights.clone())

    def __reduce__(self) -> tuple[Any, ...]:
        return ActiveRoute, (self.weights,)


def current_route() -> ActiveRoute | None:
    """The route of the forward pass that runs in this thread or task; None where there is none."""
    return _CURRENT.get()


@contextmanager
def apply_route(route: ActiveRoute | None) -> Iterator[None]:
    """Lets the mixture layers that run inside, in this thread or task, apply a route."""
    token = _CURRENT.set(route)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def keep_route(checkpoint: Callable[..., Any]) -> Callable[..., Any]:
    """A checkpointing function that runs layers again under the route of their first run, as their gradient needs it."""

    def keeping(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        route = current_route()

        def again(*values: Any, **options: Any) -> Any:
            with apply_route(route):
                return function(*values, **options)

        return checkpoint(again, *args, **kwargs)

    keeping.keeps_route = True  # type: ignore[attr-defined]
    return keeping
