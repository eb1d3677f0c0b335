"""Asking a composite: a question in; its answer, the route and the passages behind it out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Int
from torch import Tensor

from lorary.modeling import LoraryForCausalLM
from lorary.passages import Asked, check_fits, with_passages
from lorary.prompts import Chat
from lorary.routing import Policy, Route


@dataclass(frozen=True)
class Answer:
    """What was said, and how it came about.

    Args:
        route: who answered; its `outcome` is one of `routing.OUTCOMES`.
        asked: the chat as the model read it, and the passages in it.
        policy: that decided.
        ids: the tokens of prompt and answer.
        prompt: how many of them are the prompt's.
    """

    text: str
    route: Route
    asked: Asked
    policy: Policy
    ids: Int[Tensor, " seq"]
    prompt: int


@contextmanager
def under(model: LoraryForCausalLM, policy: Policy | None) -> Iterator[None]:
    """Lets the model route by another policy for a while."""
    before, model.router.policy = model.router.policy, policy or model.router.policy
    try:
        yield
    finally:
        model.router.policy = before


def answer(
    model: LoraryForCausalLM, asked: str | Chat, *, policy: Policy | None = None, max_new_tokens: int = 32, **given: Any
) -> Answer:
    """The answer to a question under a policy, which decides on memories and on passages in the prompt.

    Args:
        asked: a question, or turns of a chat that end with the user's.
        policy: the composite's own by default.
        given: what else `generate` takes; it decodes greedily by default.

    Raises:
        PassageError: the policy promises passages, and there are none, or the base has no room for them.
    """
    policy, tokenizer = policy or model.router.policy, model.tokenizer
    put = with_passages(model, asked, policy.passages)
    text = put.text(tokenizer)
    if put.passages:
        check_fits(model, [text], max_new_tokens)
    inputs = tokenizer(text, return_tensors="pt", add_special_tokens=False).to(model.device)
    settings = {"do_sample": False, "routing_text": put.routing_text, **given}
    with under(model, policy):
        ids = model.generate(
            input_ids=inputs.input_ids, attention_mask=inputs.attention_mask, max_new_tokens=max_new_tokens, **settings
        )[0]
    prompt = inputs.input_ids.shape[1]
    said = str(tokenizer.decode(ids[prompt:], skip_special_tokens=True)).strip()
    return Answer(said, replace(model.last_routes[0], passages=len(put.passages)), put, policy, ids, prompt)
