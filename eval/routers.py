"""How well the gate, the index and the policy find the memory that holds an answer, and how sure they rightly are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torchmetrics.functional.classification import binary_calibration_error

from lorary.eval.conditions import scores
from lorary.eval.predictions import Prediction
from lorary.eval.questions import Question, unrelated_questions
from lorary.eval.scores import auroc
from lorary.modeling import LoraryForCausalLM

_BINS = 10


def found(prediction: Prediction) -> bool:
    """Whether the heaviest memory of its route is the one that holds the answer."""
    return tuple(prediction["route"]["memories"][:1]) == (prediction["memory"],)


def routing(
    model: LoraryForCausalLM, asked: Sequence[Question], predictions: Mapping[str, Sequence[Prediction]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(top-1 and top-3 by router, abstention) over questions that a memory holds.

    A policy's top-1 counts "none" as wrong. Abstention tells the gate's AUROC of known against unrelated questions, and
    against each kind of question asked that no memory holds.
    """
    held = [question for question in asked if question.recalled]
    right = torch.tensor([model.memories.index(q.memory) for q in held])
    probabilities, votes = scores(model, [q.text for q in held])
    unrelated, _ = scores(model, unrelated_questions())
    gate = probabilities[:, :-1]
    told = {
        name: {"top1": _top(s, right, 1), "top3": _top(s, right, 3)} for name, s in (("gate", gate), ("index", votes))
    }
    told["policy"] = dict(told["gate"])
    if hits := [found(p) for p in predictions.get("policy", ()) if p["memory"]]:
        told["policy"]["top1"] = sum(hits) / len(hits)
    known = (1 - probabilities[:, -1]).tolist()
    unknown = (1 - unrelated[:, -1]).tolist()
    unheld: dict[str, list[str]] = {}
    for question in asked:
        if not question.memory:
            unheld.setdefault(question.kind, []).append(question.text)
    by_kind = {
        kind: auroc(known, (1 - scores(model, texts)[0][:, -1]).tolist()) for kind, texts in sorted(unheld.items())
    }
    policy = model.router.policy
    left = float((unrelated[:, :-1].max(-1).values < policy.t_gate).float().mean())
    return told, {
        "auroc": auroc(known, unknown),
        "auroc_by_kind": by_kind,
        "unrelated_questions": len(unknown),
        "gate_leaves_unrelated": left,
    }


def _top(given: torch.Tensor, right: torch.Tensor, k: int) -> float:
    best = given.topk(min(k, given.shape[1]), dim=-1).indices
    return float((best == right.unsqueeze(-1)).any(-1).float().mean())


def calibration(predictions: Sequence[Prediction]) -> dict[str, Any] | None:
    """How often the gate's choice is right, by how sure it was, over questions that a memory holds; None without any.

    Holds `bins` of equal width (mean confidence, share right, questions; empty ones are left out) and `error`, the
    expected calibration error over them (Naeini et al. 2015).
    """
    decided = [p for p in predictions if p["memory"] and p["route"]["source"] == "gate"]
    if not decided:
        return None
    sure = torch.tensor([p["route"]["confidence"] for p in decided])
    right = torch.tensor([found(p) for p in decided])
    place = (sure * _BINS).long().clamp(0, _BINS - 1)
    bins = [
        {
            "confidence": float(sure[place == b].mean()),
            "right": float(right[place == b].float().mean()),
            "questions": int((place == b).sum()),
        }
        for b in range(_BINS)
        if (place == b).any()
    ]
    error = float(binary_calibration_error(sure, right.long(), n_bins=_BINS, norm="l1"))
    return {"questions": len(decided), "error": error, "bins": bins}
