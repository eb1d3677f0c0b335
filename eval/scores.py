"""Scores and their intervals."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import bootstrap
from torchmetrics.functional.classification import binary_auroc

Numbers = NDArray[Any]


def normalise(text: str) -> str:
    """Lower case, without punctuation, articles and extra space (SQuAD; Rajpurkar et al. 2016, arXiv 1606.05250)."""
    text = "".join(" " if c in string.punctuation else c for c in text.lower())
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def exact_match(given: str, answer: str) -> float:
    """1 where the normalised texts are equal, else 0."""
    return float(normalise(given) == normalise(answer))


def token_f1(given: str, answer: str) -> float:
    """The harmonic mean of precision and recall over normalised words, 0 to 1."""
    a, b = normalise(given).split(), normalise(answer).split()
    common = sum((Counter(a) & Counter(b)).values())
    return 2 * common / (len(a) + len(b)) if common else 0.0


def contains(given: str, answer: str) -> float:
    """1 where the normalised answer stands in the normalised text as a run of whole words, else 0."""
    return float(f" {normalise(answer)} " in f" {normalise(given)} ")


def rouge_l(given: str, answer: str) -> float:
    """The F-measure of the longest common subsequence of words, without stemming, 0 to 1 (Lin 2004)."""
    return float(_rouge().score(answer, given)["rougeL"].fmeasure)


@lru_cache(maxsize=1)
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # it imports nltk, which takes a second

    return RougeScorer(["rougeL"])


def best(score: Callable[[str, str], float], given: str, answers: Sequence[str]) -> float:
    """The score against the answer that it is highest for."""
    return max(score(given, answer) for answer in answers)


def interval(scores: Sequence[float], clusters: Sequence[str], *, seed: int, resamples: int = 2000) -> dict[str, float]:
    """The mean with its 95 % percentile bootstrap interval: keys value, low, high.

    Wordings of one fact stand or fall together, so facts are resampled, not wordings.
    """
    sums, counts = _by_cluster(scores, clusters)

    def mean(total: Numbers, count: Numbers, axis: int = -1) -> Any:
        return total.sum(axis) / count.sum(axis)

    return _bootstrap(mean, (sums, counts), seed, resamples)


def difference(
    first: Sequence[float], second: Sequence[float], clusters: Sequence[str], *, seed: int, resamples: int = 2000
) -> dict[str, float]:
    """The mean of `second` less that of `first` on the same questions, with its 95 % paired bootstrap interval.

    Both runs' scores of a fact are resampled together, so what makes a fact hard for both cancels.
    """
    a, counts = _by_cluster(first, clusters)
    b, _ = _by_cluster(second, clusters)

    def gain(before: Numbers, after: Numbers, count: Numbers, axis: int = -1) -> Any:
        return (after.sum(axis) - before.sum(axis)) / count.sum(axis)

    return _bootstrap(gain, (a, b, counts), seed, resamples)


def _by_cluster(scores: Sequence[float], clusters: Sequence[str]) -> tuple[Numbers, Numbers]:
    """(sum of the scores, number of scores) of each cluster."""
    names, place = np.unique(np.array(clusters), return_inverse=True)
    return np.bincount(place, scores, len(names)), np.bincount(place, minlength=len(names)).astype(float)


def _bootstrap(
    statistic: Callable[..., Any], samples: tuple[Numbers, ...], seed: int, resamples: int
) -> dict[str, float]:
    value = float(statistic(*samples))
    if len(samples[0]) < 2:
        return {"value": value, "low": value, "high": value}
    found = bootstrap(
        samples,
        statistic,
        paired=True,
        n_resamples=resamples,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    low, high = found.confidence_interval
    return {"value": value, "low": float(low), "high": float(high)}


def auroc(known: Sequence[float], unrelated: Sequence[float]) -> float:
    """Area under the ROC curve of scores that should be high for known and low for unrelated questions."""
    scores = torch.tensor([*known, *unrelated])
    labels = torch.tensor([1] * len(known) + [0] * len(unrelated))
    return float(binary_auroc(scores, labels))
