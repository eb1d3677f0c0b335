"""What a route answers: the memories or the base generate, and every answer tells how it came about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import LogitsProcessorList, PreTrainedTokenizerBase

from lorary.answering.judging import Draft
from lorary.answering.likelihood import Likelihood, decoding
from lorary.answering.lookup import Stored
from lorary.answering.passages import FoundPassage, Prompt, check_fits
from lorary.answering.sources import known
from lorary.base.prompts import prompt_batch
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
        probability: how likely the answer was to the model, a token on average (`likelihood.Likelihood`), 0 to 1. What a
            memory was not taught it makes up, and is less sure of; None under beam search and assisted decoding, and for a
            stored answer that no memory was asked about.
        likely: source → how likely its answer is to be right (`sources.probabilities`); empty where nothing was judged.
        stored: the nearest stored fact, which was looked up; None where nothing was judged, or no memory has facts.
        generated: tokens that were generated for it; what another source's answer replaced counts too.
        passes: forward passes beside them, for likelihoods.
    """

    text: str
    route: Route
    prompt: Prompt
    policy: Policy
    ids: Int[Tensor, " seq"]
    prompt_tokens: int
    probability: float | None = None
    likely: Mapping[str, float] = field(default_factory=dict)
    stored: Stored | None = None
    generated: int = 0
    passes: int = 0

    @property
    def right(self) -> float | None:
        """The calibrated probability that it is right; of the base's, that nothing stored answers the question. None where
        nothing was judged."""
        return self.route.right

    @property
    def known(self) -> float | None:
        """How likely the likelier of memory and lookup is to be right: what tells known questions from others. None where
        nothing was judged."""
        return known(self.likely) if self.likely else None

    @property
    def passages(self) -> tuple[FoundPassage, ...]:
        """The passages that stood before the question, nearest first."""
        return self.prompt.passages

    @property
    def asked_as(self) -> str | None:
        """The trained wording that the memory was asked in, in place of the question; None where it was asked as it stands."""
        return self.prompt.asked_as

    @property
    def asked(self) -> Prompt:
        """The prompt, by its earlier name."""
        return self.prompt


def by_route(
    model: LoraryForCausalLM,
    prompts: Sequence[Prompt],
    policy: Policy,
    max_new_tokens: int,
    settings: Mapping[str, Any],
) -> list[Answer]:
    """What the policy's route answers to each prompt, in one batch, whatever other sources there are.

    Args:
        settings: what else `generate` takes.
    """
    tokenizer = model.tokenizer
    texts = [prompt.text(tokenizer) for prompt in prompts]
    if policy.passages:
        check_fits(model, texts, max_new_tokens)
    inputs = prompt_batch(tokenizer, texts).to(model.device)
    processors = settings.get("logits_processor") or ()
    # A text to route by would come before names and weights that a block around gives.
    routing = {} if by_caller(model, settings) else {"routing_text": [prompt.routing_text for prompt in prompts]}
    settings = {"do_sample": False, **routing, **settings}
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
    ids = torch.cat([start, new])
    return Answer(text, route, prompt, policy, ids, len(start), probability, generated=len(new))


def _ended(ids: Int[Tensor, " seq"], ends: int | Sequence[int] | None) -> Int[Tensor, " kept"]:
    """The tokens up to the first that ends a turn: what follows it fills the row of a batch."""
    last = torch.isin(ids, torch.tensor(ends if ends is not None else [], device=ids.device)).nonzero()
    return ids[: int(last[0]) + 1] if len(last) else ids


def by_caller(model: LoraryForCausalLM, settings: Mapping[str, Any]) -> bool:
    """Whether the caller names or weighs the memories: in the call, in a block around it, or for all calls."""
    return model.request().by_caller or bool({"adapter_names", "route_weights"} & settings.keys())


def draft_of(model: LoraryForCausalLM, answer: Answer) -> Draft:
    """An answer as it is judged: its question, its prompt, its route and what was said."""
    text = answer.prompt.text(model.tokenizer)
    return Draft(answer.prompt.routing_text, text, answer.route, answer.text, answer.probability)
