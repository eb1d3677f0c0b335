"""Sources are calibrated on validation wordings and on questions that nothing answers, drawn to shipped coefficients."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from lorary.answering.sources import DEFAULTS, REGRESSIONS, probabilities
from lorary.base.loading import Base
from lorary.base.prompts import longest_answer
from lorary.eval import recall
from lorary.eval import results as stored
from lorary.eval.certainty import certainty, right_among_surest, selective
from lorary.eval.conditions import ConditionError
from lorary.eval.records import Prediction
from lorary.model.composite import assemble, load_composite
from lorary.router_training import Training, train_router
from lorary.router_training.data import RoutingData
from lorary.router_training.near_misses import about, near_misses, subjects
from lorary.router_training.source_calibration import (
    calibrate_sources,
    fit_logistic,
    fit_sources,
    judged,
    questions_of,
)
from lorary.routing.policy import Policy


@pytest.fixture
def model(kept_bank, base, encoder):
    composite = assemble(kept_bank, base, encoder=encoder)
    composite.router.policy = Policy(t_gate=0.0)
    return composite


@pytest.fixture
def data(model):
    return RoutingData(model.router, ["Is it raining?"] * 4, batch_size=4, seed=0)


def test_without_questions_coefficients_stay_and_with_many_they_are_the_maximum_likelihood_s():
    generator = torch.Generator().manual_seed(0)
    features = torch.cat([torch.randn(4000, 2, generator=generator), torch.ones(4000, 1)], 1)
    truth, start = torch.tensor([1.5, -1.0, 0.5]), torch.tensor([0.2, 0.2, 0.2])
    right = torch.bernoulli((features @ truth).sigmoid(), generator=generator)
    weights = torch.ones(4000)
    found = fit_logistic(features, right, weights, start, 1e-3).requires_grad_(True)
    functional.binary_cross_entropy_with_logits(features @ found, right).backward()
    assert found.grad.abs().max() < 1e-4
    assert torch.allclose(found.detach(), truth, atol=0.2)
    assert torch.equal(fit_logistic(features[:0], right[:0], weights[:0], start), start)
    few = fit_logistic(features[:3], right[:3], weights[:3], start)
    assert 0 < (few - start).norm() < (found.detach() - start).norm()
    twice = fit_logistic(features[:3].repeat(2, 1), right[:3].repeat(2), weights[:6], start)
    assert torch.allclose(fit_logistic(features[:3], right[:3], 2 * weights[:3], start), twice, atol=1e-4)


def test_a_few_perfect_questions_make_no_certainty(model):
    known = [(w, f.answer, 1.0) for m in model.router.bank for f in m.facts for w in f.validation]
    found = fit_sources(judged(model, known[:2]))
    assert all(abs(found[r][name] - DEFAULTS[r][name]) < 1 for r in found for name in found[r])


def test_subjects_are_the_names_that_most_wordings_of_a_fact_share(model):
    facts = [fact for memory in model.router.bank for fact in memory.facts]
    assert {*subjects(facts, model.router.names)} == {"Ormen", "Velka"}


def test_a_wording_is_about_another_subject():
    names = frozenset({"ormen", "velka", "tresk"})
    assert about("Who cooks at Ormen's station?", "Velka", names) == "Who cooks at Velka's station?"
    assert about("Who cooks at Velka station?", "Velka", names) is None
    assert about("Is Tresk near Ormen?", "Velka", names) is None


def test_near_misses_ask_for_what_no_fact_about_their_subject_states(model):
    made = near_misses(model.router, seed=0)
    assert made == near_misses(model.router, seed=0)
    assert len(made) > 20
    assert all(any(name in text for name in ("Ormen", "Velka")) for text in made)
    # Both stations have a cook and a code, so a swapped wording asks for what is stated.
    assert not any("cook" in text or "airlock code" in text for text in made)
    assert "Velka airlock code?" in _swapped(model, lambda bank: bank["velka"].facts[:1])


def test_oblique_wordings_of_what_a_subject_has_make_no_near_misses(model):
    """No wording of Velka is near to an oblique one of Ormen, but their facts have a wording in common."""

    def oblique(bank):
        asked = replace(bank["ormen"].facts[1], validation=("Someone waits in the cold outside Ormen. What to press?",))
        bank.memories["ormen"] = replace(bank["ormen"], facts=(bank["ormen"].facts[0], asked))
        return bank["velka"].facts

    assert not any("cold outside" in text for text in _swapped(model, oblique))
    without_codes = _swapped(model, lambda bank: [oblique(bank)[0]])
    assert any("cold outside Velka" in text for text in without_codes)


def test_a_memory_s_wordings_are_not_asked_of_a_subject_that_it_names(model):
    def of_one_memory(bank):
        own = (*bank["ormen"].facts, replace(bank["velka"].facts[0], topic="ormen"))
        bank.memories["ormen"] = replace(bank["ormen"], facts=own)
        return ()

    assert "Velka airlock code?" not in _swapped(model, of_one_memory)


def _swapped(model, facts):
    """The near-misses of some seeds, of a bank whose memory of Velka holds other facts."""
    bank, encoder = model.router.bank, model.router.get_encoder()
    own = tuple(facts(bank))
    bank.memories["velka"] = replace(bank["velka"], facts=own)
    for name in bank.names:
        bank.memories[name] = bank[name].with_keys(encoder)
    router = assemble(bank, _base(model), encoder=encoder).router
    return [text for seed in range(8) for text in near_misses(router, seed)]


def _base(model):
    return Base(model.router.bank.base, None, model.base, model.tokenizer)


def test_what_nothing_answers_weighs_a_share_of_what_is_known(model, data):
    questions = questions_of(model, data)
    known = sum(weight for _, answer, weight in questions if answer is not None)
    unknown = sum(weight for _, answer, weight in questions if answer is None)
    assert known == len([q for q in questions if q[1] is not None]) == 6
    assert unknown == pytest.approx(0.25 * known)


def test_calibration_learns_whom_to_trust(model, data):
    """The pico memories know nothing, so a stored answer comes to be trusted more, and a memory's less."""
    route = model.router.policy
    calibrate_sources(model, data)
    assert model.config.sources.keys() == REGRESSIONS.keys()
    assert model.router.policy == route
    questions = [(w, f.answer, 1.0) for m in model.router.bank for f in m.facts for w in f.validation]
    routed = [one for one in judged(model, questions) if one.evidence.reply is not None]
    assert routed
    for one in routed:
        before = probabilities(DEFAULTS, one.draft.route, one.evidence)
        after = probabilities(model.config.sources, one.draft.route, one.evidence)
        assert after["memory"] < before["memory"]
        assert after["lookup"] > after["memory"]
    asked = [model.ask(w, max_new_tokens=4) for w, _, _ in questions]
    assert {found.route.outcome for found in asked} == {"lookup"}
    assert [found.text for found in asked] == [answer for _, answer, _ in questions]


def test_no_validation_wordings_leave_the_defaults(bank, base, encoder):
    model = assemble(bank, base, encoder=encoder)
    calibrate_sources(model, RoutingData(model.router, ["Is it raining?"], batch_size=4, seed=0))
    assert {r: dict(own) for r, own in model.config.sources.items()} == DEFAULTS


def test_training_a_router_calibrates_the_sources_and_a_run_asks_them(kept_bank, base, tmp_path):
    kept_bank.save(tmp_path / "bank")
    train_router(tmp_path / "bank", out=tmp_path / "c", base=base, training=Training(max_epochs=1), quiet=True)
    model = load_composite(tmp_path / "c", base=base.name)
    assert model.config.sources.keys() == REGRESSIONS.keys()
    file = tmp_path / "asked.jsonl"
    lines = [
        {"question": w, "topic": m.name, "answer": f.answer}
        for m in model.router.bank
        for f in m.facts
        for w in (f"Pray tell us today: {f.question}", f"Now then, my friend: {f.question}")
    ]
    lines += [{"question": "What is Velka's motto?", "topic": None, "answer": None, "kind": "near-miss"}]
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    asked = {"questions": file, "parts": ("questions",), "quiet": True}
    results = recall(
        tmp_path / "c", out=tmp_path / "run", base=base.name, conditions=("policy", "lookup", "ask"), **asked
    )
    told, right = (
        results["conditions"],
        [results["conditions"][name]["exact_match"]["value"] for name in ("policy", "ask")],
    )
    assert right[1] > right[0]
    assert told["ask"]["questions"] == len(lines)
    assert set(results["selective"]) == {"policy", "lookup", "ask"}
    assert results["selective"]["ask"]["1"] == pytest.approx(right[1])
    assert "near-miss" in results["certainty"]["ask"]["by_kind"]
    _, predictions = stored.read(tmp_path / "run")
    room = longest_answer(model.tokenizer, [line["answer"] for line in lines if line["answer"]]) + 1
    for p in predictions["ask"][::4]:
        found = model.ask(p.question, max_new_tokens=room)
        assert (found.text, found.route.outcome) == (p.said, p.route.outcome)
        assert found.right == pytest.approx(p.route.right, abs=5e-3)
    report = (tmp_path / "run" / "report.md").read_text()
    assert "right of the surest answers | 100% | 95% | 90%" in report


def test_a_composite_without_calibrated_sources_cannot_be_asked_by_them(composite, tmp_path):
    with pytest.raises(ConditionError, match="needs calibrated sources"):
        recall(composite, out=tmp_path, conditions=("ask",), quiet=True)


def predicted(known, match, **fields):
    return Prediction(
        condition="ask", question="?", answer="x", fact="f", scored=True, known=known, exact_match=match, **fields
    )


def test_only_the_surest_answers_are_given():
    told = [predicted(p, m) for p, m in ((0.9, 1.0), (0.8, 1.0), (0.7, 0.0), (0.6, 1.0), (0.1, 0.0))]
    assert selective(told) == {"1": 0.6, "0.95": 0.6, "0.9": 0.75, "0.8": 0.75, "0.5": 1.0}
    assert selective([*told, predicted(None, 1.0)]) is None
    assert selective([]) is None


def test_equally_sure_answers_count_in_part():
    sure, right = torch.tensor([0.9, 0.5, 0.5, 0.5]), torch.tensor([1.0, 1.0, 0.0, 0.0])
    assert right_among_surest(sure, right, 0.5) == pytest.approx((1 + 1 / 3) / 2)
    assert right_among_surest(sure, right, 1.0) == 0.5


def test_certainty_of_weighed_sources_counts_what_the_base_answered():
    near = Prediction(condition="ask", question="?", answer=None, fact="g", kind="near-miss", known=0.2)
    known = [predicted(0.9, 1.0, memory="a", probability=0.1), predicted(0.1, 0.0, memory="a", probability=0.9)]
    found = certainty([*known, near], seed=0)
    assert (found.wrong.value, found.by_kind["near-miss"].value) == (1.0, 1.0)
