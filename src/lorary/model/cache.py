"""RoutedCache: a key-value cache that keeps the plan which made it, so that it never serves another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, DynamicLayer

from lorary.errors import LoraryError
from lorary.model.active_route import ActiveRoute
from lorary.model.beside import Coming
from lorary.model.read import Read
from lorary.model.streams import Streams
from lorary.routing.features import Features, Sums
from lorary.routing.policy import Decision, Policy, Route


@dataclass
class Plan:
    """How a request is routed: a decision, or features for the gate to decide on at the split.

    Args:
        memories: the names that the decision's weights stand for.
        texts: the queries; None where the caller decided.
        policy: that decides, where nothing is decided yet.
        told: the features of the queries, where the gate waits for the hidden state; `features` waits for those that are on
            their way.
        telling: gives the features that are worked out beside the layers below the split.
        decided: the decision, once it is there; `decision` waits for one that is on its way.
        coming: gives the decision that is worked out beside the layers below the split.
        route: the decision as the mixture layers apply it, kept from step to step.
        sums: of the hidden states that a gate of tokens has seen.
        latest: what a gate of tokens decided in the last pass.
        streams: who then read which row.
        spoken: what each memory, and the base, has had of the tokens of each row's answer so far.
        cut: whether the prompt that made it ended within a question.
        versions: of the memories (`Membership.versions`); a memory that took the place of one of its name is another.
        named: the caller's name for each row, where names decided.
    """

    memories: tuple[str, ...]
    texts: tuple[str, ...] | None = None
    policy: Policy | None = None
    told: Features | None = None
    telling: Callable[[], Features] | None = field(default=None, compare=False)
    decided: Decision | None = None
    coming: Callable[[], Decision] | None = field(default=None, compare=False)
    route: ActiveRoute | None = field(default=None, compare=False)
    sums: Sums | None = None
    latest: Decision | None = field(default=None, compare=False)
    streams: Streams | None = field(default=None, compare=False)
    spoken: Tensor | None = field(default=None, compare=False)
    cut: bool = False
    versions: tuple[int, ...] = ()
    named: tuple[str, ...] | None = field(default=None, compare=False)
    _routes: list[Route] | None = field(default=None, init=False, compare=False)

    def __len__(self) -> int:
        if self.decided is not None:
            return len(self.decided.weights)
        return len(self.texts) if self.texts is not None else 0

    @property
    def features(self) -> Features | None:
        """What the gate reads of the queries, where it waits for the hidden state; where that is on its way, this waits for it,
        and raises what was raised there."""
        if self.told is None and self.telling is not None:
            self.told, self.telling = self.telling(), None
        return self.told

    @property
    def by_gate(self) -> bool:
        """Whether the gate decides, or has decided, from the hidden state."""
        return self.told is not None or self.telling is not None

    @property
    def waits(self) -> bool:
        """Whether the gate decides at the split, from the hidden state there."""
        return self.decided is None and self.coming is None

    @property
    def decision(self) -> Decision | None:
        """The decision; where it is on its way, this waits for it, and raises what was raised there. None for a gate that
        decides at the split, until it has."""
        if self.decided is None and self.coming is not None:
            self.decide(self.coming())
        return self.decided

    def drop(self) -> None:
        """Lets nothing that is on its way go on: the pass that it was for has failed."""
        for coming in (self.coming, self.telling):
            if isinstance(coming, Coming):
                coming.drop()

    def decide(self, decision: Decision) -> None:
        """Fixes the decision for all that follows."""
        self.decided, self.coming = decision, None
        self.route = ActiveRoute(decision.weights.unsqueeze(1))

    def routes(self) -> list[Route]:
        """A route a row, as the last pass took it; worked out once for a decision that is fixed.

        Raises:
            AssertionError: nothing was decided.
        """
        decision = self.decision
        if decision is None:
            assert self.latest is not None, "the base ran without its layer at the split"
            return self.latest.routes(self.memories)
        if self._routes is None:
            self._routes = decision.routes(self.memories)
        return list(self._routes)

    def rows(self, index: Tensor) -> Plan:
        """The plan of the rows given by number."""
        decision, features = self.decision, self.features
        return replace(
            self,
            texts=None if self.texts is None else tuple(self.texts[i] for i in index.tolist()),
            named=None if self.named is None else tuple(self.named[i] for i in index.tolist()),
            told=None if features is None else features.rows(index),
            decided=None if decision is None else decision.rows(index),
            route=None if self.route is None else self.route.rows(index),
            sums=None if self.sums is None else (self.sums[0][index], self.sums[1][index]),
            streams=None if self.streams is None else self.streams.chosen(index),
            spoken=None if self.spoken is None else self.spoken[index.to(self.spoken.device)],
        )

    def anew(self, rows: int) -> Plan:
        """The same plan for a pass that begins with no token seen, each row repeated to make up `rows`."""
        if rows == len(self):
            return replace(self, sums=None, streams=None) if self.waits else self
        index = torch.arange(len(self)).repeat_interleave(rows // max(len(self), 1))
        return replace(self.rows(index), sums=None, streams=None)


class RoutedCache(DynamicCache):
    """A cache whose rows take their plan along, through beams, copies and selections; what is cropped is forgotten.

    Args:
        switches: whether it keeps what another route needs to take over (`Read`); else it starts anew then. Streams always do.
    """

    plan: Plan | None = None
    read: Read | None = None
    switches: bool = True

    def note(
        self, split_layer: int, tokens: Tensor | None, places: Tensor | None, hidden: Tensor | None, started: bool
    ) -> None:
        """Keeps what one pass has read; where a pass cannot tell, nothing that was read before is of use either.

        Args:
            places: the positions of the tokens; None where each follows the one before it.
            started: whether the cache held tokens before that pass.
        """
        streams = self.plan is not None and self.plan.streams is not None
        if hidden is None or not (self.switches or streams) or (started and self.read is None):
            self.read = None
            return
        if tokens is None:  # embeddings: no tokens begin alike
            tokens = torch.full(hidden.shape[:2], -1, device=hidden.device)
        part = tokens, None if places is None else places.expand(tokens.shape), hidden.detach()
        if self.read is not None and started:
            self.read.add(part)
        else:
            self.read = Read(split_layer, part)

    def _take(self, index: Tensor) -> None:
        """Keeps the rows given by number, in this order; each layer from the split on has the streams of a row."""
        streams = None if self.plan is None else self.plan.streams
        layer: Any
        for number, layer in enumerate(self.layers):
            above = streams is not None and number >= streams.split_layer
            layer.batch_select_indices(streams.of(index) if above and streams is not None else index)
        if self.plan is not None:
            self.plan = self.plan.rows(index)
        if self.read is not None:
            self.read = self.read.rows(index)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        self._take(beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        self._take(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        self._take(torch.arange(rows_of(self) or 0).repeat_interleave(repeats))

    def crop(self, tokens_to_remove: int) -> None:
        super().crop(tokens_to_remove)
        kept = self.get_seq_length()
        if self.plan is not None and self.plan.sums is not None:
            self.plan.sums = self.plan.sums[0][:, :kept], self.plan.sums[1][:, :kept]
        if self.read is not None:
            self.read = self.read.first(kept)

    def reset(self) -> None:
        super().reset()
        self.plan = self.read = None


def rows_of(cache: Cache) -> int | None:
    """The rows that a cache holds; None where none of its layers tells."""
    plan: Plan | None = getattr(cache, "plan", None)
    if plan is not None and plan.streams is not None:
        return plan.streams.batch
    keys = (getattr(layer, "keys", None) for layer in getattr(cache, "layers", ()))
    return next((len(tensor) for tensor in keys if isinstance(tensor, Tensor) and tensor.ndim == 4), None)


def started_by(start: RoutedCache, layers: Sequence[DynamicLayer], rows: int) -> RoutedCache:
    """A cache whose `rows` rows all go on from the one row of `start`, under its plan.

    Args:
        layers: the cache's own, one for each of the start's; they count the start's tokens as theirs.
    """
    cache = RoutedCache()
    cache.layers = [*layers]
    cache.plan = start.plan and start.plan.rows(torch.zeros(rows, dtype=torch.long))
    return cache


def empty(cache: Any) -> None:
    """Empties a cache, in place, so that rows of any number fit. Raises LoraryError where that
    cannot be done."""
    for layer in getattr(cache, "layers", ()):
        layer.reset()
        if isinstance(layer, DynamicLayer):  # its tensors have the length and the rows of what it holds
            layer.keys = layer.values = None
            layer.is_initialized = False
    if cache.get_seq_length() != 0:
        raise LoraryError(
            f"another route made this {type(cache).__name__}, and it cannot be emptied; pass an empty cache, or none"
        )
    cache.plan = None
    if isinstance(cache, RoutedCache):
        cache.read = None


@contextmanager
def as_before_if_it_fails(cache: Cache | None, started: bool, plan: Plan) -> Iterator[None]:
    """If the pass inside fails, waits for what was worked out beside it, and empties a cache that held nothing before: the
    layers below the split may have filled theirs when the route is found to be impossible."""
    try:
        yield
    except BaseException:
        plan.drop()
        if cache is not None and not started:
            with suppress(LoraryError):
                empty(cache)
        raise
