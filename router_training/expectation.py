"""What to expect of a gate that recognises what it knows: its thresholds, and figures by cross-validation."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lorary.router_training.data import RoutingData
from lorary.router_training.observing import LEFT_OUT, OTHER_NAMES, UNRELATED, Observed, observe
from lorary.router_training.recognising import (
    EVEN,
    HEADROOM,
    KINDS_OF_STRANGERS,
    best_cut,
    cross_fitted,
    fit_recognition,
    routed_by,
)
from lorary.router_training.settings import LIMITS, Training
from lorary.routing.policy import Policy
from lorary.routing.recognition import START
from lorary.routing.router import Router
from lorary.statistics import calibration_error, value, wilson

_COUNTED = {LEFT_OUT: "strangers", OTHER_NAMES: "unknown_names", UNRELATED: "unrelated"}
_FAR = 0.1
"""The share of known queries that may lie below even odds where trained wordings alone are known: a wording of few,
compared with others than itself, is farther from them than what people ask, and would draw the threshold down to questions
that nothing answers."""


@torch.no_grad()
def calibrate_recognition(router: Router, data: RoutingData, training: Training) -> dict[str, Any]:
    """Fits what the gate recognises queries by, in place, and tells the policy's thresholds and what to expect of them.

    The figures are cross-validated over topics and questions: each query is judged by weights that were fitted to the
    queries of other topics, and each topic is a stranger in turn. Trained wordings are compared with other wordings alone.
    """
    observed = observe(router, (data.validation, data.trained), data.strangers, (data.validation, data.trained))
    if bool(observed.known.all()):
        return {"policy": {}, "calibration": {"queries": len(observed), "achieved": {}, "given_up": {}}}
    scores = cross_fitted(observed, START).sigmoid() * observed.share
    cut = best_cut(scores, observed.kind, training)
    ways_to_answer = all(memory.examples and not memory.facts for memory in router.bank)
    if ways_to_answer and KINDS_OF_STRANGERS[UNRELATED] in cut.given_up:
        # Two styles may answer the same questions: without one of them its prompts are no stranger to the other.
        observed = observed.rows(observed.kind != LEFT_OUT)
        scores = cross_fitted(observed, START).sigmoid() * observed.share
        cut = best_cut(scores, observed.kind, training, evenly=True)
    router.gate.recognition.copy_(fit_recognition(observed, START))
    t_gate = cut.value
    if not bool((data.validation.memory < len(router.bank)).any()):
        t_gate = raised(cut.value, scores[observed.known])
    t_index = _index_threshold(observed, scores < t_gate, router.policy)
    # Rounded down: it may be a known query's own score, and no query may be lost by a digit.
    policy = replace(router.policy, t_gate=math.floor(t_gate * 1e8) / 1e8, t_index=t_index)
    return {
        "policy": {"t_gate": policy.t_gate, "t_index": policy.t_index},
        "calibration": {
            "queries": int(observed.known.sum()),
            **{name: int((observed.kind == kind).sum()) for kind, name in _COUNTED.items()},
            "scales": {name: round(float(scale), 4) for name, scale in router.gate.scales.items() if name != "none"},
            "recognition": [[round(float(weight), 4) for weight in row] for row in router.gate.recognition],
            "target": {name: getattr(training, name) for name in LIMITS[:-1]},
            "given_up": cut.given_up,
            **_expected(observed, scores, policy),
        },
    }


def raised(cut: float, known: Float[Tensor, " known"]) -> float:
    """The threshold where trained wordings alone are known, by their scores: even odds, unless a tenth of them lies below."""
    return max(cut, min(EVEN, float(torch.quantile(known, _FAR, interpolation="lower"))))


def _index_threshold(observed: Observed, left: Bool[Tensor, " queries"], policy: Policy) -> float:
    """The similarity above which the index decides on what the gate leaves: above that of every stranger that it leaves."""
    strangers = observed.near[left & ~observed.known & (observed.kind != UNRELATED)]
    near = [policy.t_index, *(strangers + HEADROOM).tolist()]
    return round(max(near), 8)


def _expected(observed: Observed, scores: Float[Tensor, " queries"], policy: Policy) -> dict[str, Any]:
    by_gate, by_index = routed_by(scores, observed.near, policy.t_gate, policy.t_index)
    routed, right = by_gate | by_index, torch.where(by_gate, observed.right, observed.near_right)
    shares: dict[str, tuple[Tensor, Tensor]] = {
        "top1": (right & routed, observed.known),
        "known_lost": (~routed, observed.known),
        **{name: (routed, observed.kind == kind) for kind, name in KINDS_OF_STRANGERS.items()},
        "wrong_routes": (routed & ~right, routed & observed.known),
    }
    achieved = {name: share(part, of) for name, (part, of) in shares.items()}
    intervals = {
        name: [round(bound[end], 4) for end in ("low", "high")]
        for name, (part, of) in shares.items()
        if achieved[name] is not None
        for bound in (wilson(float((part & of).sum() / of.sum()), int(of.sum())),)
    }
    error = value(calibration_error(scores[observed.known], observed.right[observed.known]))
    return {"achieved": achieved, "intervals": intervals, "calibration_error": round(error, 4) if error else error}


def share(part: Bool[Tensor, " queries"], of: Bool[Tensor, " queries"]) -> float | None:
    """The share of some queries that are in a part of them; None where there are none."""
    return round(float((part & of).sum() / of.sum()), 4) if bool(of.any()) else None
