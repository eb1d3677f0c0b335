"""Damage: what routes do to text that no memory is about."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from lorary.base.layers import decoder_layers
from lorary.base.prompts import prompt_batch
from lorary.base.rows import lower, skipped
from lorary.errors import LoraryError
from lorary.eval.conditions import CONDITIONS, Condition
from lorary.eval.deciders import Decider, Only
from lorary.eval.figures import Damage, Retention
from lorary.eval.questions import Question
from lorary.eval.routing_scores import RoutingScores
from lorary.model.modeling import LoraryForCausalLM
from lorary.routing.policy import Route

_ALWAYS = {name: CONDITIONS[name] for name in ("policy", "uniform")}
"""Conditions whose damage is always measured."""


def retention(
    model: LoraryForCausalLM,
    paragraphs: Sequence[str],
    conditions: Mapping[str, Condition] = _ALWAYS,
    seed: int = 0,
    *,
    gated: bool = True,
) -> Retention:
    """The damage to `paragraphs` by condition, those that are always measured included.

    A condition routes each paragraph by its text. `forced` puts each under one memory, in turn, which is wrong for it.
    What has passages, or is told the right memory, is left out: here there is none. So is what parts a question.

    Args:
        seed: of the wrong memories.
        gated: whether a gate was trained; without one there is no policy to measure.
    """
    ways = {**(_ALWAYS if gated else {}), **conditions}
    return damage(model, paragraphs, {name: way for name, way in ways.items() if way.for_text}, seed)


@torch.no_grad()
def damage(
    model: LoraryForCausalLM, paragraphs: Sequence[str], conditions: Mapping[str, Condition], seed: int
) -> Retention:
    """The damage under the conditions given and under `forced` alone, with the base's own perplexity."""
    loss: dict[str, float] = {"base": 0.0}
    kl: dict[str, float] = {"base": 0.0}
    tokens, scores = 0, RoutingScores(model)
    for number, paragraph in enumerate(paragraphs):
        ids = prompt_batch(model.tokenizer, [paragraph]).input_ids.to(model.device)
        hidden = lower(model.base, model.config.split_layer, ids)  # whatever the route: run once for all conditions
        base = _predicted(model, hidden, adapter_names=["__base__"])
        tokens += ids.shape[1] - 1
        loss["base"] += _loss(base, ids)
        forced = Only(model.memories[number % len(model.memories)])
        deciders: dict[str, Decider] = {"forced": forced, **{name: c.decider for name, c in conditions.items()}}
        for name, decider in deciders.items():
            (route,) = decider.routes([Question(paragraph, None, "", "")], scores, seed)
            with model.routed(policy=decider.policy(model.router.policy)):
                routed = _predicted(model, hidden, **_routed(model, route, paragraph))
            loss[name] = loss.get(name, 0.0) + _loss(routed, ids)
            kl[name] = kl.get(name, 0.0) + float(functional.kl_div(routed, base, reduction="sum", log_target=True))
    if not tokens:
        raise LoraryError("the text to measure the damage on has no paragraph of two tokens; give paragraphs of prose")
    by_condition = {name: _damage(loss[name] / tokens, kl[name] / tokens) for name in loss}
    return Retention(damage=by_condition, tokens=tokens)


def _damage(loss: float, kl: float) -> Damage:
    finite = math.isfinite(kl) and loss < math.log(sys.float_info.max)
    return Damage(perplexity=math.exp(loss), kl=kl) if finite else Damage(perplexity=None, kl=None)


def _routed(model: LoraryForCausalLM, route: Route | None, paragraph: str) -> dict[str, Any]:
    """What the model is given for a route; None lets it decide by the text, token by token."""
    if route is None:
        return {"routing_text": paragraph}
    weights = dict(zip(route.memories, route.weights, strict=True))
    return {"route_weights": torch.tensor([[weights.get(name, 0.0) for name in model.memories]])}


def _predicted(
    model: LoraryForCausalLM, hidden: Float[Tensor, "1 seq hidden"], **given: Any
) -> Float[Tensor, "predicted vocabulary"]:
    """The log-probabilities of each next token, from the hidden state that enters the split."""
    with skipped(list(decoder_layers(model.base)[: model.config.split_layer])):
        logits = model(inputs_embeds=hidden, use_cache=False, **given).logits[0, :-1]
    return functional.log_softmax(logits.float(), -1)


def _loss(predicted: Float[Tensor, "predicted vocabulary"], ids: Tensor) -> float:
    return float(functional.nll_loss(predicted, ids[0, 1:], reduction="sum"))
