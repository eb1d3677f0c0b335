"""Figures and their intervals, against torchmetrics, scipy and what can be counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import bootstrap
from torchmetrics.functional.classification import binary_auroc, binary_calibration_error

from lorary.errors import LoraryError
from lorary.statistics import (
    auroc,
    bins_of,
    calibration_error,
    cluster_mean,
    crossed_mean,
    interval,
    mean,
    nested_weightings,
    top_calibration_error,
    value,
    weightings,
    wilson,
)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def test_weightings_count_whole_facts():
    weights = weightings(["a", "a", "b", "c"], resamples=500)
    assert weights[0].tolist() == [1, 1, 1, 1]
    assert torch.equal(weights[:, 0], weights[:, 1]), "wordings of one fact are drawn together"
    assert torch.equal((weights[1:, 1:]).sum(-1), torch.full((500,), 3.0)), "as many facts are drawn as there are"
    assert torch.equal(weights, weightings([7, 7, 8, 9], resamples=500)), "the same seed draws the same"


def test_nested_weightings_draw_topics_and_then_their_questions():
    topics, questions = ["a", "a", "a", "b", "b", "c"], [1, 1, 2, 1, 2, 1]
    weights = nested_weightings(topics, questions, resamples=500)
    assert weights[0].tolist() == [1] * 6
    assert torch.equal(weights[:, 0], weights[:, 1]), "a question that is asked twice is drawn as one"
    times = weightings(["a", "b", "c"], resamples=500)
    drawn = torch.stack([weights[:, 1] + weights[:, 2], weights[:, 3] + weights[:, 4], weights[:, 5]], -1)
    assert torch.equal(drawn, times * torch.tensor([2, 2, 1])), "of a drawn topic as many questions as it has"
    assert (weights[1:, 1] != weights[1:, 2]).any(), "and not each of them as often"
    alone = nested_weightings(topics, [0, 0, 0, 1, 1, 2], resamples=500)
    assert torch.equal(alone, weightings(topics, resamples=500)), "topics of one question are clusters"


def test_nested_intervals_are_as_wide_as_their_theory(generator):
    """Of 40 topics of 10 questions each, whose means differ: the variance is that of the topics' means, and that within."""
    means = torch.rand(40, 1, generator=generator)
    scores = (torch.rand(40, 10, generator=generator) < means).float()
    rows = [(topic, question) for topic in range(40) for question in range(10)]
    figures = mean(scores.flatten().tolist(), nested_weightings(*zip(*rows, strict=True), resamples=5000))
    between, within = scores.mean(1).var(correction=0) / 40, scores.var(1, correction=0).mean() / 400
    assert float(figures[1:].std()) == pytest.approx(float((between + within).sqrt()), rel=0.05)


def test_an_interval_is_scipy_s(generator):
    facts = [f"f{i // 2}" for i in range(400)]
    scores = (torch.rand(400, generator=generator) < 0.8).int()
    ours = interval(mean(scores.tolist(), weightings(facts, resamples=9999)))
    by_fact = scores.view(200, 2).float().mean(1).numpy()
    rng = np.random.default_rng(0)
    theirs = bootstrap((by_fact,), np.mean, n_resamples=9999, method="percentile", rng=rng).confidence_interval
    assert ours["value"] == pytest.approx(float(by_fact.mean()), abs=1e-4)
    assert (ours["low"], ours["high"]) == pytest.approx(tuple(theirs), abs=0.004)
    assert interval(mean([1, 1], weightings(["a", "b"]))) == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_an_auroc_is_torchmetrics_s_and_follows_its_weights(generator):
    known, other = (torch.rand(n, generator=generator).mul(20).round() / 20 for n in (30, 20))  # many ties

    def reference(a, b):
        labels = torch.cat([torch.ones(len(a)), torch.zeros(len(b))]).int()
        return float(binary_auroc(torch.cat([a, b]), labels))

    assert float(auroc(known, other)) == pytest.approx(reference(known, other), abs=1e-6)
    some, twice = torch.zeros(1, 30), torch.ones(1, 20)
    some[:, :10], twice[:, 5:] = 1, 2
    expected = reference(known[:10], torch.cat([other, other[5:]]))
    assert float(auroc(known, other, some, twice)) == pytest.approx(expected, abs=1e-6)
    assert float(auroc(torch.tensor([0.9, 0.4]), torch.tensor([0.1, 0.4]))) == pytest.approx(3.5 / 4)


def test_runs_and_facts_are_resampled_apart(generator):
    scores = torch.rand(4, 50, generator=generator)
    runs, facts = weightings(range(4), seed=1), weightings(range(50), seed=0)
    found = crossed_mean(scores, runs, facts)
    assert float(found[0]) == pytest.approx(float(scores.mean()))
    drawn_runs, drawn_facts = runs[7].long(), facts[7].long()
    whole = scores.repeat_interleave(drawn_runs, 0).repeat_interleave(drawn_facts, 1)
    assert float(found[7]) == pytest.approx(float(whole.mean()), abs=1e-6)
    # Where runs are alike, or facts are, only the other varies: the variance of a mean of draws with replacement.
    alike = crossed_mean(scores[:1].expand(4, 50), runs, facts)[1:]
    assert float(alike.var()) == pytest.approx(float(scores[0].var(correction=0)) / 50, rel=0.1)
    even = crossed_mean(scores[:, :1].expand(4, 50), runs, facts)[1:]
    assert float(even.var()) == pytest.approx(float(scores[:, 0].var(correction=0)) / 4, rel=0.1)


def test_a_calibration_error_is_torchmetrics_s(generator):
    sure = torch.rand(200, generator=generator)
    right = torch.rand(200, generator=generator) < sure.square()
    for bins in (10, 15):
        theirs = float(binary_calibration_error(sure, right.long(), n_bins=bins, norm="l1"))
        assert value(calibration_error(sure, right, bins=bins)) == pytest.approx(theirs, abs=1e-6)
    assert bins_of(torch.tensor([0.0, 0.1, 0.101, 0.95, 1.0]), 10).tolist() == [0, 0, 1, 9, 9]


def test_a_weighted_calibration_error_is_the_plain_one_of_what_counts(generator):
    once, doubled = torch.ones(1, 30), torch.cat([torch.full((1, 10), 2.0), torch.zeros(1, 20)], dim=1)
    logits, right = torch.randn(30, 4, generator=generator), torch.randint(0, 4, (30,), generator=generator)
    sure, chosen = logits.softmax(-1).max(-1)
    plain, part = (top_calibration_error(logits[:n].softmax(-1), right[:n]) for n in (30, 10))
    assert value(calibration_error(sure, chosen == right, once)) == pytest.approx(plain)
    assert value(calibration_error(sure, chosen == right, doubled)) == pytest.approx(part)


def test_a_mean_of_clusters_is_the_mean_under_their_weightings(generator):
    scores = torch.rand(41, generator=generator).tolist()
    facts = [f"f{i % 13}" for i in range(41)]
    assert torch.allclose(cluster_mean(scores, facts, seed=3), mean(scores, weightings(facts, seed=3)))


def test_what_was_not_measured_has_no_figure(generator):
    none, some = torch.zeros(0), torch.rand(4, generator=generator)
    assert interval(cluster_mean([], [])) is None
    assert interval(mean([], weightings([]))) is None
    assert value(auroc(some, none)) is None
    assert value(auroc(none, some)) is None
    assert value(calibration_error(none, none.bool())) is None
    with pytest.raises(LoraryError, match="needs queries"):
        top_calibration_error(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long))
    # Of two facts, one a side, many resamples hold one side alone: those have no figure, and the rest tell the interval.
    drawn = weightings(["known", "unrelated"])
    area = auroc(torch.tensor([0.9]), torch.tensor([0.2]), drawn[:, :1], drawn[:, 1:])
    assert bool(area.isnan().any())
    assert interval(area) == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_wilson_against_its_definition():
    for share, count in ((0.0, 25), (0.5, 100), (0.96, 25), (1.0, 400)):
        found = wilson(share, count)
        low, high = found["low"], found["high"]
        assert 0 <= low <= share <= high <= 1
        for bound in {low, high} - {0.0, 1.0, share}:
            assert abs(bound - share) == pytest.approx(1.96 * math.sqrt(bound * (1 - bound) / count))
