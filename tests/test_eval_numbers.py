"""The numbers of a run: intervals, calibration, damage, latency."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lorary.eval.costs import latency, retention
from lorary.eval.records import Prediction
from lorary.eval.routers import calibration
from lorary.eval.scoring import contains
from lorary.routing.policy import Route
from lorary.statistics import cluster_mean, interval

TEXT = ("Green plants make their own food out of light.", "A bicycle stays upright because its rider steers it.")


def test_an_interval_holds_its_value_where_facts_have_unequal_wordings():
    scores = [1.0] * 30 + [0.0] * 4
    clusters = ["many"] * 30 + ["a", "b", "c", "d"]
    told = interval(cluster_mean(scores, clusters, seed=0))
    assert told["value"] == pytest.approx(30 / 34)
    assert told["low"] <= told["value"] <= told["high"]


def test_an_answer_is_contained_as_whole_words():
    assert contains("The cook at Ormen is Halvard Brisk.", "Halvard Brisk") == 1.0
    assert contains("Halvard the Brisk", "Halvard Brisk") == 1.0, "articles do not count, as in an exact match"
    assert contains("It holds 1200 crates.", "120") == 0.0
    assert contains("Brisk, Halvard", "Halvard Brisk") == 0.0


def test_a_paired_difference_is_surer_than_two_intervals():
    generator = np.random.default_rng(0)
    first = generator.integers(0, 2, 200).astype(float)
    second = first.copy()
    second[:24] = 1.0
    clusters = [str(i) for i in range(200)]
    gained = interval(cluster_mean((second - first).tolist(), clusters, seed=0))
    a, b = (interval(cluster_mean(scores.tolist(), clusters, seed=0)) for scores in (first, second))
    assert gained["value"] == pytest.approx(b["value"] - a["value"])
    assert gained["low"] > 0
    assert b["low"] < a["high"], "the intervals themselves overlap"


def test_calibration_counts_what_the_gate_decided_and_a_memory_holds():
    def told(memory, chosen, source, confidence):
        route = Route((chosen,), (1.0,), source, confidence)
        return Prediction(condition="gate", question="q", answer="x", fact="f", memory=memory, route=route)

    decided = [told("a", "a", "gate", 0.95), told("a", "b", "gate", 0.95), told("a", "a", "gate", 0.55)]
    left_out = [told("a", "b", "index", 0.9), told("", "b", "gate", 0.9)]
    found = calibration([*decided, *left_out])
    assert found.questions == 3
    assert [(b.right, b.questions) for b in found.bins] == [(1.0, 1), (0.5, 2)]
    assert found.error == pytest.approx((0.45 * 2 + 0.45) / 3, abs=1e-5)
    assert calibration(left_out) is None


def test_damage_is_none_under_none_and_some_under_a_forced_memory(composite):
    composite.gate.none.data.fill_(50.0)  # the gate always says none
    composite.router.policy = type(composite.router.policy)(sources=("gate",))
    told = retention(composite, TEXT)
    assert told.ratio("policy") == 1.0
    assert told.damage["policy"].kl == 0.0
    assert told.damage["forced"].kl > 0
    assert told.damage["uniform"].kl > 0


def test_retention_is_the_loss_that_the_model_tells(composite):
    told = retention(composite, TEXT[:1])
    ids = composite.tokenizer(TEXT[0], return_tensors="pt").input_ids
    loss = composite(ids, labels=ids, adapter_names=[composite.memories[0]]).loss
    assert torch.tensor(told.damage["forced"].perplexity).log() == pytest.approx(float(loss), rel=1e-4)


@pytest.mark.parametrize("which", ["composite", "token_composite"])
def test_latency_has_its_parts(which, request):
    told = latency(request.getfixturevalue(which), ["Who cooks at Ormen?", "Who cooks at Velka?"], tokens=2)
    assert told.questions == 1
    assert told.base.route == 0.0
    assert told.policy.route > 0
    assert told.base.decode > 0
