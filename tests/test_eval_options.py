"""Options: how likely each is, batched and from a shared start as one by one, and what that scores."""

from __future__ import annotations

import json

import pytest
import torch

from lorary.bank.facts import FactError
from lorary.base.prompts import prompt
from lorary.eval import recall
from lorary.eval.asking import Ask, Asker
from lorary.eval.certainty import by_prior
from lorary.eval.questions import Question, held_out
from lorary.eval.scoring import prediction, rouge_l
from lorary.routing.policy import Route

OPTIONS = ("Halvard", "the oil of the lamps", "9020")
NONE, ORMEN = Route((), (), "none", 1.0), Route(("ormen",), (1.0,), "caller", 1.0)


@torch.no_grad()
def reference(model, ask):
    """The mean log-probability of an option, by the loss that the model tells."""
    start = prompt(model.tokenizer, ask.text)
    ids, tail = (
        model.tokenizer(t, return_tensors="pt", add_special_tokens=False).input_ids for t in (start, ask.option)
    )
    whole = torch.cat([ids, tail], 1)
    labels = torch.cat([torch.full_like(ids, -100), tail], 1)
    given = (
        {"routing_text": ask.question}
        if ask.route is None
        else {"adapter_names": [*ask.route.memories, "__base__"][:1]}
    )
    return -float(model(whole, labels=labels, **given).loss)


@pytest.mark.parametrize(
    ("which", "route", "context"),
    [
        ("composite", ORMEN, ""),
        ("composite", ORMEN, "The lamps burn lark oil."),
        ("composite", NONE, "The lamplighters burn lark oil in every lamp of the town. " * 12),
        ("token_composite", None, ""),
    ],
    ids=["routed", "with passages", "from a shared start", "by token"],
)
def test_a_likelihood_is_the_model_s_loss(which, route, context, request):
    model = request.getfixturevalue(which)
    questions = ("Who cooks at Ormen station?", "Name the oil.")
    asks = [Ask(q, context, route, option=o) for q in questions for o in OPTIONS]
    found = Asker(model, batch_size=4).likelihoods(asks)
    assert found == pytest.approx([reference(model, ask) for ask in asks], abs=2e-4)


def test_the_likeliest_option_is_chosen():
    question = Question("Who cooks?", "Halvard", "ormen", "f", options=("Halvard", "Brisk"))
    right, wrong = (
        prediction("base", question, "Halvard the cook", NONE, scored=True, likelihoods={"Halvard": h, "Brisk": -1.0})
        for h in (-0.5, -2.0)
    )
    assert (right.accuracy, wrong.accuracy) == (1.0, 0.0)
    assert right.exact_match == wrong.exact_match == 0.0
    free = prediction("base", Question("Who cooks?", "Halvard", "ormen", "f"), "Halvard", NONE, scored=True)
    assert (free.accuracy, free.exact_match) == (None, 1.0)


def test_rouge_l_counts_the_longest_common_subsequence():
    assert rouge_l("the cook then burned all oil", "the cook burned oil") == pytest.approx(2 * 4 / (6 + 4))
    assert rouge_l("oil burned", "burned oil") == pytest.approx(0.5)


def test_a_run_tells_accuracy_where_there_are_options(composite, tmp_path):
    line = {"topic": "ormen", "question": "Who cooks at Ormen station?", "answer": "Halvard"}
    line |= {"held_out": ["Ormen's chef is who?"], "options": ["Halvard", "Brisk"]}
    free = {
        "topic": "velka",
        "question": "Who cooks at Velka station?",
        "answer": "Brisk",
        "held_out": ["Velka's chef?"],
    }
    file = tmp_path / "asked.jsonl"
    file.write_text("\n".join(map(json.dumps, [line, free])))
    results = recall(composite, out=tmp_path, questions=file, conditions=("base", "oracle"), quiet=True)
    assert results["conditions"]["oracle"]["accuracy"]["value"] in (0.0, 1.0)
    assert "accuracy (95 %)" in (tmp_path / "report.md").read_text()
    html = (tmp_path / "report.html").read_text()
    assert 'data-is="accuracy"' in html
    assert "By strength of the prior" in html
    assert "| held-out: weak |" in (tmp_path / "report.md").read_text()
    file.write_text(json.dumps(line | {"options": ["Brisk"]}))
    with pytest.raises(FactError, match="'options' must hold the answer 'Halvard'"):
        held_out(composite.router.bank, file)


def test_a_prior_is_told_in_thirds_of_each_kind():
    def told(condition, number, true):
        question = Question(f"Q{number}", "new", "m", f"f{number}", kind="efficacy", options=("new", "true"))
        likelihoods = {"new": -2.0, "true": true}
        return prediction(condition, question, "new", NONE, scored=True, likelihoods=likelihoods)

    priors = [-3.0, -1.0, -1.5, -0.5, -2.5, 0.0]
    base = [told("base", i, true) for i, true in enumerate(priors)]
    edited = [told("oracle", i, -1.9 if true > -1 else -9.0) for i, true in enumerate(priors)]
    weak, middle, strong = by_prior({"base": base, "oracle": edited}, seed=0)["efficacy"]
    assert (weak.least, weak.greatest, strong.least, strong.greatest) == (-1.0, -0.5, 1.5, 2.0)
    assert [third.conditions["base"].accuracy.value for third in (weak, middle, strong)] == [1.0, 0.0, 0.0]
    assert [third.conditions["oracle"].accuracy.value for third in (weak, middle, strong)] == [1.0, 1.0, 0.0]
    assert weak.questions == 2
    assert by_prior({"oracle": edited}, seed=0) == {}
