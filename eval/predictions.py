"""One line of `predictions.jsonl`, and what the lines of a condition come to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from lorary.eval.questions import Question
from lorary.eval.scores import best, exact_match, interval, token_f1
from lorary.routing import Route

Prediction = dict[str, Any]


def prediction(condition: str, question: Question, said: str, route: Route, *, scored: bool) -> Prediction:
    """What was asked, said and routed; scores are None where there is nothing to recall.

    Args:
        scored: whether the headline counts it.
    """
    answers = [question.answer, *question.accepted] if question.answer is not None else []
    return {
        "condition": condition,
        "kind": question.kind,
        "memory": question.memory,
        "fact": question.fact,
        "question": question.text,
        "answer": question.answer,
        "said": said,
        "scored": scored,
        "exact_match": best(exact_match, said, answers) if answers else None,
        "token_f1": best(token_f1, said, answers) if answers else None,
        "route": {**vars(route), "confidence": round(route.confidence, 4)},
    }


def summary(predictions: Sequence[Prediction], seed: int) -> dict[str, Any]:
    """The headline of a condition with its intervals, the mean exact match by topic, and the scores by kind."""
    counted = [p for p in predictions if p["scored"]]
    facts = [p["fact"] for p in counted]
    return {
        "exact_match": interval([p["exact_match"] for p in counted], facts, seed=seed),
        "token_f1": interval([p["token_f1"] for p in counted], facts, seed=seed),
        "by_topic": {t: _mean(p["exact_match"] for p in held) for t, held in _grouped(counted, "memory").items()},
        "by_kind": {kind: _of_kind(held, seed) for kind, held in _grouped(predictions, "kind").items()},
    }


def _of_kind(predictions: Sequence[Prediction], seed: int) -> dict[str, Any]:
    """Exact match of what has an answer; of what no memory holds, the share that was left to the base."""
    told: dict[str, Any] = {"questions": len(predictions)}
    if answered := [p for p in predictions if p["answer"] is not None]:
        facts = [p["fact"] for p in answered]
        told["exact_match"] = interval([p["exact_match"] for p in answered], facts, seed=seed)
    if unheld := [p for p in predictions if not p["memory"]]:
        left = [float(not p["route"]["memories"]) for p in unheld]
        told["left_to_base"] = interval(left, [p["fact"] for p in unheld], seed=seed)
    return told


def _grouped(predictions: Iterable[Prediction], key: str) -> dict[str, list[Prediction]]:
    groups: dict[str, list[Prediction]] = {}
    for p in predictions:
        groups.setdefault(p[key], []).append(p)
    return groups


def _mean(values: Iterable[float]) -> float:
    held = list(values)
    return sum(held) / len(held)
