"""How strong the base's own belief is against an answer, and what that does to each condition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lorary.eval.figures import Figures, PriorThird
from lorary.eval.records import Prediction
from lorary.eval.scoring import figures

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
