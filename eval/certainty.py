"""What the likelihoods of answers tell: whether an answer is right, and how strong the base's own belief is against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from lorary.eval.figures import Area, Certainty, Figures, PriorThird
from lorary.eval.records import Prediction
from lorary.eval.scoring import figures, grouped
from lorary.statistics import auroc, interval, weightings


def certainty(predictions: Sequence[Prediction], seed: int) -> Certainty | None:
    """How well the probability of an answer parts right answers from others: AUROC with an interval that resamples facts.

    `wrong` is against wrong answers to what a memory holds; `by_kind` against the answers to what none holds, by the kind
    of question. Only answers of memories count: what the base says without one is no recall; of what memories hold, only
    what the headline counts. None without a right one.
    """
    sure = [p for p in predictions if p.probability is not None and p.answered_by]
    known = [p for p in sure if p.memory and p.scored]
    right = [p for p in known if p.exact_match == 1]
    if not right:
        return None
    kinds = grouped((p for p in sure if not p.memory), lambda p: p.kind)
    return Certainty(
        right=len(right),
        wrong=_against(right, [p for p in known if p.exact_match == 0], seed),
        by_kind={kind: _against(right, unknown, seed) for kind, unknown in sorted(kinds.items())},
    )


def _against(right: Sequence[Prediction], others: Sequence[Prediction], seed: int) -> Area | None:
    sure, unsure = (torch.tensor([p.probability for p in side]) for side in (right, others))
    drawn = weightings([p.fact for p in [*right, *others]], seed=seed)
    area = interval(auroc(sure, unsure, drawn[:, : len(right)], drawn[:, len(right) :]))
    return area and Area(**area, questions=len(others))


THIRDS = ("weak", "middle", "strong")
"""How strong the prior is: thirds of a kind's questions, by `against`."""


def against(likelihoods: Mapping[str, float], answer: str) -> float:
    """By how much the likeliest other option is likelier than the answer, in nats a token; below 0 where it is not."""
    return max(value for option, value in likelihoods.items() if option != answer) - likelihoods[answer]


def by_prior(predictions: Mapping[str, Sequence[Prediction]], seed: int) -> dict[str, list[PriorThird]]:
    """Kind → its thirds, in the order of `THIRDS`, by strength of the base's prior; nothing without the base or options.

    The prior is `against` under the condition base.
    """
    kinds: dict[str, list[tuple[float, int]]] = {}
    for number, p in enumerate(predictions.get("base", ())):
        if len(p.likelihoods) > 1 and p.answer is not None:
            kinds.setdefault(p.kind, []).append((against(p.likelihoods, p.answer), number))
    return {kind: [_third(part, predictions, seed) for part in _thirds(own)] for kind, own in kinds.items()}


def _thirds(priors: list[tuple[float, int]]) -> list[list[tuple[float, int]]]:
    """Up to three parts of like size, weakest prior first."""
    order = sorted(priors)
    return [[order[i] for i in part] for part in np.array_split(np.arange(len(order)), len(THIRDS)) if len(part)]


def _third(part: Sequence[tuple[float, int]], predictions: Mapping[str, Sequence[Prediction]], seed: int) -> PriorThird:
    numbers = [number for _, number in part]
    return PriorThird(
        questions=len(part),
        least=part[0][0],
        greatest=part[-1][0],
        conditions={name: Figures(**figures([own[i] for i in numbers], seed)) for name, own in predictions.items()},
    )
