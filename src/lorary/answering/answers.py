"""Asking a composite: a question in; its answer, the route and the passages behind it out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import LogitsProcessorList, PreTrainedTokenizerBase

from lorary.answering.likelihood import Likelihood, decoding
from lorary.answering.passages import FoundPassage, Prompt, check_fits, with_passages
from lorary.base.prompts import Chat, chat_of, last_user, prompt_batch
from lorary.base.questions import parts_of
from lorary.model.modeling import LoraryForCausalLM
from lorary.routing.policy import Policy, Route


@dataclass(frozen=True)
class Answer:
    """What was said, and how it came about.

    Args:
        route: who answered; its `outcome` is one of `routing.OUTCOMES`.
        prompt: the chat as the model read it, and the passages in it.
        policy: that decided.
        ids: the tokens of prompt and answer.
        prompt_tokens: how many of them are the prompt's.
        probability: how likely the answer was, a token on average (`likelihood.Likelihood`), 0 to 1. What a memory was not
            taught it makes up, and is less sure of; None under beam search and assisted decoding.
    """

    text: str
    route: Route
    prompt: Prompt
    policy: Policy
    ids: Int[Tensor, " seq"]
    prompt_tokens: int
    probability: float | None = None

    @property
    def passages(self) -> tuple[FoundPassage, ...]:
        """The passages that stood before the question, nearest first."""
        return self.prompt.passages

    @property
    def asked(self) -> Prompt:
        """The prompt, by its earlier name."""
        return self.prompt


def answer(
    model: LoraryForCausalLM,
    question: str | Chat,
    *,
    policy: Policy | None = None,
    max_new_tokens: int = 32,
    **settings: Any,
) -> Answer:
    """The answer to a question under a policy, which decides on memories and on passages in the prompt.

    Args:
        question: one, or turns of a chat that end with the user's, or with what a tool told for it.
        policy: the composite's own by default.
        settings: what else `generate` takes; it decodes greedily by default.

    Raises:
        PassageError: the policy promises passages, and there are none, or the base has no room for them.
        PromptError: a chat that cannot be put to the base.
    """
    return answers(model, [question], policy=policy, max_new_tokens=max_new_tokens, **settings)[0]


def answer_parts(
    model: LoraryForCausalLM,
    question: str | Chat,
    *,
    policy: Policy | None = None,
    max_new_tokens: int = 32,
    **settings: Any,
) -> list[Answer]:
    """An answer for each part of a question (`questions.parts_of`), each under a route and with passages of its own.

    A memory was trained to answer one question and to end its turn, so two memories mixed tell one fact at most. Where
    a question has no two parts, its only answer is what `answer` gives. `joined` makes one text of them.

    Args:
        question: one, or turns of a chat; the user's last one is parted, and each part stands in its place.

    Raises:
        PassageError: as `answer`.
    """
    chat = chat_of(question)
    place = last_user(chat)
    before, turn, behind = chat[:place], chat[place], chat[place + 1 :]
    chats = [[*before, turn | {"content": part}, *behind] for part in parts_of(turn["content"])]
    return answers(model, chats, policy=policy, max_new_tokens=max_new_tokens, **settings)


def joined(answers: Iterable[str]) -> str:
    """The answers of a question's parts as one text, each answer once."""
    return "; ".join(dict.fromkeys(answer for answer in answers if answer))


def answers(
    model: LoraryForCausalLM,
    questions: Sequence[str | Chat],
    *,
    policy: Policy | None = None,
    max_new_tokens: int = 32,
    **settings: Any,
) -> list[Answer]:
    """The answers to several questions, generated in one batch. As `answer` otherwise."""
    policy, tokenizer = policy or model.router.policy, model.tokenizer
    prompts = [with_passages(model, question, policy.passages) for question in questions]
    texts = [prompt.text(tokenizer) for prompt in prompts]
    if policy.passages:
        check_fits(model, texts, max_new_tokens)
    inputs = prompt_batch(tokenizer, texts).to(model.device)
    processors = settings.get("logits_processor") or ()
    settings = {"do_sample": False, "routing_text": [prompt.routing_text for prompt in prompts], **settings}
    decoded = decoding(model, settings)
    ends, watching = decoded.eos_token_id, Likelihood.of(decoded, settings.get("assistant_model"))
    if watching is not None:
        settings["logits_processor"] = LogitsProcessorList([*processors, watching])
    with model.routed(policy=policy):
        output = model.generate(
            input_ids=inputs.input_ids, attention_mask=inputs.attention_mask, max_new_tokens=max_new_tokens, **settings
        )
    width, sequences = inputs.input_ids.shape[1], len(output) // len(prompts)
    rows = output[::sequences]  # of several sequences a question, the first
    watched = watching.probabilities(output)[::sequences] if watching is not None else [None] * len(prompts)
    by_row = zip(prompts, rows, inputs.attention_mask, model.last_routes, watched, strict=True)
    return [
        _answer(tokenizer, prompt, ids[:width][mask.bool()], _ended(ids[width:], ends), route, policy, probability)
        for prompt, ids, mask, route, probability in by_row
    ]


def _answer(
    tokenizer: PreTrainedTokenizerBase,
    prompt: Prompt,
    start: Int[Tensor, " prompt"],
    new: Int[Tensor, " new"],
    route: Route,
    policy: Policy,
    probability: float | None,
) -> Answer:
    text = str(tokenizer.decode(new, skip_special_tokens=True)).strip()
    route = replace(route, passages=len(prompt.passages))
    return Answer(text, route, prompt, policy, torch.cat([start, new]), len(start), probability)


def _ended(ids: Int[Tensor, " seq"], ends: int | Sequence[int] | None) -> Int[Tensor, " kept"]:
    """The tokens up to the first that ends a turn: what follows it fills the row of a batch."""
    last = torch.isin(ids, torch.tensor(ends if ends is not None else [], device=ids.device)).nonzero()
    return ids[: int(last[0]) + 1] if len(last) else ids
