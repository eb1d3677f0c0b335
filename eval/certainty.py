"""What the likelihoods of answers tell: whether an answer is right, and how strong the base's own belief is against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lorary.eval.figures import Area, Certainty, Figures, PriorThird
from lorary.eval.records import Prediction
from lorary.eval.scoring import figures, grouped
from lorary.statistics import auroc, interval, weightings


def certainty(predictions: Sequence[Prediction], seed: int) -> Certainty | None:
    """How well the probability of an answer parts right answers from others: AUROC with an interval that resamples facts.

    `wrong` is against wrong answers to what a memory holds; `by_kind` against the answers to what none holds, by the kind
    of question. Only answers of memories count: what the base says without one is no recall; of what memories hold, only
    what the headline counts. Where sources were weighed, their calibrated probability that something known is right is told
    of every question, and all count. None without a right one.
    """
    sure = [p for p in predictions if p.known is not None or (p.probability is not None and p.answered_by)]
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
    sure, unsure = (
        torch.tensor([p.known if p.known is not None else p.probability for p in side]) for side in (right, others)
    )
    drawn = weightings([p.fact for p in [*right, *others]], seed=seed)
    area = interval(auroc(sure, unsure, drawn[:, : len(right)], drawn[:, len(right) :]))
    return area and Area(**area, questions=len(others))


COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.5)
"""Shares of the questions that are answered, the surest first."""


def selective(predictions: Sequence[Prediction]) -> dict[str, float] | None:
    """Share of the questions answered, the surest first → the share of those answers that is right.

    The risk-coverage curve (El-Yaniv and Wiener 2010) at `COVERAGES`, of what the headline counts. None where an answer
    does not tell how sure it is.
    """
    scored = [(p.confidence, p.exact_match) for p in predictions if p.scored and p.exact_match is not None]
    if not scored or any(confidence is None for confidence, _ in scored):
        return None
    sure, right = torch.tensor([[float(c or 0.0), match] for c, match in scored], dtype=torch.double).T
    return {f"{share:g}": right_among_surest(sure, right, share) for share in COVERAGES}


def right_among_surest(
    confidence: Float[Tensor, " questions"], right: Float[Tensor, " questions"], share: float
) -> float:
    """The mean of `right` over the surest share of the questions, at least one; of those that are equally sure as the last,
    as many count as are wanted, each in part."""
    wanted = max(1.0, round(share * len(confidence)))
    last = confidence.sort(descending=True).values[int(wanted) - 1]
    above, equal = confidence > last, confidence == last
    part = (wanted - float(above.sum())) / float(equal.sum())
    return float((right[above].sum() + part * right[equal].sum()) / wanted)


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
