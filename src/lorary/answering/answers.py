"""Asking a composite: a question in; its answer, the route and the passages behind it out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import LogitsProcessorList

from lorary.answering.likelihood import Likelihood, decoding
from lorary.answering.parts import parts_of
from lorary.answering.passages import Asked, check_fits, with_passages
from lorary.base.prompts import Chat, chat_of, last_user, prompt_batch
from lorary.model.modeling import LoraryForCausalLM
from lorary.routing.policy import Policy, Route


@dataclass(frozen=True)
class Answer:
    """What was said, and how it came about.

    Args:
        route: who answered; its `outcome` is one of `routing.OUTCOMES`.
        asked: the chat as the model read it, and the passages in it.
        policy: that decided.
        ids: the tokens of prompt and answer.
        prompt: how many of them are the prompt's.
        probability: how likely the answer was, a token on average (`likelihood.Likelihood`), 0 to 1. What a memory was not
            taught it makes up, and is less sure of; None under beam search and assisted decoding.
    """

    text: str
    route: Route
    asked: Asked
    policy: Policy
    ids: Int[Tensor, " seq"]
    prompt: int
    probability: float | None = None


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
    return answers(model, [asked], policy=policy, max_new_tokens=max_new_tokens, **given)[0]


def answer_parts(
    model: LoraryForCausalLM, asked: str | Chat, *, policy: Policy | None = None, max_new_tokens: int = 32, **given: Any
) -> list[Answer]:
    """An answer for each part of a question (`parts.parts_of`), each under a route and with passages of its own.

    A memory was trained to answer one question and to end its turn, so two memories mixed tell one fact at most. Where
    a question has no two parts, its only answer is what `answer` gives. `parts.joined` makes one text of them.

    Args:
        asked: a question, or turns of a chat; the last one is parted, and each part follows the turns before it.

    Raises:
        PassageError: as `answer`.
    """
    chat = chat_of(asked)
    place = last_user(chat)
    before, turn, behind = chat[:place], chat[place], chat[place + 1 :]
    chats = [[*before, turn | {"content": part}, *behind] for part in parts_of(turn["content"])]
    return answers(model, chats, policy=policy, max_new_tokens=max_new_tokens, **given)


def answers(
    model: LoraryForCausalLM,
    asked: Sequence[str | Chat],
    *,
    policy: Policy | None = None,
    max_new_tokens: int = 32,
    **given: Any,
) -> list[Answer]:
    """The answers to several questions, generated in one batch. As `answer` otherwise."""
    policy, tokenizer = policy or model.router.policy, model.tokenizer
    puts = [with_passages(model, one, policy.passages) for one in asked]
    texts = [put.text(tokenizer) for put in puts]
    if policy.passages:
        check_fits(model, texts, max_new_tokens)
    inputs = prompt_batch(tokenizer, texts).to(model.device)
    settings = {"do_sample": False, "routing_text": [put.routing_text for put in puts], **given}
    decoded = decoding(model, settings)
    ends, watching = decoded.eos_token_id, Likelihood.of(decoded, settings.get("assistant_model"))
    if watching is not None:
        settings["logits_processor"] = LogitsProcessorList([*(given.get("logits_processor") or ()), watching])
    with under(model, policy):
        output = model.generate(
            input_ids=inputs.input_ids, attention_mask=inputs.attention_mask, max_new_tokens=max_new_tokens, **settings
        )
    width, each = inputs.input_ids.shape[1], len(output) // len(puts)
    rows = output[::each]  # of several sequences a question, the first
    sure = watching.probabilities(output)[::each] if watching is not None else [None] * len(puts)
    found = []
    for put, ids, mask, route, one in zip(puts, rows, inputs.attention_mask, model.last_routes, sure, strict=True):
        told = _ended(ids[width:], ends)
        said = str(tokenizer.decode(told, skip_special_tokens=True)).strip()
        start = ids[:width][mask.bool()]
        route = replace(route, passages=len(put.passages))
        found.append(Answer(said, route, put, policy, torch.cat([start, told]), len(start), one))
    return found


def _ended(told: Int[Tensor, " seq"], ends: int | Sequence[int] | None) -> Int[Tensor, " kept"]:
    """The tokens up to the first that ends a turn: what follows it fills the row of a batch."""
    last = torch.isin(told, torch.tensor(ends if ends is not None else [], device=told.device)).nonzero()
    return told[: int(last[0]) + 1] if len(last) else told
