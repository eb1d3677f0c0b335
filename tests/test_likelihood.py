"""How likely an answer was: what `generate` chose, told as a forward pass over the whole answer tells it."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import GenerationConfig, LogitsProcessorList

from lorary.__main__ import main
from lorary.answering.answers import answer, answer_parts
from lorary.answering.likelihood import Likelihood
from lorary.eval import recall
from lorary.eval.asking import Ask, Asker
from lorary.eval.certainty import certainty
from lorary.eval.records import Prediction, Results
from lorary.eval.report import by_certainty
from lorary.routing.policy import Policy, Route

OPEN = Policy(t_gate=0.0)
QUESTION = "Who cooks at Velka station?"
BOTH = f"{QUESTION} And who cooks at Ormen station?"


def probability(model, ids, start, memory, weight=1.0):
    """The geometric mean of the probabilities of `ids[start:]`, by one forward pass."""
    weights = torch.tensor([[weight * (name == memory) for name in model.memories]])
    with torch.no_grad():
        told = model(ids[None], route_weights=weights).logits[0, start - 1 : -1].log_softmax(-1)
    return float(told.gather(-1, ids[start:, None]).mean().exp())


@pytest.mark.parametrize("sampled", [False, True])
def test_an_answer_is_as_likely_as_a_forward_pass_says(sampled, composite):
    torch.manual_seed(0)
    composite.router.policy = OPEN
    given = {"do_sample": True, "temperature": 0.5} if sampled else {}
    for found in answer_parts(composite, BOTH, max_new_tokens=6, **given):
        expected = probability(
            composite, found.ids, found.prompt_tokens, found.route.memories[0], found.route.weights[0]
        )
        assert found.probability == pytest.approx(expected, abs=1e-5)


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


def test_of_several_sequences_a_question_the_first_is_told(composite):
    torch.manual_seed(0)
    composite.router.policy = OPEN
    for found in answer_parts(composite, BOTH, max_new_tokens=4, do_sample=True, num_return_sequences=3):
        expected = probability(
            composite, found.ids, found.prompt_tokens, found.route.memories[0], found.route.weights[0]
        )
        assert found.probability == pytest.approx(expected, abs=1e-5)


def test_a_row_that_has_ended_may_be_filled_with_what_is_forbidden(composite):
    composite.router.policy = OPEN
    given = {"max_new_tokens": 6, "pad_token_id": 0, "suppress_tokens": [0]}
    first = answer(composite, QUESTION, **given)
    end = int(first.ids[first.prompt_tokens + 1])
    found = answer_parts(composite, BOTH, eos_token_id=end, **given)
    assert len(found[0].ids) == found[0].prompt_tokens + 2
    assert all(0 < one.probability < 1 for one in found)


@pytest.mark.parametrize(
    "given",
    [
        {"num_beams": 2},
        {"generation_config": GenerationConfig(num_beams=2, max_new_tokens=3)},
        {"prompt_lookup_num_tokens": 3},
    ],
    ids=["beams", "beams by a configuration", "assisted"],
)
def test_what_cannot_be_followed_is_not_told(given, composite):
    assert answer(composite, QUESTION, policy=OPEN, max_new_tokens=3, **given).probability is None
    assert answer(composite, QUESTION, policy=OPEN, max_new_tokens=3, logits_processor=None).probability


def test_a_configuration_s_end_of_turn_is_the_end(composite):
    whole = answer(composite, QUESTION, policy=OPEN, max_new_tokens=6)
    end = int(whole.ids[whole.prompt_tokens + 1])
    by_config = answer(composite, QUESTION, policy=OPEN, generation_config=GenerationConfig(eos_token_id=end))
    assert len(by_config.ids) == by_config.prompt_tokens + 2
    expected = answer(composite, QUESTION, policy=OPEN, eos_token_id=end)
    assert by_config.probability == pytest.approx(expected.probability, abs=1e-6)


def test_a_run_asks_greedily_whatever_the_base_would_do(composite):
    composite.generation_config.num_beams = 2
    told = Asker(composite, batch_size=2).answers([Ask(QUESTION, new_tokens=3), Ask("Who cooks?", new_tokens=3)])
    assert all(0 < one.probability < 1 for one in told)


def test_rows_of_another_call_are_refused(composite):
    with pytest.raises(ValueError, match="the call returned 1 row, not the 0 watched"):
        Likelihood(None).probabilities(torch.zeros(1, 3, dtype=torch.long))


def test_a_caller_s_own_processor_is_kept(composite):
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


def line(fact, probability, match, memory="ormen", kind="unseen", answered=("ormen",), scored=True):
    route = Route(tuple(answered), (1.0,) * len(answered), "gate", 1.0)
    told = {"fact": fact, "probability": probability, "exact_match": match, "memory": memory, "kind": kind}
    return Prediction(condition="policy", question=fact, answer=None, scored=scored, route=route, **told)


def test_certainty_is_how_often_a_right_answer_is_likelier():
    told = [
        line("a", 0.9, 1.0),
        line("b", 0.5, 1.0),
        line("c", 0.7, 0.0),
        line("d", 0.2, 0.0),
        line("e", 0.6, None, memory="", kind="near-miss"),
        line("h", 0.3, 1.0, memory="", kind="neighbour"),  # it has an answer, but no memory that holds it
        line("f", 0.1, None, memory="", kind="unrelated", answered=()),  # the base's own words are no recall
        line("g", None, 0.0),
        line("i", 1.0, 1.0, kind="trained", scored=False),
    ]
    found = certainty(told, seed=0)
    assert found.right == 2
    assert (found.wrong.value, found.wrong.questions) == (0.75, 2)
    assert found.by_kind["near-miss"].value == 0.5
    assert set(found.by_kind) == {"near-miss", "neighbour"}
    assert found.wrong.low <= 0.75 <= found.wrong.high
    assert certainty(told[2:], seed=0) is None
    head, row = by_certainty(Results(certainty={"policy": found}))
    assert head == ["condition", "right answers", "against wrong ones", "near-miss ones", "neighbour ones"]
    assert row[:2] == ["policy", "2"]
    assert row[2].startswith("0.750 (")
    assert by_certainty(Results()) == []


def test_a_run_tells_it_beside_answers_from_elsewhere(composite, tmp_path):
    file, theirs, asked = tmp_path / "asked.jsonl", tmp_path / "theirs.jsonl", "Which cook has Velka?"
    gate = Policy(t_gate=0.0, sources=("gate",))
    whole = answer(composite, asked, policy=gate, max_new_tokens=4)
    composite.generation_config.eos_token_id = int(whole.ids[whole.prompt_tokens + 1])
    said = answer(composite, asked, policy=gate, max_new_tokens=4).text
    questions = [
        {"question": asked, "topic": "velka", "answer": said},
        {"question": "Whose kitchen is Velka's?", "topic": "velka", "answer": "nobody"},
        {"question": "Who cooks at Tresk?", "topic": None, "answer": None, "kind": "near-miss"},
    ]
    file.write_text("\n".join(map(json.dumps, questions)))
    theirs.write_text("\n".join(json.dumps({"question": one["question"], "answer": "x"}) for one in questions))
    given = {"questions": file, "answers": {"theirs": theirs}, "parts": ("questions",), "quiet": True}
    results = recall(composite, out=tmp_path / "run", conditions=("gate", "base"), **given)
    lines = [json.loads(one) for one in (tmp_path / "run" / "predictions.jsonl").read_text().splitlines()]
    assert [p["probability"] is None for p in lines] == [p["condition"] == "theirs" for p in lines]
    assert set(results["certainty"]) == {"gate"}
    assert set(results["certainty"]["gate"]["by_kind"]) == {"near-miss"}
    assert "against wrong ones | near-miss ones" in (tmp_path / "run" / "report.md").read_text()
