"""RoutedCache: a key-value cache that keeps the plan which made it, so that it never serves another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, DynamicLayer

from lorary.model.active_route import ActiveRoute
from lorary.routing.features import Features, Sums
from lorary.routing.policy import Decision, Policy


@dataclass
class Plan:
    """How a request is routed: a decision, or features for the gate to decide on at the split.

    Args:
        memories: the names that the decision's weights stand for.
        texts: the queries; None where the caller decided.
        policy: that decides, where nothing is decided yet.
        route: the decision as the mixture layers apply it, kept from step to step.
        sums: of the hidden states that a gate of tokens has seen.
        latest: what a gate of tokens decided in the last pass.
        cut: whether the prompt that made it ended within a question.
        versions: of the memories (`Membership.versions`); a memory that took the place of one of its name is another.
    """

    memories: tuple[str, ...]
    texts: tuple[str, ...] | None = None
    policy: Policy | None = None
    features: Features | None = None
    decision: Decision | None = None
    route: ActiveRoute | None = field(default=None, compare=False)
    sums: Sums | None = None
    latest: Decision | None = field(default=None, compare=False)
    cut: bool = False
    versions: tuple[int, ...] = ()

    def __len__(self) -> int:
        if self.decision is not None:
            return len(self.decision.weights)
        return len(self.features) if self.features is not None else 0

    def decide(self, decision: Decision) -> None:
        """Fixes the decision for all that follows."""
        self.decision, self.route = decision, ActiveRoute(decision.weights.unsqueeze(1))

    def rows(self, index: Tensor) -> Plan:
        """The plan of the rows given by number."""
        return replace(
            self,
            texts=None if self.texts is None else tuple(self.texts[i] for i in index.tolist()),
            features=None if self.features is None else self.features.rows(index),
            decision=None if self.decision is None else self.decision.rows(index),
            route=None if self.route is None else self.route.rows(index),
            sums=None if self.sums is None else (self.sums[0][index], self.sums[1][index]),
        )

    def anew(self, rows: int) -> Plan:
        """The same plan for a pass that begins with no token seen, each row repeated to make up `rows`."""
        index = torch.arange(len(self)).repeat_interleave(rows // max(len(self), 1))
        return replace(self.rows(index), sums=None)


class RoutedCache(DynamicCache):
    """A cache whose rows take their plan along, through beams, copies and selections; what is cropped is forgotten."""

    plan: Plan | None = None

    def _take(self, index: Tensor) -> None:
        if self.plan is not None:
            self.plan = self.plan.rows(index)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        super().reorder_cache(beam_idx)  # type: ignore[arg-type]
        self._take(beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        super().batch_select_indices(indices)
        self._take(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        super().batch_repeat_interleave(repeats)
        if self.plan is not None:
            self._take(torch.arange(len(self.plan)).repeat_interleave(repeats))

    def crop(self, tokens_to_remove: int) -> None:
        super().crop(tokens_to_remove)
        if self.plan is not None and self.plan.sums is not None:
            kept = self.get_seq_length()
            self.plan.sums = self.plan.sums[0][:, :kept], self.plan.sums[1][:, :kept]

    def reset(self) -> None:
        super().reset()
        self.plan = None


def rows_of(cache: Cache) -> int | None:
    """The rows that a cache holds; None where none of its layers tells."""
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
