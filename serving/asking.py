"""Asking: beside what was written, what `model.ask` gives: the memory's answer, a stored one or the base's, and how likely that
is to be right."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lorary.answering.exchange import asked_as, nearest_trained
from lorary.answering.judging import Draft, Judgement, judge
from lorary.base.prompts import prompt_ids
from lorary.errors import LoraryError
from lorary.model.modeling import LoraryForCausalLM
from lorary.serving.engine import Engine
from lorary.serving.errors import RequestError
from lorary.serving.job import Event, Job, Piece
from lorary.serving.routing import BASE


def check_asks(model: LoraryForCausalLM) -> None:
    """Raises LoraryError for a composite whose sources nothing weighs."""
    if not (model.config.sources and model.router.policy.sources):
        raise LoraryError(
            "--answers ask weighs the memory's answer, the stored one and the base's, and nothing of this composite was fitted "
            "for it; train its router (`lorary train-router BANK --out COMPOSITE`), or leave --answers out"
        )


async def ask_field(
    engine: Engine, jobs: Sequence[Job], texts: Sequence[str], probability: float | None
) -> dict[str, Any]:
    """The field `ask` of a reply with what `model.ask` gives; none where it is not wanted, or where the caller decides: a named
    memory, a completion, or several choices.

    Args:
        texts: what was written, in pieces.
        probability: how likely that was, a token on average.
    """
    job = jobs[0]
    if not engine.asks or len(jobs) > 1 or job.choices > 1 or job.memory is not None or job.prompt is None:
        return {}
    assert job.route is not None, "it was written"
    said = "".join(texts).strip()
    prompt = job.prompt.text(engine.model.tokenizer)
    draft = Draft(job.routing_text, prompt, replace(job.route, passages=len(job.passages)), said, probability)
    try:
        judgement, other = await asyncio.wrap_future(engine.change(lambda: _judged(engine.model, job, draft)))
        if other is not None:
            said = await _written(engine, other)
    except LoraryError:  # a memory has left meanwhile, or the server ends: what was written stands for itself
        return {}
    fit = judgement.evidence.lookup
    if judgement.source == "lookup" and other is None and fit is not None:
        said = fit.stored.fact.answer
    told: dict[str, Any] = {"text": said, "source": judgement.source, "right": judgement.right}
    if fit is not None:
        told["stored"] = {
            "question": fit.stored.fact.question,
            "answer": fit.stored.fact.answer,
            "memory": fit.stored.memory,
        }
    return {"ask": told | {"likely": dict(judgement.probabilities)}}


def _judged(model: LoraryForCausalLM, job: Job, draft: Draft) -> tuple[Judgement, Job | None]:
    """(which source answers, the job that writes its answer where that is neither written nor stored)."""
    policy, tokenizer = model.router.policy, model.tokenizer
    judgement = judge(model, [draft], policy)[0]
    fit = judgement.evidence.lookup
    if judgement.source == "base" and draft.route.memories:
        return judgement, _like(job, job.ids, BASE)
    if judgement.source != "lookup" or policy.lookup or fit is None:
        return judgement, None
    assert job.prompt is not None
    found = nearest_trained(model.router, [draft.question], [fit.stored.memory])[0]
    prompt = asked_as(job.prompt, found[0] if found else fit.stored.fact.question)
    return judgement, _like(job, prompt_ids(tokenizer, [prompt.text(tokenizer)])[0], fit.stored.memory)


def _like(job: Job, ids: list[int], memory: str) -> Job:
    """A job that is written as another is, from other tokens and by a memory that is named."""
    return Job(
        ids=ids,
        routing_text=job.routing_text,
        memory=memory,
        sampling=job.sampling,
        stops=job.stops,
        longest=job.longest,
        tell=lambda event: None,
        deadline=job.deadline,
    )


async def _written(engine: Engine, job: Job) -> str:
    """What the engine writes for a job. Raises RequestError as it is told."""
    loop, events = asyncio.get_running_loop(), asyncio.Queue[Event]()
    job.tell = lambda event: loop.call_soon_threadsafe(events.put_nowait, event) and None
    engine.submit(job)
    texts = []
    try:
        while True:
            event = await events.get()
            if isinstance(event, RequestError):
                raise event
            if isinstance(event, Piece):
                texts.append(event.text)
                if event.finished:
                    return "".join(texts).strip()
    finally:
        engine.cancel(job)
