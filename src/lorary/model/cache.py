"""RoutedCache: a key-value cache that keeps the route which made it, so that it never serves another."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache

from lorary.routing.policy import Decision
from lorary.routing.router import Query


@dataclass
class Plan:
    """How a request is routed: a decision already taken, or a query for the gate to decide on at the split."""

    decision: Decision | None = None
    query: Query | None = None

    def __len__(self) -> int:
        if self.decision is not None:
            return len(self.decision.weights)
        return len(self.query.embedding) if self.query is not None else 0

    def rows(self, index: Tensor) -> Plan:
        """The plan of the rows given by number."""
        decision = None if self.decision is None else self.decision.rows(index)
        return Plan(decision, None if self.query is None else self.query.rows(index))


class RoutedCache(DynamicCache):
    """A cache whose rows take their plan along, through beams, copies and selections."""

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

    def reset(self) -> None:
        super().reset()
        self.plan = None
