"""How strong the base's own belief is against an answer, and what that does to each condition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lorary.eval.predictions import Prediction, scored

THIRDS = ("weak", "middle", "strong")
"""How strong the prior is: thirds of a kind's questions, by `against`."""


def against(likelihoods: Mapping[str, float], answer: str) -> float:
    """By how much the likeliest other option is likelier than the answer, in nats a token; below 0 where it is not."""
    return max(value for option, value in likelihoods.items() if option != answer) - likelihoods[answer]


def by_prior(predictions: Mapping[str, Sequence[Prediction]], seed: int) -> dict[str, Any] | None:
    """The scores of each condition by kind and by strength of the base's prior; None without the base or options.

    Holds kind → its thirds in the order of `THIRDS`, each with `questions`, the least and the greatest prior (`against`
    under the condition base) and `conditions`, the scores by condition.
    """
    kinds: dict[str, list[tuple[float, int]]] = {}
    for number, p in enumerate(predictions.get("base", ())):
        if len(p["likelihoods"]) > 1:
            kinds.setdefault(p["kind"], []).append((against(p["likelihoods"], p["answer"]), number))
    told = {kind: [_third(part, predictions, seed) for part in _thirds(held)] for kind, held in kinds.items()}
    return told or None


def _thirds(held: list[tuple[float, int]]) -> list[list[tuple[float, int]]]:
    """Up to three parts of like size, weakest prior first."""
    order = sorted(held)
    return [[order[i] for i in part] for part in np.array_split(np.arange(len(order)), len(THIRDS)) if len(part)]


def _third(
    part: Sequence[tuple[float, int]], predictions: Mapping[str, Sequence[Prediction]], seed: int
) -> dict[str, Any]:
    return {
        "questions": len(part),
        "least": part[0][0],
        "greatest": part[-1][0],
        "conditions": {name: scored([asked[i] for _, i in part], seed) for name, asked in predictions.items()},
    }
