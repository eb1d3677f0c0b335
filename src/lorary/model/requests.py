"""Requests: what a caller asks to be routed by, and the plan that follows from it.

A request stands in a context variable while it runs, so that every pass of `generate` (chunks of a prompt, candidates,
the unconditional pass of guidance) is routed by the same plan, and no other thread or task sees it.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from lorary.base.prompts import conversation_text
from lorary.errors import LoraryError
from lorary.model.cache import Plan
from lorary.model.scopes import Scope
from lorary.routing.policy import Decision, Policy, Route, by_caller, named_weights
from lorary.tables import counted

_REQUESTS: ContextVar[tuple[tuple[Scope, Request], ...]] = ContextVar("lorary_requests", default=())
_LAST_ROUTES: ContextVar[Mapping[Any, list[Route]]] = ContextVar("lorary_last_routes", default=MappingProxyType({}))


@dataclass
class Request:
    """What a caller asks of one model: a route by name or by weight, texts to route by, a policy.

    Args:
        model: the model that it is asked of; others that run inside are not touched.
        plan: of the whole request, once it is made; only a request of one `generate` keeps it.
        whole: whether this is one call of `generate`.
        routes: that the prompts got.
        first: the plan of its first pass, which the passes that follow go on with.
    """

    model: Any
    adapter_names: Sequence[str] | None = None
    route_weights: Float[Tensor, "batch memories"] | None = None
    routing_text: str | Sequence[str] | None = None
    policy: Policy | None = None
    whole: bool = False
    plan: Plan | None = None
    routes: list[Route] | None = None
    first: Plan | None = None

    def __post_init__(self) -> None:
        if self.adapter_names is not None and self.route_weights is not None:
            raise LoraryError("adapter_names and route_weights were both given; give one of them")

    @property
    def by_caller(self) -> bool:
        """Whether the caller decides the route."""
        return self.adapter_names is not None or self.route_weights is not None

    def over(self, outer: Request | None) -> Request:
        """This request where it says something, else the outer one."""
        if outer is None:
            return self
        says = self.by_caller or self.routing_text is not None
        ways = self if says else outer
        return Request(
            self.model,
            ways.adapter_names,
            ways.route_weights,
            ways.routing_text,
            self.policy or outer.policy,
            whole=self.whole or (outer.whole and not says),
            plan=None if says else outer.plan,
        )


def current_request(model: Any) -> Request | None:
    """The request of `model` that runs in this thread or task, the innermost first."""
    for scope, request in reversed(_REQUESTS.get()):
        if request.model is model and scope.holds():
            return request
    return None


@contextmanager
def running(request: Request, scope: Scope | None = None) -> Iterator[Request]:
    """Lets every pass of its model that runs inside, in this thread or task, belong to a request.

    Blocks of generators may end in any order, so each takes out what has ended, and nothing else.
    """
    scope = scope or Scope()
    _REQUESTS.set((*_REQUESTS.get(), (scope, request)))
    try:
        yield request
    finally:
        scope.ended = True
        _REQUESTS.set(tuple(entry for entry in _REQUESTS.get() if not entry[0].ended))


def last_routes(model: Any) -> list[Route]:
    """The routes of the last prompts that this thread or task put to a model."""
    return _LAST_ROUTES.get().get(weakref.ref(model), [])


def remember_routes(model: Any, routes: list[Route]) -> None:
    """Keeps the routes of a model's last prompts, for this thread or task."""
    alive = {place: routes for place, routes in _LAST_ROUTES.get().items() if place() is not None}
    _LAST_ROUTES.set({**alive, weakref.ref(model): routes})


def decided_by_caller(request: Request, batch: int, memories: Sequence[str]) -> Decision | None:
    """The caller's decision, if there is one; where beams repeat each row, names and weights are repeated too.

    Raises:
        LoraryError: an unknown memory, or a wrong number of rows.
    """
    names, weights = request.adapter_names, request.route_weights
    if names is not None:
        if isinstance(names, str) or len(names) == 0 or batch % len(names):
            raise LoraryError(f"adapter_names is {names!r}; give a list of {counted(batch, 'name')}, one a row")
        weights = named_weights(names, memories)
    if weights is None:
        return None
    if weights.ndim != 2 or not len(weights) or batch % len(weights) or weights.shape[1] != len(memories):
        raise LoraryError(
            f"route_weights is {tuple(weights.shape)}, it must be ({batch}, {len(memories)}): a row each, with a "
            "weight for each memory"
        )
    if not bool(torch.isfinite(weights).all()):
        raise LoraryError("route_weights holds a NaN or an infinity; give finite weights")
    return by_caller(weights.repeat_interleave(batch // len(weights), 0))


def renamed(plan: Plan, memories: Sequence[str], versions: tuple[int, ...]) -> Plan:
    """The plan over the memories that the bank holds now.

    Raises:
        LoraryError: a memory that takes part in the plan has left, or the plan waits for features of another bank.
    """
    if (plan.memories, plan.versions) == (tuple(memories), versions):
        return plan
    places = {memory: place for place, memory in enumerate(zip(memories, versions, strict=True))}
    earlier = list(zip(plan.memories, plan.versions, strict=True))
    if plan.decision is None:
        raise LoraryError("the bank has changed since this cache was made; start from an empty cache")
    weights = plan.decision.weights
    used = (weights != 0).flatten(0, -2).any(0).nonzero().squeeze(-1).tolist()
    if gone := [plan.memories[i] for i in used if earlier[i] not in places]:
        raise LoraryError(f"this cache was made by {gone[0]!r}, which has left the bank; start from an empty cache")
    moved = torch.zeros(*weights.shape[:-1], len(memories), dtype=weights.dtype, device=weights.device)
    for i in used:
        moved[..., places[earlier[i]]] = weights[..., i]
    now = Plan(tuple(memories), plan.texts, plan.policy, versions=versions)
    now.decide(Decision(moved, plan.decision.source, plan.decision.confidence))
    return now


def same_route(plan: Plan | None, other: Plan) -> bool:
    """Whether two plans come to the same: equal decisions, or, where none is made yet, equal texts under one policy."""
    if plan is None or len(plan) != len(other):
        return False
    if (plan.memories, plan.versions) != (other.memories, other.versions):
        return False
    if plan.decision is not None and other.decision is not None:
        return torch.equal(plan.decision.weights.cpu(), other.decision.weights.cpu())
    return plan.by_gate and other.by_gate and plan.texts == other.texts and plan.policy == other.policy


def routing_texts(
    tokenizer: PreTrainedTokenizerBase,
    input_ids: Tensor | None,
    mask: Tensor | None,
    texts: str | Sequence[str] | None,
    batch: int,
) -> list[str]:
    """The query of each row: the caller's `routing_text`, or what its conversation asks (`conversation_text`).

    Raises:
        LoraryError: a wrong number of texts, or neither texts nor tokens.
    """
    if texts is not None:
        texts = [texts] if isinstance(texts, str) else list(texts)
        if not texts or batch % len(texts):
            raise LoraryError(
                f"routing_text has {counted(len(texts), 'text')} for {counted(batch, 'row')}; give one a row"
            )
        return [text for text in texts for _ in range(batch // len(texts))]
    if input_ids is None:
        raise LoraryError("inputs_embeds hold no text to route by; give routing_text, adapter_names or input_ids")
    kept = mask.bool() if mask is not None and mask.ndim == 2 else torch.ones_like(input_ids, dtype=torch.bool)
    rows = [row[keep] for row, keep in zip(input_ids, kept, strict=True)]
    return [conversation_text(tokenizer, str(tokenizer.decode(row))) for row in rows]
