"""Calibration: the policy's thresholds, from validation wordings and kept unrelated questions."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

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


@torch.no_grad()
def calibrate(model: LoraryForCausalLM, data: RoutingData) -> dict[str, Any]:
    """The policy's thresholds and what they achieve, on queries that neither memories nor gate trained on."""
    held = data.validation
    if len(held) == 0 or not bool((held.memory < len(model.memories)).any()):
        return {"policy": {}, "calibration": {"queries": 0}}
    probabilities = model.gate(held.embedding, held.votes, held.pooled).softmax(-1)
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
            "gate_top1": round(float(right.float().mean()), 4),
            "gate_balanced_accuracy": round(gate_quality, 4),
            "index_balanced_accuracy": round(index_quality, 4),
        },
    }
