"""Spoken: an answer that was decided token by token says which memories told it, and is given as they told it."""

from __future__ import annotations

import pytest
import torch
from conftest import ask

from lorary.answering.answers import answers
from lorary.answering.sources import ONE, REGRESSIONS
from lorary.model.cache import Plan
from lorary.model.spoken import LEAST_SPOKEN, count_spoken, spoken_routes
from lorary.routing.policy import Decision, Route

BOTH = "Who cooks at Ormen station? And which oil do the lamplighters burn?"


@pytest.fixture
def model(window_composite):
    """Every other token is one memory's, whatever is asked: the window tells which."""
    window_composite.gate.reading.point_bias.data = torch.tensor([50.0, 0.0, 0.0, 0.0, 0.0])
    return window_composite


def test_an_answers_route_has_each_memory_by_its_mean_share_of_the_tokens(model):
    batch = ask(model.tokenizer, BOTH)
    output = model.generate(**batch, routing_text=[BOTH], max_new_tokens=9, min_new_tokens=9, do_sample=False)
    (route,) = model.last_routes
    read = model(output[:, :-1], routing_text=[BOTH], use_cache=False).route_weights[0]
    shares = read[batch["input_ids"].shape[1] - 1 :].mean(0)
    expected = {model.memories[n]: float(share) for n, share in enumerate(shares) if share >= LEAST_SPOKEN}
    assert len(expected) > 1
    assert dict(zip(route.memories, route.weights, strict=True)) == pytest.approx(expected, abs=1e-4)
    assert [*route.weights] == sorted(route.weights, reverse=True)


def test_nothing_counts_behind_the_end_of_an_answer():
    class Settings:
        eos_token_id, pad_token_id = [2], 0

    plan = Plan(("a", "b"), texts=("?", "?"))
    for weights, tokens in (([[1.0, 0], [1.0, 0]], [[5, 6], [5, 6]]), ([[0, 1.0], [0, 1.0]], [[7], [2]])):
        plan.latest = Decision(torch.tensor(weights).unsqueeze(1), torch.ones(2, 1).long(), torch.ones(2, 1))
        count_spoken(plan, torch.tensor(tokens), Settings)
    first = [Route(("a",), (1.0,), "gate", 0.9)] * 2
    going_on, over = spoken_routes(plan, first)
    assert (going_on.memories, going_on.weights) == (("a", "b"), (0.5, 0.5))
    assert (over.memories, over.weights) == (("a",), (1.0,))


def test_what_several_memories_told_is_not_exchanged_for_one_stored_answer(model):
    model.config.sources = {name: {ONE: 5.0 if name.startswith("lookup") else -5.0} for name in REGRESSIONS}
    (answer,) = answers(model, [BOTH], max_new_tokens=8)
    assert len(answer.route.memories) > 1
    assert answer.route.outcome == "memory"
    model.gate.reading.point_bias.data = torch.tensor([-50.0, 50.0, 0.0, 0.0, 0.0])
    model.gate.reading.point.data.zero_()
    (alone,) = answers(model, ["Who cooks at Ormen station?"], max_new_tokens=8)
    assert alone.route.outcome == "lookup", "one memory's answer is weighed against a stored one"
