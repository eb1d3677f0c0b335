"""How well the gate, the index and the policy find the memory that holds an answer, and how sure they rightly are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from lorary.eval.conditions import UNTRAINED, scores
from lorary.eval.predictions import Prediction
from lorary.eval.questions import Question, unrelated_questions
from lorary.model.modeling import LoraryForCausalLM
from lorary.routing.policy import decide
from lorary.statistics import auroc, bins_of, calibration_error, value

_BINS = 10


def found(prediction: Prediction) -> bool:
    """Whether the heaviest memory of its route holds the answer, or a part of it."""
    heaviest = prediction["route"]["memories"][:1]
    return bool(heaviest) and heaviest[0] in prediction.get("memories", [prediction["memory"]])


def together(predictions: Sequence[Prediction]) -> float | None:
    """The share of questions on several memories whose route holds them all; None where there is no such question."""
    several = [p for p in predictions if len(p.get("memories", ())) > 1]
    hits = [set(p["memories"]) <= set(p["route"]["memories"]) for p in several]
    return sum(hits) / len(hits) if hits else None


def routing(
    model: LoraryForCausalLM, asked: Sequence[Question], predictions: Mapping[str, Sequence[Prediction]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(top-1 and top-3 by router, abstention) over questions that a memory holds.

    Of a question on several memories, top-1 is whether the best is one of them, top-3 whether all are among the three
    best, and `together` whether all are among as many best, or, of a policy, of what mixes two and of what asks part by part, in
    the route.
    A policy's top-1 counts "none" as wrong. Abstention tells the gate's AUROC of known against unrelated questions, and
    against each kind of question asked that no memory holds.
    """
    held = [question for question in asked if question.recalled]
    right = torch.tensor([[name in q.memories for name in model.memories] for q in held])
    probabilities, votes = scores(model, [q.text for q in held])
    right = right.to(probabilities.device)
    unrelated, unrelated_votes = scores(model, unrelated_questions())
    gate = probabilities[:, :-1]
    told = {name: ranked(s, right) for name, s in (("gate", gate), ("index", votes))}
    told |= {
        name: ranked(score(model.router, [q.text for q in held]).to(right.device), right)
        for name, score in UNTRAINED.items()
        if name in predictions
    }
    several = [name for name in ("gate-two", "policy-two", "policy-parts") if name in predictions]
    for name in ("policy", *several):
        asked_by = [p for p in predictions.get(name, ()) if p["memory"]]
        told[name] = dict(told["gate"])
        if asked_by:
            told[name]["top1"] = sum(map(found, asked_by)) / len(asked_by)
        if (all_held := together(asked_by)) is not None:
            told[name]["together"] = all_held
    known, unknown = 1 - probabilities[:, -1], 1 - unrelated[:, -1]
    unheld: dict[str, list[str]] = {}
    for question in asked:
        if not question.memory:
            unheld.setdefault(question.kind, []).append(question.text)
    by_kind = {kind: value(auroc(known, 1 - scores(model, texts)[0][:, -1])) for kind, texts in sorted(unheld.items())}
    gate_alone = replace(model.router.policy, sources=("gate",))
    left = float((decide(unrelated, unrelated_votes, gate_alone).source == 0).float().mean())
    return told, {
        "auroc": value(auroc(known, unknown)),
        "auroc_by_kind": by_kind,
        "unrelated_questions": len(unknown),
        "gate_leaves_unrelated": left,
    }


def ranked(given: torch.Tensor, right: torch.Tensor) -> dict[str, float]:
    """How well scores [questions, memories] rank the memories that are right: top1, top3 and, of several, together."""
    held = right.sum(-1)
    several = held > 1
    told = {f"top{k}": float(_all_among(given, right, torch.full_like(held, k)).float().mean()) for k in (1, 3)}
    if several.any():
        told["together"] = float(_all_among(given[several], right[several], held[several]).float().mean())
    return told


def _all_among(given: torch.Tensor, right: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """Whether the k best of each question hold all memories that are right, or as many of them as can be among k."""
    order = right.gather(-1, given.argsort(dim=-1, descending=True))
    best = torch.arange(given.shape[-1], device=k.device) < k.unsqueeze(-1)
    return (order & best).sum(-1) == torch.minimum(right.sum(-1), k)


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
    place = bins_of(sure, _BINS)
    bins = [
        {
            "confidence": float(sure[place == b].mean()),
            "right": float(right[place == b].float().mean()),
            "questions": int((place == b).sum()),
        }
        for b in range(_BINS)
        if (place == b).any()
    ]
    error = value(calibration_error(sure, right, bins=_BINS))
    return {"questions": len(decided), "error": error, "bins": bins}
