"""Asking a composite: a question in; its answer, the route and the passages behind it out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from lorary.answering.exchange import asked_as, exchanged, nearest_trained
from lorary.answering.judging import Judgement, judge
from lorary.answering.passages import with_passages
from lorary.answering.routed import Answer, by_caller, by_route, draft_of
from lorary.base.prompts import Chat, answer_ids, chat_of, last_user
from lorary.base.questions import parts_of
from lorary.model.modeling import LoraryForCausalLM
from lorary.model.requests import remember_routes
from lorary.routing.policy import Policy, Route


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
    if not _judged(model, policy, settings):
        prompts = prompts if by_caller(model, settings) else exchanged(model, prompts, policy)
        return by_route(model, prompts, policy, max_new_tokens, settings)
    drafts = by_route(model, prompts, policy, max_new_tokens, settings)
    rows = [row for row, draft in enumerate(drafts) if not _as_it_is(model, draft.route)]
    own = judge(model, [draft_of(model, drafts[row]) for row in rows], policy) if rows else []
    judgements = dict(zip(rows, own, strict=True))
    left = [row for row, one in judgements.items() if one.source == "base" and drafts[row].route.memories]
    with model.routed(adapter_names=["__base__"]):
        again = by_route(model, [prompts[row] for row in left], policy, max_new_tokens, settings) if left else []
    other = dict(zip(left, again, strict=True))
    if not policy.lookup:
        other |= _in_stored_words(model, drafts, judgements, policy, max_new_tokens, settings)
    given = [
        _given(model, draft, judgements[row], other.get(row)) if row in judgements else draft
        for row, draft in enumerate(drafts)
    ]
    remember_routes(model, [answer.route for answer in given])
    return given


def _judged(model: LoraryForCausalLM, policy: Policy, settings: Mapping[str, Any]) -> bool:
    """Whether sources are weighed: the composite is calibrated for it, its policy decides, not the caller, and nothing was
    streamed, which could not be taken back."""
    free = not by_caller(model, settings) and settings.get("streamer") is None
    return bool(model.config.sources) and bool(policy.sources) and free


def _as_it_is(model: LoraryForCausalLM, route: Route) -> bool:
    """Whether an answer is given as its memories told it: they hold no fact to judge it by, being routed by examples alone, or
    several told it in turn, and one stored fact could not stand for it."""
    memories = [model.router.bank[name] for name in route.memories]
    in_turn = model.gate.reading is not None and len(memories) > 1
    return in_turn or (bool(memories) and all(memory.examples and not memory.facts for memory in memories))


def _in_stored_words(
    model: LoraryForCausalLM,
    drafts: Sequence[Answer],
    judgements: Mapping[int, Judgement],
    policy: Policy,
    max_new_tokens: int,
    settings: Mapping[str, Any],
) -> dict[int, Answer]:
    """What memories answer in place of a stored answer: row → the answer of the stored fact's memory, asked in the nearest
    wording of it."""
    rows = [row for row, one in judgements.items() if one.source == "lookup"]
    stored = [fit.stored for row in rows if (fit := judgements[row].evidence.lookup) is not None]
    if not rows:
        return {}
    texts, memories = [drafts[row].prompt.routing_text for row in rows], [fact.memory for fact in stored]
    near = nearest_trained(model.router, texts, memories)
    prompts = [
        asked_as(drafts[row].prompt, found[0] if found else fact.fact.question)
        for row, fact, found in zip(rows, stored, near, strict=True)
    ]
    with model.routed(adapter_names=memories):
        said = by_route(model, prompts, policy, max_new_tokens, settings)
    sure = [fact.similarity for fact in stored]
    return {
        row: replace(one, route=replace(one.route, source="index", confidence=similarity))
        for row, one, similarity in zip(rows, said, sure, strict=True)
    }


def _given(model: LoraryForCausalLM, draft: Answer, judgement: Judgement, other: Answer | None) -> Answer:
    """The answer of the source that was judged likeliest to be right.

    Args:
        other: the base's answer, where a memory was asked first; or the memory's in stored words, in place of a lookup.
    """
    evidence, right = judgement.evidence, judgement.right
    judged: dict[str, Any] = {
        "likely": judgement.probabilities,
        "stored": evidence.lookup and evidence.lookup.stored,
        "passes": evidence.passes,
    }
    if judgement.source == "lookup" and other is None:
        assert evidence.lookup is not None
        stored = evidence.lookup.stored
        route = Route((stored.memory,), (0.0,), "lookup", stored.similarity, right=right)
        told = answer_ids(model.tokenizer, draft.prompt.text(model.tokenizer), stored.fact.answer)
        ids = torch.cat([draft.ids[: draft.prompt_tokens], torch.tensor(told, device=draft.ids.device)])
        likelihood = evidence.reply.lookup if evidence.reply else None
        return replace(draft, text=stored.fact.answer, route=route, ids=ids, probability=likelihood, **judged)
    if other is None:
        return replace(draft, route=replace(draft.route, right=right), **judged)
    confidence = right if judgement.source == "base" else other.route.confidence
    route = replace(other.route, right=right, confidence=confidence)
    return replace(other, route=route, generated=draft.generated + other.generated, **judged)
