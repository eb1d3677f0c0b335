"""Plans: from what a request asks to the decision that its mixture layers apply."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.cache_utils import Cache

from lorary.base.frames import ends_within_turn, user_turns
from lorary.base.rows import hidden_argument
from lorary.errors import LoraryError
from lorary.model.active_route import ActiveRoute, current_route
from lorary.model.beside import beside
from lorary.model.cache import Plan, rows_of
from lorary.model.opening import open_streams
from lorary.model.requests import Request, decided_by_caller, renamed, routing_texts, same_route
from lorary.model.streams import Streams, missing, pairs_of, with_shares
from lorary.routing.features import counted_tokens, running_mean
from lorary.routing.mixing import EQUAL
from lorary.routing.policy import Decision, Policy, Route, by_caller
from lorary.routing.reading import window_state
from lorary.routing.router import Router
from lorary.tables import counted

if TYPE_CHECKING:
    from lorary.model.modeling import LoraryForCausalLM


def make_plan(
    model: LoraryForCausalLM, request: Request, input_ids: Tensor | None, mask: Tensor | None, batch: int
) -> Plan:
    """The plan of a pass that begins with no token seen; that of its `generate`, where there is one."""
    if request.whole and request.plan is not None and len(request.plan) and batch % len(request.plan) == 0:
        return renamed(request.plan, model.memories, model.versions).anew(batch)
    memories = tuple(model.memories)
    decision = decided_by_caller(request, batch, memories)
    if decision is None and not memories:
        decision = by_caller(torch.zeros(batch, 0))
    plan = Plan(memories, versions=model.versions)
    if decision is not None:
        plan.decide(decision)
        names = request.adapter_names
        plan.named = tuple(names) if names is not None and len(names) == batch else None
        return plan
    texts = routing_texts(model.tokenizer, input_ids, mask, request.routing_text, batch)
    plan = _by_router(model, request, texts)
    if request.routing_text is None and not request.whole and input_ids is not None:
        decode = model.tokenizer.decode
        plan.cut = any(ends_within_turn(model.tokenizer, str(decode(row))) for row in input_ids)
    return plan


def _by_router(model: LoraryForCausalLM, request: Request, texts: Sequence[str]) -> Plan:
    """The plan that the router makes of texts; a decision that needs no hidden state is on its way when this returns."""
    policy, router = request.policy or model.router.policy, model.router
    plan = Plan(tuple(model.memories), tuple(texts), policy, versions=model.versions)
    at_once = model.config.split_layer == 0 or not router.beside or model.gate.none.requires_grad
    router.get_encoder()  # what cannot be loaded fails before a layer runs
    if _waits(model):
        features = partial(router.features, texts)
        plan.telling = features if at_once else beside(features)
    else:
        decision = partial(_decided, router, texts, policy)
        plan.coming = decision if at_once else beside(decision)
    if at_once:  # not later, within the base's forward pass
        _ = plan.decision, plan.features
    return plan


def _decided(router: Router, texts: Sequence[str], policy: Policy) -> Decision:
    return router.decide(router.features(texts), policy)


def _waits(model: LoraryForCausalLM) -> bool:
    """Whether the gate decides at the split, from the hidden state there."""
    return model.config.granularity == "token" or "hidden" in model.gate.features


def continued(
    model: LoraryForCausalLM, request: Request, cache: Cache | None, input_ids: Tensor | None, batch: int
) -> Plan:
    """The plan of a pass that goes on from a cache: the one that made the cache.

    Raises:
        LoraryError: the cache holds other rows, no plan, or another than the caller asks for; or the new tokens ask another
            question, which another route would answer.
    """
    plan = getattr(cache, "plan", None)
    if plan is None:
        raise LoraryError("this cache was not made by this model, so its route is unknown; start from an empty cache")
    if cache is not None and (rows := rows_of(cache)) not in (None, batch):
        raise LoraryError(
            f"this cache holds {counted(rows or 0, 'row')}, and {counted(batch, 'row')} of tokens were given; give a row "
            "for each of the cache's, or start from an empty cache"
        )
    plan = renamed(plan, model.memories, model.versions)
    if request.whole:  # it was checked when `generate` began
        return plan
    if request.adapter_names is not None and tuple(request.adapter_names) == plan.named:
        return plan
    decision = decided_by_caller(request, batch, plan.memories)
    if decision is not None:
        asked_for = Plan(plan.memories, versions=plan.versions)
        asked_for.decide(decision)
        if not same_route(plan, asked_for):
            raise LoraryError("this cache was made by another route than the one given; start from an empty cache")
    elif plan.cut and request.routing_text is None:
        raise LoraryError(
            "the prompt was cut within a question, so its first piece alone would route it; give routing_text with each "
            "piece, or let `generate` have the whole prompt"
        )
    elif plan.texts is not None and input_ids is not None and input_ids.shape[1] > 1:
        _check_no_other_question(model, request, plan, input_ids)
    return plan


def note_first_pass(request: Request | None, plan: Plan, routes: list[Route]) -> None:
    """Lets one `generate` keep what its first pass decided: passes that follow, as guidance's, are routed alike."""
    if request is not None and request.whole and request.routes is None:
        request.routes, request.first = routes, plan
        if not plan.waits:
            request.plan = plan


def _check_no_other_question(model: LoraryForCausalLM, request: Request, plan: Plan, input_ids: Tensor) -> None:
    """Raises LoraryError where new tokens hold a user's turn that the router would route otherwise."""
    tokenizer = model.tokenizer
    if request.routing_text is None and not any(user_turns(tokenizer, str(tokenizer.decode(row))) for row in input_ids):
        return
    texts = routing_texts(tokenizer, input_ids, None, request.routing_text, len(input_ids))
    if not same_route(plan, _by_router(model, request, texts)):
        raise LoraryError(
            "the new tokens ask a question that another route answers than the one that made this cache; start from an "
            "empty cache, let `generate` have the whole chat, or name the route by adapter_names or route_weights"
        )


def route_of_pass(
    model: LoraryForCausalLM,
    plan: Plan,
    shape: Sequence[int],
    mask: Tensor | None,
    cache: Cache | None = None,
    kept: int | Tensor = 0,
) -> ActiveRoute:
    """What the mixture layers apply in one pass: the decision, or one that is made at the split.

    Args:
        cache: what the pass goes on from; None where it begins.
        kept: the tokens whose prediction is asked for, as transformers' `logits_to_keep`.
    """
    if plan.route is not None:
        return plan.route
    if plan.coming is not None:
        return ActiveRoute(decide=partial(_arrived, plan))
    counted = counted_tokens(shape, mask, cache is not None)
    if reads_in_streams(model, plan):
        return ActiveRoute(decide=partial(_in_streams, model, plan, counted, mask, cache, kept))
    return ActiveRoute(decide=partial(_decide, model, plan, counted), lasts=model.config.granularity == "query")


def _arrived(plan: Plan, _: Tensor) -> Float[Tensor, "batch 1 memories"]:
    """The weights of the decision that was worked out beside the layers below the split."""
    decision = plan.decision
    assert decision is not None
    return decision.weights.unsqueeze(1)


def reads_in_streams(model: LoraryForCausalLM, plan: Plan) -> bool:
    """Whether the memories of a plan read by themselves, each its stream, and their predictions are mixed."""
    return plan.waits and model.gate.reading is not None


def _decide(
    model: LoraryForCausalLM, plan: Plan, counted: Float[Tensor, "batch seq"], hidden: Float[Tensor, "batch seq hidden"]
) -> Float[Tensor, "batch seq_or_1 memories"]:
    """The weights that the gate gives from the mean of the hidden states at the split; the plan keeps what it has seen.

    Composites that decide at each token by such a mean are of an earlier version, and mix updates as they did.
    """
    features = plan.features
    assert features is not None
    device = features.votes.device
    means, sums = running_mean(hidden.to(device), counted.to(device), plan.sums)
    if model.config.granularity == "token":
        if plan.sums is not None:
            sums = torch.cat([plan.sums[0], sums[0]], 1), torch.cat([plan.sums[1], sums[1]], 1)
        plan.sums = sums
        plan.latest = model.router.decide(features.with_hidden(means), plan.policy)
        return plan.latest.weights
    decision = model.router.decide(features.with_hidden(means[:, -1]), plan.policy)
    plan.decide(decision)
    return decision.weights.unsqueeze(1)


def _in_streams(
    model: LoraryForCausalLM,
    plan: Plan,
    counted: Float[Tensor, "batch seq"],
    mask: Tensor | None,
    cache: Cache | None,
    kept: int | Tensor,
    hidden: Float[Tensor, "batch seq hidden"],
) -> Streams:
    """The streams of a pass by what the gate decides at each token; new ones read first what their rows have read."""
    features = plan.features
    assert features is not None
    device = features.votes.device
    states, plan.sums = window_state(hidden.to(device), counted.to(device), plan.sums)
    plan.latest = model.router.decide(features.with_hidden(states), plan.policy)
    weights = plan.latest.weights
    base = 1 - weights.sum(-1, keepdim=True)
    shares = torch.cat([weights, torch.where(base > EQUAL, base, 0.0)], -1)
    real = torch.ones(shares.shape[:2], dtype=torch.bool)
    if mask is not None and mask.ndim == 2:
        real = mask[:, -real.shape[1] :].bool().cpu()
    asked = slice(-kept, None) if isinstance(kept, int) else kept.cpu()
    shares, real = shares[:, asked], real[:, asked]
    new = missing(shares.detach().cpu(), real, plan.streams)
    if cache is not None and new:
        open_streams(model, cache, new, len(model.memories), mask)
    plan.streams = with_shares([*pairs_of(plan.streams), *new], model.config.split_layer, shares)
    return plan.streams


def decide_at_split(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """The hook before the layer at the split: a decision that waits for the hidden state is made here."""
    route = current_route()
    if route is not None:
        route.at_split(hidden_argument(args, kwargs))


decide_at_split.belongs_to_composite = True  # type: ignore[attr-defined]
