"""Asking a composite: a question in; its answer, the route and the passages behind it out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import LogitsProcessorList, PreTrainedTokenizerBase

from lorary.answering.judging import Draft, Judgement, judge
from lorary.answering.likelihood import Likelihood, decoding
from lorary.answering.lookup import Stored
from lorary.answering.passages import FoundPassage, Prompt, check_fits, with_passages
from lorary.answering.sources import known
from lorary.base.prompts import Chat, answer_ids, chat_of, last_user, prompt_batch
from lorary.base.questions import parts_of
from lorary.model.modeling import LoraryForCausalLM
from lorary.model.requests import remember_routes
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
    """The answers to several questions, generated in one batch. As `answer` otherwise.

    Where the composite's sources are calibrated and the policy routes, the likeliest one to be right answers: the memory,
    the stored answer of the nearest fact, or the base.
    """
    policy = policy or model.router.policy
    prompts = [with_passages(model, question, policy.passages) for question in questions]
    drafts = by_route(model, prompts, policy, max_new_tokens, settings)
    if not _judged(model, policy, settings):
        return drafts
    judgements = judge(model, [draft_of(model, draft) for draft in drafts], policy)
    left = [row for row, one in enumerate(judgements) if one.source == "base" and drafts[row].route.memories]
    with model.routed(adapter_names=["__base__"]):
        again = by_route(model, [prompts[row] for row in left], policy, max_new_tokens, settings) if left else []
    base = dict(zip(left, again, strict=True))
    given = [
        _given(model, draft, judgement, base.get(row))
        for row, (draft, judgement) in enumerate(zip(drafts, judgements, strict=True))
    ]
    remember_routes(model, [answer.route for answer in given])
    return given


def _judged(model: LoraryForCausalLM, policy: Policy, settings: Mapping[str, Any]) -> bool:
    """Whether sources are weighed: the composite is calibrated for it, and its policy decides, not the caller."""
    return bool(model.config.sources) and bool(policy.sources) and not _by_caller(model, settings)


def _by_caller(model: LoraryForCausalLM, settings: Mapping[str, Any]) -> bool:
    """Whether the caller names or weighs the memories: in the call, in a block around it, or for all calls."""
    return model.request().by_caller or bool({"adapter_names", "route_weights"} & settings.keys())


def draft_of(model: LoraryForCausalLM, answer: Answer) -> Draft:
    """An answer as it is judged: its question, its prompt, its route and what was said."""
    text = answer.prompt.text(model.tokenizer)
    return Draft(answer.prompt.routing_text, text, answer.route, answer.text, answer.probability)


def _given(model: LoraryForCausalLM, draft: Answer, judgement: Judgement, base: Answer | None) -> Answer:
    """The answer of the source that was judged likeliest to be right.

    Args:
        base: the base's answer, where a memory was asked first.
    """
    evidence, right = judgement.evidence, judgement.right
    judged: dict[str, Any] = {
        "likely": judgement.probabilities,
        "stored": evidence.lookup and evidence.lookup.stored,
        "passes": evidence.passes,
    }
    if judgement.source == "lookup":
        assert evidence.lookup is not None
        stored = evidence.lookup.stored
        route = Route((stored.memory,), (0.0,), "lookup", stored.similarity, right=right)
        told = answer_ids(model.tokenizer, draft.prompt.text(model.tokenizer), stored.fact.answer)
        ids = torch.cat([draft.ids[: draft.prompt_tokens], torch.tensor(told, device=draft.ids.device)])
        likelihood = evidence.reply.lookup if evidence.reply else None
        return replace(draft, text=stored.fact.answer, route=route, ids=ids, probability=likelihood, **judged)
    if base is None:
        return replace(draft, route=replace(draft.route, right=right), **judged)
    route = replace(base.route, right=right, confidence=right)
    return replace(base, route=route, generated=draft.generated + base.generated, **judged)


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
    routing = {} if _by_caller(model, settings) else {"routing_text": [prompt.routing_text for prompt in prompts]}
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
