"""What memories cost: damage to text that no memory is about, and the time of each part of an answer."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from lorary.base.layers import decoder_layers
from lorary.base.prompts import prompt, prompt_batch
from lorary.base.rows import lower, skipped
from lorary.errors import LoraryError
from lorary.eval.conditions import CONDITIONS, Condition
from lorary.eval.deciders import Decider, Only
from lorary.eval.figures import Damage, Latency, Retention, Timing
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
    model: LoraryForCausalLM, hidden: Float[Tensor, "1 seq hidden"], **routing: Any
) -> Float[Tensor, "predicted vocabulary"]:
    """The log-probabilities of each next token, from the hidden state that enters the split."""
    with skipped(list(decoder_layers(model.base)[: model.config.split_layer])):
        logits = model(inputs_embeds=hidden, use_cache=False, **routing).logits[0, :-1]
    return functional.log_softmax(logits.float(), -1)


def _loss(predicted: Float[Tensor, "predicted vocabulary"], ids: Tensor) -> float:
    return float(functional.nll_loss(predicted, ids[0, 1:], reduction="sum"))


_Result = TypeVar("_Result")


@torch.no_grad()
def latency(model: LoraryForCausalLM, questions: Sequence[str], *, tokens: int = 8) -> Latency:
    """Median milliseconds of questions asked one by one, by the base alone and by the policy.

    `route` embeds the question and decides, `prefill` reads the prompt, `decode` makes one token. Where the gate reads
    the hidden state, it decides during the prefill, whose time then includes it.

    Args:
        questions: the first only warms up.
        tokens: that each answer is given, whatever it says.
    """
    if not questions:
        raise LoraryError("times need a question to ask; give one or more")
    taken = [(_once(model, text, False, tokens), _once(model, text, True, tokens)) for text in questions]
    measured = taken[1:] or taken
    base, policy = ([pair[column] for pair in measured] for column in (0, 1))
    return Latency(questions=len(measured), tokens=tokens, base=_median(base), policy=_median(policy))


def _median(seconds: Sequence[dict[str, float]]) -> Timing:
    """The median of each part, in milliseconds."""
    return Timing(**{part: round(1000 * median(each[part] for each in seconds), 2) for part in seconds[0]})


def _once(model: LoraryForCausalLM, text: str, routed: bool, tokens: int) -> dict[str, float]:
    """Seconds of each part of one answer."""
    ids = prompt_batch(model.tokenizer, [prompt(model.tokenizer, text)])
    routing: dict[str, Any] = {"adapter_names": ["__base__"]}
    route = embedded = 0.0
    if routed and model.config.granularity == "query" and "hidden" not in model.gate.features:
        decision, route = _timed(model, lambda: model.router.decide(model.router.features([text])))
        routing = {"route_weights": decision.weights}
    elif routed:
        _, route = _timed(model, lambda: model.router.features([text]))
        routing, embedded = {"routing_text": text}, route  # the forward pass embeds the question once more
    ids = ids.to(model.device).input_ids
    output, prefill = _timed(model, lambda: model(ids, use_cache=True, **routing))

    def answer() -> None:
        step = output
        for _ in range(tokens):
            step = model(step.logits[:, -1:].argmax(-1), past_key_values=step.past_key_values, use_cache=True)

    _, decode = _timed(model, answer)
    return {"route": route, "prefill": max(prefill - embedded, 0.0), "decode": decode / tokens}


def _timed(model: LoraryForCausalLM, work: Callable[[], _Result]) -> tuple[_Result, float]:
    """(what `work` returns, seconds until the device had done it)."""
    began = time.perf_counter()
    result = work()
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    return result, time.perf_counter() - began
