"""Figures of questions, intervals that resample facts, tests: the project's only bootstrap, AUROC and calibration error.

A figure is computed for many weightings of the questions at once: the first weighs all alike, each other as often as a
resample drew their facts (the bootstrap of clusters; Davison and Hinkley 1997, section 3.8). Two figures under the same
weightings are a paired comparison. Where nothing counts under a weighting, the figure is NaN, and `value` and `interval`
tell it as None: what was not measured has no number.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lorary.errors import LoraryError

Weightings = Float[Tensor, "weightings questions"]
Figures = Float[Tensor, " weightings"]
RESAMPLES = 2000
BINS = 15


def weightings(clusters: Sequence[Hashable], *, resamples: int = RESAMPLES, seed: int = 0) -> Weightings:
    """How often each question counts: once, then in each resample as often as its cluster was drawn.

    Args:
        clusters: the fact of each question; all wordings of a fact are drawn together, since they stand or fall so.
    """
    number, place = _numbered(clusters)
    return _draws(number, resamples, seed)[:, place]


def nested_weightings(
    groups: Sequence[Hashable], members: Sequence[Hashable], *, resamples: int = RESAMPLES, seed: int = 0
) -> Weightings:
    """How often each question counts where groups are drawn first, and then of each drawn group as many members as it has.

    For questions that are alike within a topic (Davison and Hinkley 1997, section 3.8, strategy 2).

    Args:
        groups: the topic of each question.
        members: what is drawn within it; a member's questions are drawn together.
    """
    number, group = _numbered(groups)
    times = _draws(number, resamples, seed)[1:].long()
    generator = torch.Generator().manual_seed(seed + 1)
    weights = torch.ones(resamples + 1, len(groups))
    for i in range(number):
        rows = (group == i).nonzero().squeeze(-1)
        size, place = _numbered([members[row] for row in rows.tolist()])
        wanted = size * times[:, i : i + 1]
        drawn = torch.randint(size, (resamples, int(wanted.max())), generator=generator)
        counts = (torch.arange(drawn.shape[1]) < wanted).float()
        weights[1:, rows] = torch.zeros(resamples, size).scatter_add_(1, drawn, counts)[:, place]
    return weights


@lru_cache(maxsize=8)
def _draws(clusters: int, resamples: int, seed: int) -> Weightings:
    """How often each of so many clusters is drawn: once, then as each resample has it."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(max(clusters, 1), (resamples, clusters), generator=generator)
    times = torch.zeros(resamples, clusters).scatter_add_(1, drawn, torch.ones(resamples, clusters))
    return torch.cat([torch.ones(1, clusters), times])


def _numbered(clusters: Sequence[Hashable]) -> tuple[int, Int[Tensor, " questions"]]:
    """(how many clusters there are, the number of each question's)."""
    number = {cluster: i for i, cluster in enumerate(dict.fromkeys(clusters))}
    return len(number), torch.tensor([number[cluster] for cluster in clusters], dtype=torch.long)


def mean(scores: Sequence[float] | Sequence[int], weights: Weightings) -> Figures:
    """The mean score of the questions."""
    return weights.double() @ torch.tensor(scores, dtype=torch.double) / weights.double().sum(-1)


def cluster_mean(scores: Sequence[float] | Sequence[int], clusters: Sequence[Hashable], *, seed: int = 0) -> Figures:
    """`mean` under the `weightings` of the clusters, without a weight for each question: many scores need less memory."""
    number, place = _numbered(clusters)
    drawn = _draws(number, RESAMPLES, seed).double()
    sums = torch.zeros(number, dtype=torch.double).index_add(0, place, torch.tensor(scores, dtype=torch.double))
    return drawn @ sums / (drawn @ torch.bincount(place, minlength=number).double())


def crossed_mean(
    scores: Float[Tensor, "runs questions"], runs: Float[Tensor, "weightings runs"], questions: Weightings
) -> Figures:
    """The mean score of several runs on the same questions, both weighed: runs and facts are resampled apart.

    Every run met the same questions, so a resample draws its facts once for all of its runs: drawn anew for each, what
    makes a fact hard would seem to average out (the pigeonhole bootstrap; Owen 2007, doi 10.1214/07-AOAS122).
    """
    runs, questions, scores = runs.double(), questions.double(), scores.double()
    return (runs * (questions @ scores.T)).sum(-1) / (runs.sum(-1) * questions.sum(-1))


def auroc(
    known: Float[Tensor, " known"],
    unrelated: Float[Tensor, " unrelated"],
    weights: Float[Tensor, "weightings known"] | None = None,
    others: Float[Tensor, "weightings unrelated"] | None = None,
) -> Figures:
    """The probability that a known question scores above an unrelated one, ties counting half (Mann and Whitney 1947).

    Args:
        weights, others: of the known and of the unrelated ones; without them each counts once, and there is one figure.
    """
    a = torch.ones(1, len(known)) if weights is None else weights
    b = torch.ones(1, len(unrelated)) if others is None else others
    above = (known[:, None] > unrelated).double() + (known[:, None] == unrelated).double() / 2
    return ((a.double() @ above) * b).sum(-1) / (a.double().sum(-1) * b.sum(-1))


def calibration_error(
    confidence: Float[Tensor, " queries"],
    right: Bool[Tensor, " queries"],
    weights: Float[Tensor, "weightings queries"] | None = None,
    *,
    bins: int = BINS,
) -> Figures:
    """The expected calibration error over bins of equal width (Naeini et al. 2015): 0 where a router is as sure as right.

    Args:
        confidence: 0 to 1.
        weights: of the queries; without them each counts once, and there is one figure.
    """
    counts = torch.ones(1, len(confidence)) if weights is None else weights
    inside = torch.nn.functional.one_hot(bins_of(confidence, bins), bins).double()
    gaps = right.double() - confidence.double()
    return ((counts.double() * gaps) @ inside).abs().sum(-1) / counts.double().sum(-1)


def top_calibration_error(probabilities: Float[Tensor, "queries classes"], right: Int[Tensor, " queries"]) -> float:
    """The calibration error of the likeliest class, whose probability is the confidence, to be the right one.

    Raises:
        LoraryError: no queries.
    """
    confidence, chosen = probabilities.max(-1)
    error = value(calibration_error(confidence, chosen == right))
    if error is None:
        raise LoraryError("a calibration error needs queries, and there are none; give one or more")
    return error


def bins_of(confidence: Float[Tensor, " queries"], bins: int = BINS) -> Int[Tensor, " queries"]:
    """The number of the bin that each confidence is in; a bin holds its upper edge and not its lower one."""
    edges = torch.linspace(0, 1, bins + 1, device=confidence.device)[1:-1]
    return torch.bucketize(confidence.contiguous(), edges)


def value(figures: Figures) -> float | None:
    """The figure of all questions, None where none counts."""
    return None if bool(figures[0].isnan()) else float(figures[0])


def interval(figures: Figures) -> dict[str, float] | None:
    """The figure with its 95 % percentile interval: keys value, low, high. None where none counts.

    Resamples under which nothing counts (of few facts, one side alone may be drawn) have no figure and are left out.
    """
    figure = value(figures)
    if figure is None:
        return None
    drawn = figures[1:][~figures[1:].isnan()]
    drawn = drawn if len(drawn) else figures[:1]
    low, high = drawn.quantile(torch.tensor([0.025, 0.975], dtype=figures.dtype)).tolist()
    return {"value": figure, "low": low, "high": high}


def wilson(share: float, count: int) -> dict[str, float]:
    """The share of `count` questions with its 95 % interval: keys value, low, high.

    Wilson 1927, doi 10.1080/01621459.1927.10502953.
    """
    z = 1.96  # of 95 %
    centre, spread = share + z * z / (2 * count), z * math.sqrt(share * (1 - share) / count + z * z / (4 * count**2))
    whole = 1 + z * z / count
    return {"value": share, "low": max(0.0, (centre - spread) / whole), "high": min(1.0, (centre + spread) / whole)}


def same_distribution(sample: Sequence[float], other: Sequence[float], *, greater: bool = False) -> float:
    """The p-value of two samples under one distribution, by the test of Kolmogorov and Smirnov (Hodges 1958).

    Args:
        greater: against the first sample's values being the greater ones, not against any other distribution.
    """
    from scipy.stats import ks_2samp

    return float(ks_2samp(sample, other, alternative="less" if greater else "two-sided").pvalue)


def upper_bound(sample: Sequence[float], level: float) -> float:
    """What one further value of a sample's normal distribution exceeds with this probability (Student's t; Geisser 1993).

    Infinite for fewer than two values, which tell no spread.
    """
    from scipy.stats import t

    count = len(sample)
    if count < 2:
        return math.inf
    values = torch.tensor(sample, dtype=torch.double)
    return float(values.mean() + t.ppf(1 - level, count - 1) * values.std() * math.sqrt(1 + 1 / count))
