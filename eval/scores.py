"""Scores and their intervals."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from scipy.stats import bootstrap
from torchmetrics.functional.classification import binary_auroc


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


def interval(scores: Sequence[float], clusters: Sequence[str], *, seed: int, resamples: int = 2000) -> dict[str, float]:
    """The mean with its 95 % percentile bootstrap interval: keys value, low, high.

    Wordings of one fact stand or fall together, so facts are resampled, not wordings.
    """
    by_cluster: dict[str, list[float]] = {}
    for score, cluster in zip(scores, clusters, strict=True):
        by_cluster.setdefault(cluster, []).append(score)
    means = np.array([np.mean(held) for held in by_cluster.values()])
    value = float(np.mean(scores))
    if len(means) < 2 or np.ptp(means) == 0:
        return {"value": value, "low": value, "high": value}
    found = bootstrap((means,), np.mean, n_resamples=resamples, method="percentile", rng=np.random.default_rng(seed))
    low, high = found.confidence_interval
    return {"value": value, "low": float(low), "high": float(high)}


def auroc(known: Sequence[float], unrelated: Sequence[float]) -> float:
    """Area under the ROC curve of scores that should be high for known and low for unrelated questions."""
    scores = torch.tensor([*known, *unrelated])
    labels = torch.tensor([1] * len(known) + [0] * len(unrelated))
    return float(binary_auroc(scores, labels))
