"""Figures and their intervals, against torchmetrics, scipy and what can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import bootstrap
from torchmetrics.functional.classification import binary_auroc

from lorary.statistics import auroc, crossed_mean, interval, mean, weightings


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def test_weightings_count_whole_facts():
    weights = weightings(["a", "a", "b", "c"], resamples=500)
    assert weights[0].tolist() == [1, 1, 1, 1]
    assert torch.equal(weights[:, 0], weights[:, 1]), "wordings of one fact are drawn together"
    assert torch.equal((weights[1:, 1:]).sum(-1), torch.full((500,), 3.0)), "as many facts are drawn as there are"
    assert torch.equal(weights, weightings([7, 7, 8, 9], resamples=500)), "the same seed draws the same"


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
