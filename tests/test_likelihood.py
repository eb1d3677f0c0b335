"""How likely an answer was: what `generate` chose, told as a forward pass over the whole answer tells it."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import LogitsProcessorList

from lorary.__main__ import main
from lorary.answering import answer, answer_parts
from lorary.eval.certainty import by_certainty, certainty
from lorary.likelihood import Likelihood
from lorary.routing import Policy

OPEN = Policy(t_gate=0.0)
QUESTION = "Who cooks at Velka station?"


def probability(model, ids, start, memory):
    """The geometric mean of the probabilities of `ids[start:]`, by one forward pass."""
    weights = torch.tensor([[float(name == memory) for name in model.memories]])
    with torch.no_grad():
        told = model(ids[None], route_weights=weights).logits[0, start - 1 : -1].log_softmax(-1)
    return float(told.gather(-1, ids[start:, None]).mean().exp())


@pytest.mark.parametrize("sampled", [False, True])
def test_an_answer_is_as_likely_as_a_forward_pass_says(sampled, composite):
    torch.manual_seed(0)
    composite.router.policy = OPEN
    given = {"do_sample": True, "temperature": 0.5} if sampled else {}
    for found in answer_parts(composite, f"{QUESTION} And who cooks at Ormen station?", max_new_tokens=6, **given):
        composite_route = found.route.memories[0]
        weight = found.route.weights[0]
        weights = torch.tensor([[weight * (name == composite_route) for name in composite.memories]])
        with torch.no_grad():
            told = composite(found.ids[None], route_weights=weights).logits[0, found.prompt - 1 : -1].log_softmax(-1)
        expected = told.gather(-1, found.ids[found.prompt :, None]).mean().exp()
        assert found.probability == pytest.approx(float(expected), abs=1e-5)


def test_what_follows_the_end_of_a_turn_is_not_counted(composite, tokenizer):
    ids = tokenizer("Who cooks?", return_tensors="pt", add_special_tokens=False).input_ids
    weights = torch.eye(len(composite.memories))[:2]
    settings = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    whole = composite.generate(ids.expand(2, -1), route_weights=weights, eos_token_id=[], **settings)
    end = int(whole[0, ids.shape[1] + 1])  # the first row ends with its second token, say
    stop = 1 + next((i for i, t in enumerate(whole[1, ids.shape[1] :].tolist()) if t == end), 5)
    watching = Likelihood(end)
    watched = {"eos_token_id": end, "logits_processor": LogitsProcessorList([watching]), **settings}
    found = watching.probabilities(composite.generate(ids.expand(2, -1), route_weights=weights, **watched))
    kept = [(composite.memories[0], 2), (composite.memories[1], stop)]
    expected = [
        probability(composite, row[: ids.shape[1] + count], ids.shape[1], memory)
        for row, (memory, count) in zip(whole, kept, strict=True)
    ]
    assert found == pytest.approx(expected, abs=1e-5)


def test_beams_are_not_watched_and_a_caller_s_own_processor_is_kept(composite):
    assert answer(composite, QUESTION, policy=OPEN, max_new_tokens=3, num_beams=2).probability is None
    own, seen = Likelihood(None), answer(composite, QUESTION, policy=OPEN, max_new_tokens=3)
    both = answer(composite, QUESTION, policy=OPEN, max_new_tokens=3, logits_processor=[own])
    assert both.probability == seen.probability == own.probabilities(both.ids[None])[0]


def test_the_trace_and_the_json_tell_it(composite, tmp_path, capsys):
    composite.save_pretrained(tmp_path / "c", include_base=True)
    asked = ["ask", str(tmp_path / "c"), QUESTION, "--max-new-tokens=3"]
    assert main([*asked, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["probability"]
    assert 0 < told < 1
    assert main([*asked, "--trace"]) == 0
    assert f"probability: {told:.3f} a token" in capsys.readouterr().out


def line(fact, probability, match, memory="ormen", kind="unseen", answered=("ormen",)):
    route = {"memories": list(answered)}
    return {
        "fact": fact,
        "probability": probability,
        "exact_match": match,
        "memory": memory,
        "kind": kind,
        "route": route,
    }


def test_certainty_is_how_often_a_right_answer_is_likelier():
    told = [
        line("a", 0.9, 1.0),
        line("b", 0.5, 1.0),
        line("c", 0.7, 0.0),
        line("d", 0.2, 0.0),
        line("e", 0.6, None, memory=None, kind="near-miss"),
        line("f", 0.1, None, memory=None, kind="unrelated", answered=()),  # the base's own words are no recall
        line("g", None, 0.0),
    ]
    found = certainty(told, seed=0)
    assert found["right"] == 2
    assert (found["wrong"]["value"], found["wrong"]["questions"]) == (0.75, 2)
    assert found["by_kind"]["near-miss"]["value"] == 0.5
    assert set(found["by_kind"]) == {"near-miss"}
    assert found["wrong"]["low"] <= 0.75 <= found["wrong"]["high"]
    assert certainty(told[2:], seed=0) is None
    head, row = by_certainty({"certainty": {"policy": found}})
    assert head == ["condition", "right answers", "than a wrong one", "than one to a near-miss question"]
    assert row[:2] == ["policy", "2"]
    assert row[2].startswith("0.750 (")
    assert by_certainty({"certainty": {}}) == []
