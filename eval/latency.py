"""Where the time of one answer goes: the route, the prompt, the answer's tokens."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, TypeVar

import torch

from lorary.base.prompts import prompt, prompt_batch
from lorary.errors import LoraryError
from lorary.eval.figures import Latency, Timing
from lorary.model.modeling import LoraryForCausalLM

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
    given: dict[str, Any] = {"adapter_names": ["__base__"]}
    route = embedded = 0.0
    if routed and model.config.granularity == "query" and "hidden" not in model.gate.features:
        decision, route = _timed(model, lambda: model.router.decide(model.router.features([text])))
        given = {"route_weights": decision.weights}
    elif routed:
        _, route = _timed(model, lambda: model.router.features([text]))
        given, embedded = {"routing_text": text}, route  # the forward pass embeds the question once more
    ids = ids.to(model.device).input_ids
    output, prefill = _timed(model, lambda: model(ids, use_cache=True, **given))

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
