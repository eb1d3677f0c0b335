"""How a gate learns whether any memory knows what is asked: a logistic regression over signs, and the threshold on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from lorary.router_training.minimising import minimise
from lorary.router_training.observing import KNOWN, LEFT_OUT, OTHER_NAMES, UNRELATED, Observed
from lorary.router_training.settings import Training
from lorary.routing.recognition import recognised

_PRIOR = 2.0
"""How far, as a standard deviation, a weight lies from where it starts before any query is seen."""
EVEN = 0.5
"""Even odds: from here on a memory is likelier to know what is asked than not."""
HEADROOM = 1e-3
"""By how much a score or a similarity must exceed that of every stranger."""
KINDS_OF_STRANGERS = {LEFT_OUT: "strangers_routed", OTHER_NAMES: "unknown_names_routed", UNRELATED: "unrelated_routed"}


def fit_recognition(observed: Observed, start: Float[Tensor, "2 weights"]) -> Float[Tensor, "2 weights"]:
    """The weights with the greatest posterior likelihood, under a Gaussian prior around where they start.

    Each kind of stranger counts as much as another, and all of them as much as the known queries: how often people ask
    which is not known. With few queries the weights stay near their start, so they cannot make it worse.
    """
    known = observed.known
    weight = _evenly(observed)
    weights = start.double().clone().requires_grad_(True)
    told, target = observed.signs.double(), known.double()

    def loss() -> Tensor:
        odds = recognised(told, observed.unknown, weights)
        error = functional.binary_cross_entropy_with_logits(odds, target, weight, reduction="sum")
        return error + (weights - start).square().sum() / (2 * _PRIOR**2)

    minimise([weights], loss)
    return weights.detach().to(start)


def _evenly(observed: Observed) -> Float[Tensor, " queries"]:
    """The weight of each query; they sum to the number of queries."""
    weight = torch.ones(len(observed), dtype=torch.double)
    kinds = [kind for kind in KINDS_OF_STRANGERS if bool((observed.kind == kind).any())]
    for kind in (KNOWN, *kinds):
        share = 0.5 if kind == KNOWN else 0.5 / len(kinds)
        rows = observed.kind == kind
        weight[rows] = share * len(observed) / rows.sum().clamp(min=1)
    return weight


def cross_fitted(observed: Observed, start: Float[Tensor, "2 weights"]) -> Float[Tensor, " queries"]:
    """The log-odds of each query under weights that were fitted to the queries of other topics."""
    odds = torch.zeros(len(observed))
    for fold in observed.fold.unique().tolist():
        own = observed.fold == fold
        weights = fit_recognition(observed.rows(~own), start) if bool((~own & observed.known).any()) else start
        odds[own] = recognised(observed.signs[own], observed.unknown[own], weights)
    return odds


@dataclass(frozen=True)
class Cut:
    """A threshold, and the limits that no threshold could keep beside those before them: limit → what it came to."""

    value: float
    given_up: dict[str, float] = field(default_factory=dict)


def limit_on(kind: int, training: Training) -> float:
    """How many strangers of a kind may be routed, as a share."""
    return training.max_unrelated_routed if kind == UNRELATED else training.max_strangers_routed


def best_cut(
    scores: Float[Tensor, " queries"],
    kind: Sequence[int] | Tensor,
    training: Training,
    *,
    evenly: bool = False,
) -> Cut:
    """The threshold that keeps the limits and parts known queries from strangers best.

    Best by the share of known queries routed, less the mean over kinds of the share of strangers routed (Youden 1950);
    among equals the one nearest to even odds, since scores are probabilities. (The middle between the known queries and the
    strangers would lie too high: people ask in words farther from the stored ones than those that were kept from them, but
    strangers here ask in the very words of other topics.)

    Where no threshold keeps all limits, that on lost known queries comes first: a memory that is not asked is of no use. Then
    the threshold is the highest that keeps it, and the other limits are given up. One known question may be lost however few
    there are, or it alone would decide.

    Args:
        scores: the probability that the likeliest memory knows each query.
        evenly: where no threshold keeps all limits, the one that parts best is taken all the same: what is known are ways to
            answer, and the base answers a question that is lost.
    """
    kind = torch.as_tensor(kind)
    cuts = _cuts(scores)
    lost = 1 - _above(scores[kind == KNOWN], cuts)
    routed = {k: _above(scores[kind == k], cuts) for k in KINDS_OF_STRANGERS if bool((kind == k).any())}
    known = int((kind == KNOWN).sum())
    kept = lost <= max(training.max_known_lost, 1 / max(known, 1) + 1e-6)
    within = kept.clone()
    for k, share in routed.items():
        within &= share <= limit_on(k, training)
    if evenly or bool(within.any()):
        merit = -lost - (torch.stack([*routed.values()]).mean(0) if routed else 0.0)
        merit = merit.masked_fill(~within, -9.0) if bool(within.any()) else merit
        best = (merit >= merit.max() - 1e-6).nonzero().squeeze(-1)
        chosen = int(best[(cuts[best] - EVEN).abs().argmin()])
        given_up = {"known_lost": round(float(lost[chosen]), 4)} if not kept[chosen] else {}
        return Cut(float(cuts[chosen]), given_up | _over(routed, chosen, training))
    last = int(kept.nonzero().max()) if bool(kept.any()) else 0
    return Cut(float(cuts[last]), _over(routed, last, training))


def _cuts(scores: Float[Tensor, " queries"]) -> Float[Tensor, " cuts"]:
    """One cut below all scores, one between each two and one above all, each as near to even odds as it can be."""
    ordered = scores.unique()
    low, high = torch.cat([ordered[:1] - 1, ordered]), torch.cat([ordered, ordered[-1:] + 1])
    room = ((high - low) / 2).clamp(max=HEADROOM)
    return torch.full_like(low, EVEN).clamp(low + room, high - room)


def _over(routed: Mapping[int, Float[Tensor, " cuts"]], cut: int, training: Training) -> dict[str, float]:
    """The limits on strangers that a cut, by number, does not keep: limit → the share that it routes."""
    shares = {kind: float(own[cut]) for kind, own in routed.items()}
    return {KINDS_OF_STRANGERS[k]: round(share, 4) for k, share in shares.items() if share > limit_on(k, training)}


def _above(scores: Float[Tensor, " queries"], cuts: Float[Tensor, " cuts"]) -> Float[Tensor, " cuts"]:
    """The share of the scores that are at least each cut."""
    ordered = scores.sort().values
    return 1 - torch.searchsorted(ordered, cuts.contiguous()).float() / max(len(scores), 1)


def routed_by(
    scores: Float[Tensor, " queries"], near: Float[Tensor, " queries"], t_gate: float, t_index: float
) -> tuple[Bool[Tensor, " queries"], Bool[Tensor, " queries"]]:
    """(which queries the gate routes, which of the others the index does)."""
    by_gate = scores >= t_gate
    return by_gate, ~by_gate & (near >= t_index)
