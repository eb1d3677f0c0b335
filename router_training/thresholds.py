"""Thresholds: from which score on a policy acts, chosen on queries by what acting on them did."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lorary.routing.policy import Policy, mixed_and_sure, nearest_memory


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
        among: (known, unrelated, made up) queries that the shares are of; those given here where it is None. Without it, a
            remainder with one known query and many unrelated ones would let that single query decide.
    """
    ordered, order = scores.sort(descending=True)
    cuts = torch.cat([ordered[:1] + 1e-3, (ordered[1:] + ordered[:-1]) / 2, ordered[-1:] - 1e-3])
    zero = torch.zeros(1)
    right = torch.cat([zero, good[order].float().cumsum(0)])
    reached = torch.cat([zero, known[order].float().cumsum(0)])
    acted = torch.arange(len(cuts)).float()
    real = acted if counted is None else torch.cat([zero, counted[order].float().cumsum(0)])
    wrong = (real - right + before[1]) / (real + before[0]).clamp(min=1)
    lost = 1 - reached / reached[-1].clamp(min=1)
    sides = real - reached, acted - real
    all_known, *others = among or (int(reached[-1]), *(int(side[-1]) for side in sides))
    shares = [side / count for side, count in zip(sides, others, strict=True) if count]
    quality = right / max(all_known, 1) - (torch.stack(shares).mean(0) if shares else 0.0)
    between = torch.cat([torch.ones(1).bool(), ordered[1:] < ordered[:-1], torch.ones(1).bool()])
    allowed = between & ((wrong <= max_wrong_routes) | (acted == 0))
    both = allowed & (lost <= max_known_lost)
    merit = quality.masked_fill(~both, -2.0) if bool(both.any()) else (-lost).masked_fill(~allowed, -2.0)
    best = (merit >= merit.max() - 1e-6).nonzero().squeeze(-1)
    middle = best[len(best) // 2]
    return Threshold(float(cuts[middle]), round(float(wrong[middle]), 4), round(float(lost[middle]), 4))


def policy_thresholds(
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
