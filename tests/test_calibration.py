"""Calibration: thresholds, and what the terms of a gate weigh against each other."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from lorary.research.fact_sets import bare_bank, drawn
from lorary.router_training.calibration import CalibrationWarning, calibrate, outcome, routed_share
from lorary.router_training.data import RoutingData, about_others, read_questions
from lorary.router_training.expectation import raised
from lorary.router_training.scales import fit_scales
from lorary.router_training.settings import Training
from lorary.router_training.thresholds import best_threshold
from lorary.router_training.training import fit
from lorary.routing.features import KINDS, Features
from lorary.routing.gate import DEFAULT_FEATURES, Gate, weighed
from lorary.routing.policy import Policy, decide
from lorary.routing.router import Router
from lorary.routing.starting import bank_names, new_gate
from lorary.statistics import top_calibration_error


def threshold(scores, good, known, max_wrong_routes=1.0, max_known_lost=1.0, **given_too):
    given = torch.tensor(scores), torch.tensor(good).bool(), torch.tensor(known).bool()
    limits = {"max_wrong_routes": max_wrong_routes, "max_known_lost": max_known_lost}
    return best_threshold(*given, **limits, **given_too)


@pytest.mark.parametrize(
    ("scores", "good", "value"),
    [([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], 0.5), ([0.3, 0.5, 0.7], [0, 1, 1], 0.4)],
)
def test_a_threshold_parts_good_from_bad(scores, good, value):
    found = threshold(scores, good, good)
    assert found.value == pytest.approx(value)
    assert (found.wrong_routes, found.known_lost) == (0, 0)


def test_a_known_question_that_goes_wrong_costs_no_right_one():
    """Leaving it would not make it right: the cut parts known questions from unrelated ones."""
    scores, good, known = [0.9, 0.6, 0.58, 0.55, 0.5, 0.1], [1, 0, 0, 0, 1, 0], [1, 1, 1, 1, 1, 0]
    found = threshold(scores, good, known)
    assert (found.value, found.known_lost) == (pytest.approx(0.3), 0)
    assert threshold(scores, good, known, max_wrong_routes=0.1).value == pytest.approx(0.75)


def test_of_a_rest_one_known_question_is_not_worth_many_unrelated_ones():
    scores, good, known = [0.9, 0.6, 0.5, 0.4], [1, 0, 0, 1], [1, 0, 0, 1]
    assert threshold(scores, good, known, among=(100, 4, 0)).value == pytest.approx(0.75)
    assert threshold(scores, good, known, among=(2, 100, 0)).value < 0.4


def test_a_threshold_keeps_its_target_and_tells_what_it_costs():
    scores = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
    good, known = [1, 1, 1, 0, 1, 0], [1, 1, 1, 1, 1, 0]
    loose = threshold(scores, good, known, max_wrong_routes=0.2, max_known_lost=0.0)
    assert (loose.value, loose.wrong_routes, loose.known_lost) == (pytest.approx(0.45), 0.2, 0)
    strict = threshold(scores, good, known, max_wrong_routes=0.1, max_known_lost=0.0)
    assert (strict.value, strict.wrong_routes, strict.known_lost) == (pytest.approx(0.65), 0, 0.4)
    # One wrong route made before: three right ones are 1 wrong in 4, and no cut reaches 1 in 5.
    assert threshold(scores, good, known, max_wrong_routes=0.25, before=(1, 1)).value == pytest.approx(0.65)
    assert threshold(scores, good, known, max_wrong_routes=0.2, before=(1, 1)).value > 0.9


def test_what_was_made_up_parts_but_does_not_count_as_wrong():
    scores, good, known = [0.9, 0.8, 0.7, 0.6, 0.5], [1, 0, 1, 1, 0], [1, 0, 1, 1, 0]
    real = torch.tensor([1, 0, 1, 1, 0]).bool()
    free = threshold(scores, good, known, max_wrong_routes=0.1, counted=real)
    assert (free.value, free.wrong_routes) == (pytest.approx(0.55), 0), "the made-up one at 0.8 is no wrong route"
    assert threshold(scores, good, known, max_wrong_routes=0.1).value == pytest.approx(0.85)


@pytest.fixture(scope="module")
def asked(encoder):
    bank = bare_bank(drawn("overlapping", 0, 6), encoder)
    gate = partial(new_gate, bank, encoder, 0, DEFAULT_FEATURES)
    names = bank_names(bank)
    known = [wording for memory in bank for fact in memory.facts for wording in fact.held_out]
    return bank, gate, known, about_others(known, names, 7)


def test_questions_about_unknown_names_are_left_to_the_base(asked, encoder, tmp_path):
    bank, gate, known, others = asked
    shares = {}
    for unknown_names in (False, True):
        torch.manual_seed(0)
        router = Router(bank, gate(), Policy(), lambda: encoder)
        data = RoutingData(router, read_questions(), batch_size=64, seed=0, unknown_names=unknown_names)
        assert len(data.strangers) == (unknown_names and sum(e.memory < 16 for e in data.validation.examples))
        fit(router, data, Training(max_epochs=2), tmp_path, quiet=True)
        figures = calibrate(router, data)
        router.policy = Policy(**figures["policy"])
        shares[unknown_names] = [
            float((router.decide(router.features(texts)).source > 0).float().mean()) for texts in (known, others)
        ]
        assert figures["calibration"]["unknown_names"] == len(data.strangers)
    assert shares[True][0] >= shares[False][0] - 0.02
    assert max(shares[True][1], shares[False][1]) < 0.1, "what the letters do not know is told even where nobody asks"


def test_a_gate_that_is_too_sure_or_unsure_is_calibrated():
    generator = torch.Generator().manual_seed(0)
    right = torch.randint(0, 3, (400,), generator=generator)
    told = torch.where(torch.rand(400, generator=generator) < 0.8, right, (right + 1) % 3)  # right four times in five
    for scale in (2.0, 6.0):
        logits = torch.nn.functional.one_hot(told, 3) * scale
        start = {"told": torch.zeros(()), "none": torch.tensor(-50.0)}
        found = fit_scales({"told": logits}, start, right)
        cooled = weighed({"told": logits}, {"told": found["told"].exp()}, found["none"]).softmax(-1)
        assert top_calibration_error(cooled, right) < top_calibration_error(logits.softmax(-1), right)
        assert top_calibration_error(cooled, right) < 0.01


def test_a_term_that_means_nothing_is_found_out():
    generator = torch.Generator().manual_seed(0)
    right = torch.randint(0, 4, (400,), generator=generator)
    knows = torch.nn.functional.one_hot(right, 4) * 0.1 + torch.rand(400, 4, generator=generator) * 0.05
    terms = {"flatters": torch.rand(400, 4, generator=generator), "knows": knows}
    start = {"flatters": torch.tensor(2.3), "knows": torch.tensor(2.3), "none": torch.tensor(5.0)}
    found = fit_scales(terms, start, right)
    before, after = (
        weighed(terms, {name: scales[name].exp() for name in terms}, scales["none"]) for scales in (start, found)
    )
    assert float((before.argmax(-1) == right).float().mean()) < 0.5
    assert float((after.argmax(-1) == right).float().mean()) == 1.0
    assert found["flatters"] < start["flatters"]
    assert found["knows"] > start["knows"]


def test_a_gate_s_logits_are_its_terms_by_their_scales(composite):
    gate = Gate(composite.gate.keys.data, 0, PLAIN)
    gate.log_tau.data.fill_(0.5)
    gate.log_gamma.data.fill_(1.5)
    questions, width = 4, gate.keys.shape[1]
    features = Features(
        torch.randn(questions, width),
        torch.zeros(questions, 3),
        torch.randn(questions, width),
        torch.rand(questions, 3),
    )
    terms = gate.terms(features)
    assert list(gate.scales) == ["embedding", "asked", "names", "none"]
    expected = sum(gate.scales[name].exp() * term for name, term in terms.items())
    logits = gate(features)
    assert torch.allclose(logits[:, :-1], expected, atol=1e-5)
    assert torch.equal(logits[:, -1], gate.none.expand(4))


def test_a_share_of_no_queries_is_no_figure():
    policy, memory = Policy(t_gate=0.5, t_index=0.9), torch.tensor([0, 1])
    sure = torch.tensor([[0.9, 0.05, 0.05], [0.1, 0.8, 0.1]])
    votes = torch.zeros(2, 2)
    told = outcome(decide(sure, votes, policy), memory)
    assert told == {"top1": 1.0, "known_lost": 0.0, "unrelated_routed": None, "wrong_routes": 0.0}
    unsure = decide(torch.full((2, 3), 1 / 3), votes, policy)
    none_known = outcome(unsure, torch.tensor([2, 2]))
    assert none_known == {"top1": None, "known_lost": None, "unrelated_routed": 0.0, "wrong_routes": None}
    assert routed_share(unsure.rows(torch.tensor([], dtype=torch.long))) is None


PLAIN = ("embedding", "asked", "names")
"""What gates read that decide on "none" as on one memory more."""


@pytest.mark.parametrize(("features", "unrelated"), [(PLAIN, 3), (DEFAULT_FEATURES, 0)])  # every fourth is kept
def test_thresholds_without_questions_that_no_memory_answers_stay_and_it_is_said(
    kept_bank, base, encoder, features, unrelated
):
    for name in kept_bank.names[1:]:
        kept_bank.remove(name)  # a topic that is left out would be a stranger to the others
    router = Router(
        kept_bank, new_gate(kept_bank, encoder, 0, features).requires_grad_(False), Policy(), lambda: encoder
    )
    data = RoutingData(router, read_questions()[:unrelated], batch_size=8, seed=0, unknown_names=False)
    with pytest.warns(CalibrationWarning, match="there are no questions that no memory answers"):
        told = calibrate(router, data)
    assert told["policy"] == {}
    if features == PLAIN:
        assert told["calibration"]["achieved"]["unrelated_routed"] is None
        assert told["calibration"]["achieved"]["unknown_names_routed"] is None
        assert told["calibration"]["achieved"]["top1"] is not None


def test_a_gate_without_contents_needs_validation_wordings_and_it_is_said(bank, encoder):
    router = Router(bank, new_gate(bank, encoder, 0, PLAIN).requires_grad_(False), Policy(), lambda: encoder)
    data = RoutingData(router, read_questions(), batch_size=8, seed=0, unknown_names=False)
    with pytest.warns(CalibrationWarning, match="there are no validation wordings"):
        assert calibrate(router, data)["policy"] == {}


@pytest.mark.parametrize(
    ("cut", "scores", "least"),
    [
        (0.2, [0.3, 0.45, 0.6, 0.8, 0.9, 0.95, 0.96, 0.97, 0.98, 0.99, 0.99], 0.45),
        (0.2, [0.7] * 20, 0.5),
        (0.6, [0.7] * 20, 0.6),
        (0.2, [0.1, 0.7], 0.2),
    ],
)
def test_what_trained_wordings_alone_would_let_through_is_kept_out_while_a_tenth_of_them_is_lost_at_most(
    cut, scores, least
):
    assert raised(cut, torch.tensor(scores)) == pytest.approx(least)


@pytest.mark.parametrize("features", [DEFAULT_FEATURES, ("embedding", *DEFAULT_FEATURES)])
def test_without_validation_wordings_a_gate_is_the_sum_of_what_it_reads(bank, encoder, features):
    router = Router(bank, new_gate(bank, encoder, 0, features).requires_grad_(False), Policy(), lambda: encoder)
    figures = calibrate(router, RoutingData(router, read_questions(), batch_size=8, seed=0))
    learned = [scale for name, scale in router.gate.scales.items() if name not in (*KINDS, "names", "none")]
    assert len(learned) == len(features) - 2
    assert all(float(scale.exp()) < 1e-6 for scale in learned)
    assert figures["policy"]["t_gate"] > 0
    assert figures["calibration"]["achieved"]["known_lost"] * figures["calibration"]["queries"] <= 1.01, "one of few"
