"""Figures of questions with intervals that resample facts, for any figure and any two that are compared.

A figure is computed for many weightings of the questions at once: the first weighs all alike, each other as often as a
resample drew their facts (the bootstrap of clusters; Davison and Hinkley 1997, section 3.8). Two figures under the same
weightings are a paired comparison. Libraries resample one sample for one figure; where that is all, `lorary.eval` uses
scipy's bootstrap and torchmetrics' AUROC.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

Weightings = Float[Tensor, "weightings questions"]
Figures = Float[Tensor, " weightings"]


def weightings(clusters: Sequence[Hashable], *, resamples: int = 2000, seed: int = 0) -> Weightings:
    """How often each question counts: once, then in each resample as often as its cluster was drawn.

    Args:
        clusters: the fact of each question; all wordings of a fact are drawn together, since they stand or fall so.
    """
    number = {cluster: i for i, cluster in enumerate(dict.fromkeys(clusters))}
    generator = torch.Generator().manual_seed(seed)
    drawn = (torch.randint(len(number), (len(number),), generator=generator) for _ in range(resamples))
    times = [torch.ones(len(number)), *(torch.bincount(one, minlength=len(number)).float() for one in drawn)]
    return torch.stack(times)[:, torch.tensor([number[cluster] for cluster in clusters])]


def mean(scores: Sequence[float] | Sequence[int], weights: Weightings) -> Figures:
    """The mean score of the questions."""
    return weights @ torch.tensor(scores, dtype=torch.float) / weights.sum(-1)


def crossed_mean(
    scores: Float[Tensor, "runs questions"], runs: Float[Tensor, "weightings runs"], questions: Weightings
) -> Figures:
    """The mean score of several runs on the same questions, both weighed: runs and facts are resampled apart.

    Every run met the same questions, so a resample draws its facts once for all of its runs: drawn anew for each, what
    makes a fact hard would seem to average out (the pigeonhole bootstrap; Owen 2007, doi 10.1214/07-AOAS122).
    """
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


def interval(figures: Figures) -> dict[str, float]:
    """The figure with its 95 % percentile interval, to four decimals: keys value, low, high."""
    low, high = figures[1:].quantile(torch.tensor([0.025, 0.975], dtype=figures.dtype)).tolist()
    return {"value": round(float(figures[0]), 4), "low": round(low, 4), "high": round(high, 4)}
