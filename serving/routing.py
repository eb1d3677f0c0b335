"""Routing jobs: the prompt, the route and the factors of each, from the bank as it stands when it is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from lorary.answering.passages import with_passages
from lorary.bank.files import BankError
from lorary.base.prompts import prompt_batch, prompt_ids
from lorary.errors import LoraryError
from lorary.model.modeling import LoraryForCausalLM
from lorary.routing.policy import Decision, by_caller, named_weights
from lorary.serving.errors import RequestError
from lorary.serving.following import TRIES
from lorary.serving.job import Job, Routed
from lorary.serving.limits import Limits

BASE = "__base__"


def check_servable(model: LoraryForCausalLM) -> None:
    """Raises LoraryError for a composite that routes each token: rows of a batch have one route each."""
    if model.config.granularity == "token":
        raise LoraryError(
            "this composite decides at each token (granularity='token'), and a server gives each answer one route; train its "
            "router with --granularity query, or ask it in Python"
        )


@torch.no_grad()
def warm(model: LoraryForCausalLM) -> None:
    """Loads what the first question would wait for: the encoder and what the router has made of the bank."""
    if model.memories:
        model.router.decide(model.router.features(["Who asks first?"]))


def route_following(
    model: LoraryForCausalLM, jobs: Sequence[Job], limits: Limits, take_up: Callable[[], bool]
) -> dict[Job, Routed | RequestError]:
    """What `route` gives once the bank is what its folder has now.

    A memory is read when it is first used, so what another process wrote meanwhile may have put it away: who was to be answered
    by it is routed again.

    Args:
        take_up: takes up what another process has changed, and tells whether there was anything.
    """
    take_up()
    told = route(model, jobs, limits)
    for _ in range(TRIES):
        lost = [job for job, event in told.items() if isinstance(event, RequestError) and event.status == 500]
        if not lost or not take_up():
            break
        told |= route(model, lost, limits)
    return told


@torch.no_grad()
def route(model: LoraryForCausalLM, jobs: Sequence[Job], limits: Limits) -> dict[Job, Routed | RequestError]:
    """Readies jobs to be written: prompt, route, factors; what each is told.

    What is wrong with one job touches no other.
    """
    told: dict[Job, Routed | RequestError] = {}
    ready = []
    for job in jobs:
        try:
            _read(model, job, limits)
            ready.append(job)
        except LoraryError as error:
            told[job] = _refusal(error)
    try:
        told |= _decided(model, ready)
    except LoraryError as error:
        if len(ready) == 1:
            told[ready[0]] = _refusal(error)
        for job in ready if len(ready) > 1 else ():
            told |= route(model, [job], limits)
    return told


def _refusal(error: LoraryError) -> RequestError:
    if isinstance(error, RequestError):
        return error
    # Files that are damaged are the owner's matter, and no message for who asked.
    return _unreadable() if isinstance(error, BankError) else RequestError(400, str(error), "invalid_request")


def _unreadable() -> RequestError:
    return RequestError(500, "the memory that is to answer cannot be read; ask who runs this server")


def _read(model: LoraryForCausalLM, job: Job, limits: Limits) -> None:
    """Makes the tokens of a job's prompt, and finds the length of its answer.

    Raises:
        RequestError: an unknown memory, or a prompt that is too long.
    """
    if job.memory not in (None, BASE) and job.memory not in model.memories:
        raise RequestError(
            404, f"no memory is called {job.memory!r}; /v1/models lists them", "model_not_found", "model"
        )
    if job.chat is not None:
        passages = 0 if job.memory == BASE else model.router.policy.passages
        prompt = with_passages(model, job.chat, passages)
        job.prompt, job.routing_text, job.passages = prompt, prompt.routing_text, prompt.passages
        job.ids = prompt_ids(model.tokenizer, [prompt.text(model.tokenizer)])[0]
    context = getattr(model.config.text_config, "max_position_embeddings", None) or limits.prompt_tokens
    room = min(context - 1, limits.prompt_tokens)
    if not 0 < len(job.ids) <= room:
        raise RequestError(
            400,
            f"the prompt has {len(job.ids)} tokens, and 1 to {room} are taken; shorten it",
            "context_length_exceeded",
            "messages" if job.chat is not None else "prompt",
        )
    rest = min(context - len(job.ids), limits.answer_tokens)
    job.longest = min(rest, job.longest or limits.default_tokens)


def _decided(model: LoraryForCausalLM, jobs: Sequence[Job]) -> dict[Job, Routed | RequestError]:
    """Gives each job its route and its factors, which are the bank's of now whatever changes there later."""
    named = [job for job in jobs if job.memory is not None or not model.memories]
    asked = [job for job in jobs if job.memory is None and model.memories]
    told: dict[Job, Routed | RequestError] = {}
    for group, decision in ((named, _by_name(model, named)), (asked, _by_router(model, asked))):
        if decision is None:
            continue
        routes = decision.routes(model.memories)
        for job, taken, weights in zip(group, routes, decision.weights, strict=True):
            places = weights.nonzero().squeeze(-1).tolist()
            try:
                job.shares = tuple((model.factors.stack((place,)), float(weights[place])) for place in places)
            except (LoraryError, OSError):
                told[job] = _unreadable()
                continue
            job.route = taken
            told[job] = Routed(taken, job.passages, len(job.ids))
    return told


def _by_name(model: LoraryForCausalLM, jobs: Sequence[Job]) -> Decision | None:
    names = [job.memory or BASE for job in jobs]
    return by_caller(named_weights(names, model.memories)) if jobs else None


def _by_router(model: LoraryForCausalLM, jobs: Sequence[Job]) -> Decision | None:
    """What the router decides; where the gate reads the hidden state of the prompt, a pass over the prompts tells it."""
    if not jobs:
        return None
    texts = [job.routing_text for job in jobs]
    if "hidden" not in model.gate.features:
        return model.router.decide(model.router.features(texts))
    inputs = prompt_batch(model.tokenizer, [str(model.tokenizer.decode(job.ids)) for job in jobs]).to(model.device)
    output = model(
        input_ids=inputs.input_ids, attention_mask=inputs.attention_mask, routing_text=texts, logits_to_keep=1
    )
    plan = output.past_key_values.plan
    assert plan.decision is not None, "a query has one route"
    return plan.decision
