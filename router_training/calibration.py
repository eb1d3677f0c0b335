"""Calibration: the scales of the gate's terms and the policy's thresholds, by validation wordings and kept questions."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lorary.errors import LoraryWarning
from lorary.router_training.data import RoutingData
from lorary.router_training.expectation import calibrate_recognition, share
from lorary.router_training.queries import Queries
from lorary.router_training.scales import fit_scales, ranking_scales
from lorary.router_training.settings import Training
from lorary.router_training.thresholds import policy_thresholds
from lorary.routing.gate import Gate, weighed
from lorary.routing.policy import Decision, decide
from lorary.routing.router import Router
from lorary.statistics import top_calibration_error


@torch.no_grad()
def measured_terms(
    router: Router, queries: Queries
) -> tuple[dict[str, Float[Tensor, "queries memories"]], Float[Tensor, "queries memories"]]:
    """(the gate's unscaled terms, the index's votes) of queries."""
    parts = torch.arange(len(queries)).split(1024)
    by_part = [router.gate.terms(queries.features.rows(part)) for part in parts]
    votes = router.index.votes(queries.features.embedding, router.bank.names)
    return {name: torch.cat([terms[name] for terms in by_part]) for name in by_part[0]}, votes


@torch.no_grad()
def scored(
    router: Router, queries: Queries
) -> tuple[Float[Tensor, "queries memories_and_none"], Float[Tensor, "queries memories"]]:
    """(the gate's logits, the index's votes) of queries."""
    terms, votes = measured_terms(router, queries)
    return _logits(router.gate, terms), votes


@torch.no_grad()
def calibrate(router: Router, data: RoutingData, training: Training | None = None) -> dict[str, Any]:
    """Scales the gate's terms in place and tells the policy's thresholds, the targets they were chosen by and what they achieve.

    All on queries that neither the memories nor the gate trained on; a gate that reads contents is fitted on trained wordings
    too, each compared with others than itself. Questions about names that no memory knows are among
    them: they are near to what is known, so thresholds that part only unrelated questions would let them through. A figure
    without queries is None, and thresholds stay as they are where nothing has to be told apart; a warning says so.
    """
    training = training or Training()
    validation, strangers, memories = data.validation, data.strangers, len(router.bank)
    kept = bool((validation.memory < memories).any())
    if "contents" in router.gate.features:
        seen = [queries for queries in (validation if kept else data.trained, strangers) if len(queries)]
        for name, scale in ranking_scales(router.gate, seen, trained=not kept).items():
            router.gate.scales[name].copy_(scale)
        figures = calibrate_recognition(router, data, training)
        if not figures["policy"]:
            _warn(*_UNTOLD)
        return figures
    if not kept:
        _warn("validation wordings", "give facts 'questions' with more wordings")
        return {"policy": {}, "calibration": {"queries": 0}}
    measurements = [measured_terms(router, queries) for queries in (validation, strangers) if len(queries)]
    terms = {name: torch.cat([measured[name] for measured, _ in measurements]) for name in measurements[0][0]}
    votes, memory = torch.cat([near for _, near in measurements]), torch.cat([validation.memory, strangers.memory])
    real = torch.arange(len(memory)) < len(validation)
    before = _logits(router.gate, measurements[0][0]).softmax(-1)
    for name, scale in fit_scales(terms, router.gate.scales, memory).items():
        router.gate.scales[name].copy_(scale)
    probabilities = _logits(router.gate, terms).softmax(-1)
    limits = {name: getattr(training, name) for name in ("max_wrong_routes", "max_known_lost")}
    policy, chosen = router.policy, dict[str, float]()
    if bool((memory == memories).any()):
        policy = policy_thresholds(probabilities, votes, memory, real, policy, **limits)
        chosen = {"t_gate": policy.t_gate, "t_index": policy.t_index}
    else:
        _warn(*_UNTOLD)
    achieved = decide(probabilities, votes, policy)
    return {
        "policy": chosen,
        "calibration": {
            "queries": len(validation),
            "unknown_names": len(strangers),
            "scales": {name: round(float(scale), 4) for name, scale in router.gate.scales.items()},
            "calibration_error_before": round(top_calibration_error(before, validation.memory), 4),
            "calibration_error": round(top_calibration_error(probabilities[real], validation.memory), 4),
            "gate_top1": round(float((probabilities[real].argmax(-1) == validation.memory).float().mean()), 4),
            "target": limits,
            "achieved": {
                **outcome(achieved.rows(real.nonzero().squeeze(-1)), validation.memory),
                "unknown_names_routed": routed_share(achieved.rows((~real).nonzero().squeeze(-1))),
            },
        },
    }


_UNTOLD = ("questions that no memory answers", "give four or more by --unrelated")


def _logits(
    gate: Gate, terms: Mapping[str, Float[Tensor, "queries memories"]]
) -> Float[Tensor, "queries memories_and_none"]:
    return weighed(terms, {name: gate.scales[name].exp() for name in terms}, gate.none)


class CalibrationWarning(LoraryWarning):
    """A policy whose thresholds could not be chosen, so that they are what they were: says what is missing."""


def _warn(missing: str, remedy: str) -> None:
    warnings.warn(
        f"there are no {missing} to calibrate on, so the policy's thresholds stay at their defaults; {remedy}",
        CalibrationWarning,
        stacklevel=3,
    )


def routed_share(decided: Decision) -> float | None:
    """The share of queries that get a memory; None where there are no queries."""
    return share(decided.source > 0, torch.ones_like(decided.source).bool())


def outcome(decided: Decision, memory: Int[Tensor, " queries"]) -> dict[str, float | None]:
    """What a policy did: top-1 and lost of the known queries, routed of the unrelated, wrong of all routed ones.

    A share of no queries is None.
    """
    routed, known = decided.source > 0, memory < decided.weights.shape[-1]
    right = routed & (decided.weights.argmax(-1) == memory)
    shares = {
        "top1": (right, known),
        "known_lost": (known & ~routed, known),
        "unrelated_routed": (routed & ~known, ~known),
        "wrong_routes": (routed & ~right, routed),
    }
    return {name: share(part, of) for name, (part, of) in shares.items()}
