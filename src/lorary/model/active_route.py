"""ActiveRoute: the weights that one request applies, and what each mixture layer needs of them, worked out once.

The route of a running forward pass stands in a context variable. Each thread and each task has its own, so two
requests on one model never meet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

if TYPE_CHECKING:
    from lorary.model.factors import BankFactors, Gains, Stack
    from lorary.model.mixture import MixtureLinear
    from lorary.model.streams import Streams

_CURRENT: ContextVar[ActiveRoute | None] = ContextVar("lorary_active_route", default=None)
R = TypeVar("R", "ActiveRoute", "ActiveRoute | None")
Applied = tuple[Tensor, Tensor, Tensor | None]
"""What a layer applies: (A [slots, d_in], B [d_out, slots], the gains of the slots [batch, seq or 1, slots]); no gains where
each is 1, or folded into B."""


class ActiveRoute:
    """The weights that the mixture layers of one request apply; layers whose memories have no weight stay the base's.

    Args:
        weights: [batch, seq or 1, memories]; None means the base alone.
        decide: gives the weights from the hidden state at the split, where they are not known before; or the streams that
            read each row from there on.
        lasts: whether the passes that follow apply the same weights; gains that change with each token are not folded into B.
    """

    streams: Streams | None = None

    def __init__(
        self,
        weights: Float[Tensor, "batch seq_or_1 memories"] | None = None,
        decide: Callable[[Float[Tensor, "batch seq hidden"]], Tensor | Streams] | None = None,
        lasts: bool = True,
    ) -> None:
        self._decide, self._lasts = decide, lasts
        self._entered: Tensor | None = None
        self._source: BankFactors | None = None
        self._set(weights)

    def _set(self, weights: Tensor | None) -> None:
        self.weights = weights
        self.active: tuple[int, ...] = ()
        self._shared: Gains | None = None
        self._gains: dict[tuple[int, ...], Tensor] = {}
        self.let_go()
        if weights is None or not weights.numel():
            return
        # The one synchronisation of a request: which memories any row uses, and whether all rows use them alike.
        rows = weights.detach().flatten(0, -2).cpu()
        self.active = tuple((rows != 0).any(0).nonzero().squeeze(-1).tolist())
        used = rows[:, list(self.active)]
        if not weights.requires_grad and bool((used == used[0]).all()):
            self._shared = tuple(used[0].tolist())

    @property
    def _of_ones(self) -> bool:
        """Whether every row applies the same memories, each as it is."""
        return self._shared is not None and all(gain == 1.0 for gain in self._shared)

    @property
    def _folded(self) -> Gains | None:
        """The gains that are folded into B: those that all rows share, of a route that is kept from step to step."""
        return self._shared if self._lasts and not self._of_ones else None

    def let_go(self) -> None:
        """Drops what the layers need of the memories: what waits for its next step holds none of the memory's budget."""
        self._stack: Stack | None = None
        self._ready: dict[str, Applied | None] = {}

    def draw_from(self, source: BankFactors | None) -> None:
        """Takes what the layers need from a bank's memories, now if it is decided; what changes there then comes too late."""
        self._source = source
        if source is None or source.in_layers or not self.active or self._stack is not None:
            return
        self._stack = source.stack(self.active, self._folded)
        if self._of_ones or self._folded is not None:
            self._ready = dict(self._stack.plain)

    def at_split(self, hidden: Float[Tensor, "batch seq hidden"]) -> None:
        """Decides, where the decision waits for the hidden state that enters the split; keeps that until it is `taken`."""
        self._entered = hidden
        if self._decide is None:
            return
        decided, self._decide = self._decide(hidden), None
        if not isinstance(decided, Tensor):
            self.streams, decided = decided, decided.weights
        self._set(decided)
        self.draw_from(self._source)

    def taken(self) -> Float[Tensor, "batch seq hidden"] | None:
        """The hidden state that entered the split in the last pass; it is kept no longer."""
        hidden, self._entered = self._entered, None
        return hidden

    def applied(self, layer: MixtureLinear, x: Tensor) -> Applied | None:
        """What a layer applies of the slots that take part; None where there is none."""
        if not self.active:
            return None
        if layer.path not in self._ready:
            return self._work_out(layer, x)
        ready = self._ready[layer.path]
        return ready if ready is None or _is_like(ready[0], x) else self._work_out(layer, x)

    def _work_out(self, layer: MixtureLinear, x: Tensor) -> Applied | None:
        """What a layer applies; kept, but where factors are trained, since those change from pass to pass."""
        if layer.holds_factors:
            down, up, owners = layer.slots(self.active)
        else:
            if self._stack is None:
                self.draw_from(layer.source)
            assert self._stack is not None, "a layer without factors of its own draws them from a bank"
            down, up, owners = self._stack.linears.get(layer.path, (x, x, ()))
        applied: Applied | None = None
        if owners:
            weighed = not self._of_ones and (layer.holds_factors or self._folded is None)
            gains = self._gain(owners, x) if weighed else None
            applied = down.to(x.device, x.dtype), up.to(x.device, x.dtype), gains
        if not (layer.holds_factors and layer.down.requires_grad):
            self._ready[layer.path] = applied
        return applied

    def _gain(self, owners: tuple[int, ...], x: Tensor) -> Float[Tensor, "batch seq_or_1 slots"]:
        """The gain of each slot.

        Args:
            owners: the place of each slot's memory among the active ones.
        """
        gains = self._gains.get(owners)
        if gains is None or not _is_like(gains, x):
            assert self.weights is not None
            index = torch.tensor([self.active[place] for place in owners], device=self.weights.device)
            gains = self.weights[..., index].to(x.device, x.dtype)
            if not gains.requires_grad:  # a layer that runs again for its gradient must do what it did
                self._gains[owners] = gains
        return gains

    def rows(self, index: Tensor) -> ActiveRoute:
        """The route of the rows given by number; what the layers need of the memories is kept."""
        route = ActiveRoute()
        if self.weights is not None:
            route.weights, route.active, route._shared = self.weights[index], self.active, self._shared
            route._source, route._stack = self._source, self._stack
        return route

    def __deepcopy__(self, memo: dict[int, Any]) -> ActiveRoute:
        """A copy of the weights alone: a copied cache must not copy the layers."""
        return ActiveRoute(None if self.weights is None else self.weights.clone())

    def __reduce__(self) -> tuple[Any, ...]:
        return ActiveRoute, (self.weights,)


def _is_like(tensor: Tensor, x: Tensor) -> bool:
    return tensor.dtype == x.dtype and tensor.device == x.device


def current_route() -> ActiveRoute | None:
    """The route of the forward pass that runs in this thread or task; None where there is none."""
    return _CURRENT.get()


@contextmanager
def apply_route(route: R, source: BankFactors | None = None) -> Iterator[R]:
    """Lets the mixture layers that run inside, in this thread or task, apply a route, which it gives.

    Args:
        source: gives what the layers need for the time that they run (where a gradient is wanted, as long as the route is).
    """
    if route is not None and source is not None:
        route.draw_from(source)
    token = _CURRENT.set(route)
    try:
        yield route
    finally:
        _CURRENT.reset(token)
        if route is not None and source is not None and not torch.is_grad_enabled():
            route.let_go()


def _keeping_route(checkpoint: Callable[..., Any]) -> Callable[..., Any]:
    """A checkpointing function that runs layers again under the route of their first run, as their gradient needs it."""

    def keeping(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        route = current_route()

        def again(*values: Any, **options: Any) -> Any:
            with apply_route(route):
                return function(*values, **options)

        return checkpoint(again, *args, **kwargs)

    keeping.keeps_route = True  # type: ignore[attr-defined]
    return keeping


def keep_routes_in_checkpoints(base: nn.Module) -> None:
    """Lets the layers of a base that gradient checkpointing runs again do so under the route of their first run."""
    for module in base.modules():
        checkpoint = getattr(module, "_gradient_checkpointing_func", None)
        if checkpoint is not None and not getattr(checkpoint, "keeps_route", False):
            module._gradient_checkpointing_func = _keeping_route(checkpoint)  # type: ignore[assignment]
