"""Calibration: the scales of the gate's terms and the policy's thresholds, by validation wordings and kept questions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from lorary.router_training.data import RoutingData
from lorary.router_training.module import terms_of
from lorary.router_training.queries import Queries
from lorary.routing.gate import Gate, weighed
from lorary.routing.policy import Decision, Policy, decide, mixed_and_sure, nearest_memory
from lorary.routing.router import Router
from lorary.statistics import top_calibration_error

_PULL = 1e-3
"""Of the squared distance of a scale's logarithm from its start, beside nats a query."""


@dataclass(frozen=True)
class Threshold:
    """Where to act on a score, and what that did on the queries it was chosen by.

    Args:
        wrong_routes: share of the queries acted on that got a wrong memory (unrelated ones had none to get).
        known_lost: share of the known queries that were not acted on.
    """

    value: float
    wrong_routes: float
    known_lost: float


def best_threshold(
    scores: Float[Tensor, " queries"],
    good: Bool[Tensor, " queries"],
    known: Bool[Tensor, " queries"],
    *,
    max_wrong_routes: float,
    max_known_lost: float,
    counted: Bool[Tensor, " queries"] | None = None,
    before: tuple[int, int] = (0, 0),
    among: tuple[int, int, int] | None = None,
) -> Threshold:
    """The cut, among those that keep both limits, that best parts known queries from unrelated ones.

    Best by the share of known queries acted on rightly, less the share of unrelated ones acted on (Youden 1950), which is
    the mean of the shares of those that people asked and of those that were made up, where there are both; among equals
    the middle of the gap. A known query whose memory would be wrong counts as neither: leaving it does not make it right,
    and a cut that shuns it would leave right ones too. The limit on wrong routes is what bounds those. Where no cut keeps
    both limits, the one that keeps `max_wrong_routes` and loses least.

    Args:
        good: acting would give the right memory.
        known: some memory is right.
        counted: which queries people asked, the others were made up; all where it is None. How often people ask such is not
            known, so the limit on wrong routes is about those that they did ask.
        before: (routed, wrongly routed) by who was asked earlier; they count in the share of wrong routes.
        among: (known, unrelated, made up) queries that the shares are of; those given here where it is None. Of a rest that the
            gate left, one known query would weigh as much as many unrelated ones.
    """
    ordered, order = scores.sort(descending=True)
    cuts = torch.cat([ordered[:1] + 1e-3, (ordered[1:] + ordered[:-1]) / 2, ordered[-1:] - 1e-3])
    zero = torch.zeros(1)
    right = torch.cat([zero, good[order].float().cumsum(0)])
    found = torch.cat([zero, known[order].float().cumsum(0)])
    acted = torch.arange(len(cuts)).float()
    real = acted if counted is None else torch.cat([zero, counted[order].float().cumsum(0)])
    wrong = (real - right + before[1]) / (real + before[0]).clamp(min=1)
    lost = 1 - found / found[-1].clamp(min=1)
    sides = real - found, acted - real
    all_known, *others = among or (int(found[-1]), *(int(side[-1]) for side in sides))
    shares = [side / count for side, count in zip(sides, others, strict=True) if count]
    quality = right / max(all_known, 1) - (torch.stack(shares).mean(0) if shares else 0.0)
    between = torch.cat([torch.ones(1).bool(), ordered[1:] < ordered[:-1], torch.ones(1).bool()])
    allowed = between & ((wrong <= max_wrong_routes) | (acted == 0))
    both = allowed & (lost <= max_known_lost)
    merit = quality.masked_fill(~both, -2.0) if bool(both.any()) else (-lost).masked_fill(~allowed, -2.0)
    best = (merit >= merit.max() - 1e-6).nonzero().squeeze(-1)
    middle = best[len(best) // 2]
    return Threshold(float(cuts[middle]), round(float(wrong[middle]), 4), round(float(lost[middle]), 4))


def fit_scales(
    terms: Mapping[str, Float[Tensor, "queries memories"]],
    start: Mapping[str, Float[Tensor, ""]],
    right: Int[Tensor, " queries"],
) -> dict[str, Float[Tensor, ""]]:
    """The logarithms of the terms' scales, and the logit of none, with the least negative log-likelihood.

    Temperature scaling (Guo et al. 2017, arXiv 1706.04599) with a temperature for each term: stacking (Wolpert 1992), on
    queries that no term was fitted to. A term that means nothing here (embeddings of invented names, say) looks good on
    what trained it, and is found out. Where every query is routed rightly the likelihood asks for ever more certainty;
    a small pull to where the scales started ends that.
    """
    found = {name: scale.detach().clone().requires_grad_(True) for name, scale in start.items()}
    optimizer = torch.optim.LBFGS(list(found.values()), max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        scales = {name: found[name].exp() for name in terms}
        moved = sum(((found[name] - start[name].detach()).square() for name in terms), torch.zeros(()))
        error = functional.cross_entropy(weighed(terms, scales, found["none"]), right) + _PULL * moved
        error.backward()
        return error

    with torch.enable_grad():
        optimizer.step(loss)
    return {name: scale.detach() for name, scale in found.items()}


@torch.no_grad()
def measured_terms(
    router: Router, held: Queries
) -> tuple[dict[str, Float[Tensor, "queries memories"]], Float[Tensor, "queries memories"]]:
    """(the gate's unscaled terms, the index's votes) of queries."""
    votes = router.index.votes(held.embedding, router.bank.names)
    parts = torch.arange(len(held)).split(1024)
    told = [terms_of(router.gate, replace(held.collate(p.tolist()), votes=votes[p])) for p in parts]
    return {name: torch.cat([terms[name] for terms in told]) for name in told[0]}, votes


@torch.no_grad()
def scored(
    router: Router, held: Queries
) -> tuple[Float[Tensor, "queries memories_and_none"], Float[Tensor, "queries memories"]]:
    """(the gate's logits, the index's votes) of queries."""
    terms, votes = measured_terms(router, held)
    return _logits(router.gate, terms), votes


@torch.no_grad()
def calibrate(
    router: Router, data: RoutingData, *, max_wrong_routes: float = 0.05, max_known_lost: float = 0.02
) -> dict[str, Any]:
    """Scales the gate's terms in place and tells the policy's thresholds, the targets they were chosen by and what they achieve.

    All on queries that neither the memories nor the gate trained on. Questions about names that no memory knows are among
    them: they are near to what is known, so thresholds that part only unrelated questions would let them through.
    """
    held, strangers, memories = data.validation, data.strangers, len(router.bank)
    if len(held) == 0 or not bool((held.memory < memories).any()):
        return {"policy": {}, "calibration": {"queries": 0}}
    told = [measured_terms(router, queries) for queries in (held, strangers) if len(queries)]
    terms = {name: torch.cat([measured[name] for measured, _ in told]) for name in told[0][0]}
    votes, memory = torch.cat([near for _, near in told]), torch.cat([held.memory, strangers.memory])
    real = torch.arange(len(memory)) < len(held)
    before = _logits(router.gate, told[0][0]).softmax(-1)
    for name, scale in fit_scales(terms, router.gate.scales, memory).items():
        router.gate.scales[name].copy_(scale)
    probabilities = _logits(router.gate, terms).softmax(-1)
    limits = {"max_wrong_routes": max_wrong_routes, "max_known_lost": max_known_lost}
    policy = _thresholds(probabilities, votes, memory, real, router.policy, **limits)
    achieved = decide(probabilities, votes, policy)
    return {
        "policy": {"t_gate": policy.t_gate, "t_index": policy.t_index},
        "calibration": {
            "queries": len(held),
            "unknown_names": len(strangers),
            "scales": {name: round(float(scale), 4) for name, scale in router.gate.scales.items()},
            "calibration_error_before": round(top_calibration_error(before, held.memory), 4),
            "calibration_error": round(top_calibration_error(probabilities[real], held.memory), 4),
            "gate_top1": round(float((probabilities[real].argmax(-1) == held.memory).float().mean()), 4),
            "target": limits,
            "achieved": {
                **outcome(achieved.rows(real.nonzero().squeeze(-1)), held.memory),
                "unknown_names_routed": routed_share(achieved.rows((~real).nonzero().squeeze(-1))),
            },
        },
    }


def _thresholds(
    probabilities: Float[Tensor, "queries memories_and_none"],
    votes: Float[Tensor, "queries memories"],
    memory: Int[Tensor, " queries"],
    real: Bool[Tensor, " queries"],
    policy: Policy,
    *,
    max_wrong_routes: float,
    max_known_lost: float,
) -> Policy:
    """The policy with thresholds chosen on queries: the gate's on all of them, the index's on those that the gate leaves."""
    known = memory < votes.shape[1]
    chosen, best = probabilities[:, :-1].argmax(-1), mixed_and_sure(probabilities, policy)[1]
    right = known & (chosen == memory)
    by_gate = best_threshold(
        best, right, known, max_wrong_routes=max_wrong_routes, max_known_lost=max_known_lost, counted=real
    )
    policy = replace(policy, t_gate=round(by_gate.value, 8))  # near 1 fewer digits would pass a gap
    left = best < policy.t_gate
    if bool(left.any()):
        near, nearest = nearest_memory(votes[left])
        routed = ~left & real
        by_index = best_threshold(
            near,
            known[left] & (nearest == memory[left]),
            known[left],
            max_wrong_routes=max_wrong_routes,
            max_known_lost=1.0,
            counted=real[left],
            before=(int(routed.sum()), int((routed & (chosen != memory)).sum())),
            among=(int(known.sum()), int((real & ~known).sum()), int((~real).sum())),
        )
        policy = replace(policy, t_index=round(by_index.value, 8))
    return policy


def _logits(
    gate: Gate, terms: Mapping[str, Float[Tensor, "queries memories"]]
) -> Float[Tensor, "queries memories_and_none"]:
    return weighed(terms, {name: gate.scales[name].exp() for name in terms}, gate.none)


def routed_share(decided: Decision) -> float:
    """The share of queries that get a memory, 0 of none."""
    return round(float((decided.source > 0).sum()) / max(len(decided.source), 1), 4)


def outcome(decided: Decision, memory: Int[Tensor, " queries"]) -> dict[str, float]:
    """What a policy did: top-1 and lost of the known queries, routed of the unrelated, wrong of all routed ones."""
    routed, known = decided.source > 0, memory < decided.weights.shape[-1]
    right = routed & (decided.weights.argmax(-1) == memory)
    shares = {
        "top1": (right, known),
        "known_lost": (known & ~routed, known),
        "unrelated_routed": (routed & ~known, ~known),
        "wrong_routes": (routed & ~right, routed),
    }
    return {name: round(float(some.sum() / of.sum().clamp(min=1)), 4) for name, (some, of) in shares.items()}
