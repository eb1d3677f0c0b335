"""Calibration: the gate's temperature and the policy's thresholds, from validation wordings and kept questions."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from lorary.modeling import LoraryForCausalLM
from lorary.router_training.data import RoutingData


def best_threshold(scores: Float[Tensor, " queries"], good: Bool[Tensor, " queries"]) -> tuple[float, float]:
    """(threshold, balanced accuracy): the cut that best parts scores to act on from scores to leave.

    Balanced accuracy is the mean of both classes' rates (Youden 1950). Among equals the middle of the gap is taken.
    """
    order = scores.sort().values
    cuts = torch.cat([order[:1] - 1e-3, (order[1:] + order[:-1]) / 2, order[-1:] + 1e-3])
    acted = scores[None] >= cuts[:, None]
    hit = (acted & good).sum(1) / good.sum().clamp(min=1)
    left = (~acted & ~good).sum(1) / (~good).sum().clamp(min=1)
    quality = (hit + left) / 2
    best = (quality >= quality.max() - 1e-6).nonzero().squeeze(-1)
    middle = best[len(best) // 2]
    return float(cuts[middle]), float(quality[middle])


def best_temperature(logits: Float[Tensor, "queries classes"], right: Int[Tensor, " queries"]) -> float:
    """The temperature with the least negative log-likelihood (Guo et al. 2017, arXiv 1706.04599), 1/4 to 4.

    Where every query is routed rightly the likelihood asks for ever more certainty; the bounds end that.
    """
    bound = math.log(4)
    log_temperature = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        # Bounded smoothly, so that the search cannot leave for infinity.
        error = functional.cross_entropy(logits.detach() / (bound * log_temperature.tanh()).exp(), right)
        error.backward()
        return error

    with torch.enable_grad():
        optimizer.step(loss)
    return math.exp(bound * math.tanh(float(log_temperature)))


def calibration_error(probabilities: Float[Tensor, "queries classes"], right: Int[Tensor, " queries"]) -> float:
    """Expected calibration error over 15 bins (Naeini et al. 2015)."""
    confidence, chosen = probabilities.max(-1)
    gap = (chosen == right).double() - confidence.double()
    bins = torch.bucketize(confidence, torch.linspace(0, 1, 16)[1:-1])
    return float(torch.zeros(15, dtype=torch.double).index_add(0, bins, gap).abs().sum() / len(right))


@torch.no_grad()
def calibrate(model: LoraryForCausalLM, data: RoutingData) -> dict[str, Any]:
    """Cools the gate in place and tells the policy's thresholds, and what they achieve.

    All on queries that neither the memories nor the gate trained on.
    """
    held = data.validation
    if len(held) == 0 or not bool((held.memory < len(model.memories)).any()):
        return {"policy": {}, "calibration": {"queries": 0}}
    logits = model.gate(held.embedding, held.votes, held.pooled)
    temperature = best_temperature(logits, held.memory)
    model.gate.cool(temperature)
    probabilities = (logits / temperature).softmax(-1)
    known = held.memory < len(model.memories)
    best, chosen = probabilities[:, :-1].max(-1)
    t_gate, gate_quality = best_threshold(best, known & (chosen == held.memory))
    near, nearest = held.votes.max(-1)
    t_index, index_quality = best_threshold(near, known & (nearest == held.memory))
    right = probabilities.argmax(-1) == held.memory
    return {
        "policy": {"t_gate": round(t_gate, 4), "t_index": round(t_index, 4)},
        "calibration": {
            "queries": len(held),
            "temperature": round(temperature, 4),
            "calibration_error_before": round(calibration_error(logits.softmax(-1), held.memory), 4),
            "calibration_error": round(calibration_error(probabilities, held.memory), 4),
            "gate_top1": round(float(right.float().mean()), 4),
            "gate_balanced_accuracy": round(gate_quality, 4),
            "index_balanced_accuracy": round(index_quality, 4),
        },
    }
