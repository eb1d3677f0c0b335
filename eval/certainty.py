"""Whether a condition's answers tell that they are right: how likely they were, of what was known and of what was not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from lorary.eval.predictions import Prediction
from lorary.statistics import auroc, interval, weightings


def certainty(predictions: Sequence[Prediction], seed: int) -> dict[str, Any] | None:
    """How well the probability of an answer parts right answers from others: AUROC with an interval that resamples facts.

    `wrong` is against wrong answers to what a memory holds; `by_kind` against the answers to what none holds, by the kind
    of question. Only answers of memories count: what the base says without one is no recall; of what memories hold, only
    what the headline counts. None without a right one.
    """
    told = [p for p in predictions if p["probability"] is not None and p["route"]["memories"]]
    held = [p for p in told if p["memory"] and p["scored"]]
    right = [p for p in held if p["exact_match"] == 1]
    if not right:
        return None
    kinds: dict[str, list[Prediction]] = {}
    for p in told:
        if not p["memory"]:
            kinds.setdefault(p["kind"], []).append(p)
    wrong = [p for p in held if p["exact_match"] == 0]
    return {
        "right": len(right),
        "wrong": _against(right, wrong, seed),
        "by_kind": {kind: _against(right, unheld, seed) for kind, unheld in sorted(kinds.items())},
    }


def _against(right: Sequence[Prediction], others: Sequence[Prediction], seed: int) -> dict[str, float] | None:
    if not others:
        return None
    sure, unsure = (torch.tensor([p["probability"] for p in held]) for held in (right, others))
    drawn = weightings([p["fact"] for p in [*right, *others]], seed=seed)
    a, b = drawn[:, : len(right)], drawn[:, len(right) :]
    return {**(interval(auroc(sure, unsure, a, b)) or {}), "questions": len(others)}


def by_certainty(results: Mapping[str, Any]) -> list[list[str]]:
    """Rows of (condition, right answers, AUROC against wrong ones, against those to each kind of question that no memory
    holds …), the head first; nothing for a run in which no answer of a memory was right."""
    told = results.get("certainty") or {}
    kinds = list(dict.fromkeys(kind for held in told.values() for kind in held["by_kind"]))
    rows = [["condition", "right answers", "against wrong ones", *(f"{kind} ones" for kind in kinds)]]
    for name, held in told.items():
        cells = [_cell(held["wrong"]), *(_cell(held["by_kind"].get(kind)) for kind in kinds)]
        rows.append([name, str(held["right"]), *cells])
    return rows if told else []


def _cell(told: Mapping[str, float] | None) -> str:
    return (
        f"{told['value']:.3f} ({told['low']:.3f} to {told['high']:.3f}), {told['questions']} of them" if told else "–"
    )
