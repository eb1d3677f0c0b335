"""What speaks for each source of an answer: a memory, a stored answer, the base."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import FACTS

from lorary.answering import answer
from lorary.answering.answers import answers
from lorary.answering.evidence import (
    BEFORE,
    ROUTED,
    Evidence,
    Fit,
    Reply,
    asked_for,
    before,
    shared_meaning,
    shared_names,
)
from lorary.answering.judging import Draft, gather
from lorary.answering.likelihood import answer_probabilities
from lorary.answering.lookup import look_up, same, stored_as, support
from lorary.answering.sources import DEFAULTS, ONE, REGRESSIONS, chosen, known, logistic, probabilities
from lorary.base.prompts import prompt
from lorary.routing.policy import Policy, Route

OPEN = Policy(t_gate=0.0)
CLOSED = Policy(t_gate=2.0, t_index=2.0)
QUESTION = "Who cooks the food at Velka station?"


def embedded(composite, *texts):
    return composite.router.features(list(texts)).embedding


def test_a_lookup_tells_how_far_other_answers_are(composite):
    router = composite.router
    (found,) = look_up(router, embedded(composite, QUESTION))
    assert (found.memory, found.fact.answer) == ("velka", "Brisk")
    e = embedded(composite, QUESTION)[0]
    near = {
        (memory.name, number): float((memory.keys[torch.tensor(memory.key_facts) == number] @ e).max())
        for memory in router.bank
        for number in range(len(memory.facts))
    }
    first, second = sorted(near.values(), reverse=True)[:2]
    assert found.similarity == pytest.approx(first, abs=1e-5)
    assert found.margin == pytest.approx(first - second, abs=1e-5)


def test_equal_answers_of_two_facts_are_no_rivals(composite):
    router = composite.router
    whole = look_up(router, embedded(composite, QUESTION))[0].margin
    bank = router.bank
    for name in ("velka", "ormen"):
        facts = tuple(replace(fact, answer="Same.") for fact in bank[name].facts)
        bank.memories[name] = replace(bank[name], facts=facts)
    assert look_up(router, embedded(composite, QUESTION))[0].margin > whole
    assert same("Same", "same. ")
    assert not same("Same", "other")


def test_what_cannot_be_read_is_not_looked_up(composite):
    assert look_up(composite.router, torch.zeros(1, embedded(composite, "x").shape[1])) == [None]


def test_a_memory_s_answer_is_found_among_its_facts(composite):
    memory, (e,) = composite.router.bank["velka"], embedded(composite, QUESTION)
    right, wrong = stored_as([memory], "brisk", e), stored_as([memory], "9020", e)
    assert (right.fact.answer, wrong.fact.answer) == ("Brisk", "9020")
    assert right.margin == pytest.approx(-wrong.margin, abs=1e-6)
    assert right.margin > 0
    assert stored_as([memory], "Halvard", e) is None


def test_names_that_a_fact_does_not_hold_are_seen():
    wordings, bank = ["Who cooks at Velka station?"], frozenset({"velka", "ormen"})
    assert shared_names("who cooks at velka", wordings, bank) == 1.0
    assert shared_names("Who cooks at Ormen?", wordings, bank) == 0.0
    assert shared_names("Does Velka know of Tresk?", wordings, bank) == 0.5  # the bank knows no Tresk
    assert shared_names("who cooks?", wordings, bank) == 0.5
    assert shared_names("qui cuisine chez andre\u0301", ["Qui cuisine chez André ?"], frozenset({"andré"})) == 1.0


def test_words_are_had_as_far_as_the_nearest_one_means_the_same():
    dog, hound, boat = torch.tensor([1.0, 0.0]), torch.tensor([0.8, 0.6]), torch.tensor([0.0, 1.0])
    weights = asked_for([{"dog": 2.0, "called": 0.5}, {"dog": 2.0}])
    assert weights == {"dog": 4.0, "called": 0.5}
    wanted, rare = torch.stack([dog, boat]), torch.tensor([4.0, 1.0])
    assert shared_meaning(wanted, hound[None], rare) == pytest.approx((4 * 0.8 + 1 * 0.6) / 5)
    assert shared_meaning(wanted, torch.stack([boat, hound]), rare) == pytest.approx((4 * 0.8 + 1 * 1.0) / 5)
    nothing = torch.zeros(0, 2)
    assert shared_meaning(nothing, hound[None], torch.zeros(0)) == 0.0
    assert shared_meaning(wanted, nothing, rare) == 0.0


def test_other_words_for_what_a_fact_tells_fit_it_and_words_for_another_thing_do_not(composite):
    route = answer(composite, QUESTION, policy=OPEN, max_new_tokens=2).route
    asked = ["Who is the chef at Velka?", "Who is the dentist at Velka?", "Velka?"]
    drafts = [Draft(text, prompt(composite.tokenizer, text), route, "Brisk", 0.9) for text in asked]
    chef, dentist, bare = (evidence.lookup.words for evidence in gather(composite, drafts))
    assert chef > dentist > bare


def test_given_answers_are_as_likely_as_generated_ones(composite):
    asked = [QUESTION, "What is the airlock code of Ormen, if you please?"]
    said = answers(composite, asked, policy=OPEN, max_new_tokens=12)
    ended = [one for one in said if one.ids[-1] in (2, composite.tokenizer.convert_tokens_to_ids("<|im_end|>"))]
    weights = torch.stack([torch.tensor([float(n in one.route.memories) for n in composite.memories]) for one in said])
    weights = weights * torch.tensor([[one.route.weights[0]] for one in said])
    texts = [one.prompt.text(composite.tokenizer) for one in said]
    together = answer_probabilities(composite, texts, ["Brisk", "4173"], weights)
    alone = [
        answer_probabilities(composite, [t], [a], w[None])[0]
        for t, a, w in zip(texts, ["Brisk", "4173"], weights, strict=True)
    ]
    assert together == pytest.approx(alone, rel=1e-4)
    for one, text, row in zip(ended, texts, weights, strict=False):
        assert answer_probabilities(composite, [text], [one.text], row[None])[0] == pytest.approx(
            one.probability, rel=1e-3
        )


def evidence_of(composite, said, *, policy=OPEN):
    route = answer(composite, QUESTION, policy=policy, max_new_tokens=2).route
    draft = Draft(QUESTION, prompt(composite.tokenizer, QUESTION), route, said, 0.9)
    return route, gather(composite, [draft])[0]


def test_a_memory_that_agrees_costs_no_pass_and_has_no_rival(composite):
    route, agreed = evidence_of(composite, "brisk.")
    assert agreed.agreed
    assert agreed.passes == 0
    assert agreed.features(route) | dict.fromkeys(ROUTED[ROUTED.index("apart") :], 0.0) == agreed.features(route)
    assert set(probabilities(DEFAULTS, route, agreed)) == {"memory", "base"}
    _, apart = evidence_of(composite, "Ormen")
    assert not apart.agreed
    assert apart.passes == 1
    assert 0 < apart.reply.lookup < 1
    assert set(apart.features(route)) == {*ROUTED}
    assert set(probabilities(DEFAULTS, route, apart)) == {"memory", "lookup", "base"}
    none, unrouted = evidence_of(composite, "whatever", policy=CLOSED)
    assert set(unrouted.features(none)) == {*BEFORE}
    assert set(probabilities(DEFAULTS, none, unrouted)) == {"lookup", "base"}


def test_agreement_and_a_near_wording_make_an_answer_likelier(composite):
    route, agreed = evidence_of(composite, "Brisk")
    _, apart = evidence_of(composite, "Ormen")
    assert probabilities(DEFAULTS, route, agreed)["memory"] > probabilities(DEFAULTS, route, apart)["memory"]
    far = replace(agreed, lookup=replace(agreed.lookup, asked=0.1))
    assert probabilities(DEFAULTS, route, far)["memory"] < probabilities(DEFAULTS, route, agreed)["memory"]
    assert probabilities(DEFAULTS, route, far)["base"] > probabilities(DEFAULTS, route, agreed)["base"]


def test_every_regression_has_defaults_for_its_features():
    assert {name: {*own} for name, own in DEFAULTS.items()} == {
        name: {*features, ONE} for name, features in REGRESSIONS.items()
    }
    nothing = Evidence(None, None)
    assert probabilities(DEFAULTS, Route((), (), "none", 0.99), nothing)["base"] > 0.5
    assert known({"base": 1.0}) == 0.0


def test_a_logistic_regression_is_the_textbook_s():
    expected = torch.sigmoid(torch.tensor(2.0 * 0.5 - 1.0 * 3.0 + 0.25))
    assert logistic({"a": 0.5, "b": 3.0}, {"a": 2.0, "b": -1.0, ONE: 0.25}) == pytest.approx(float(expected))
    assert logistic({"new": 9.0}, {ONE: 0.0}) == 0.5


def test_the_likeliest_source_that_may_answer_does():
    likely = {"memory": 0.4, "lookup": 0.6, "base": 0.1}
    assert chosen(likely, Policy()) == "lookup"
    assert chosen(likely, Policy(lookup=False)) == "memory"
    assert chosen({"lookup": 0.1, "base": 0.3}, Policy()) == "base"


def test_the_base_takes_a_memory_s_place_only_where_it_is_quite_sure():
    assert chosen({"memory": 0.2, "lookup": 0.3, "base": 0.6}, Policy()) == "lookup"
    assert chosen({"memory": 0.2, "lookup": 0.3, "base": 0.6}, Policy(lookup=False)) == "memory"
    assert chosen({"memory": 0.2, "lookup": 0.3, "base": 0.8}, Policy()) == "base"
    assert chosen({"memory": 0.01, "lookup": 0.02, "base": 0.6}, Policy()) == "base", "no other source has any hope"


def test_several_near_wordings_of_a_fact_support_it():
    one, other = FACTS["velka"]
    near = [("velka", one, 0.8), ("velka", other, 0.79), ("velka", other, 0.79)]
    votes = [1.0, *[float(torch.tensor((0.79 - 0.8) / 0.05).exp())] * 2]
    assert support(near, "9020") == pytest.approx(sum(votes[1:]) / sum(votes))
    assert support(near, "Brisk") + support(near, "9020") == pytest.approx(1.0)
    assert support(near, "nobody") == support([], "Brisk") == 0.0


def test_features_are_of_order_one(composite):
    route, apart = evidence_of(composite, "Ormen")
    assert all(abs(value) <= 5 for value in apart.features(route).values())
    empty = before(Route((), (), "none", 1.0), None)
    assert all(abs(value) <= 5 for value in empty.values())
    unstored = Evidence(apart.lookup, Reply("x", 1e-12, 1e-30, None))
    assert all(abs(value) <= 5 for value in unstored.features(route).values())
    assert isinstance(apart.lookup, Fit)
