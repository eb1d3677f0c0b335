"""One line of `predictions.jsonl`, and what the lines of a condition come to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lorary.eval.questions import Question
from lorary.eval.scores import best, contains, exact_match, rouge_l, token_f1
from lorary.routing.policy import Route
from lorary.statistics import cluster_mean, interval

Prediction = dict[str, Any]
TEXT_MEASURES = {"exact_match": exact_match, "contains": contains, "token_f1": token_f1, "rouge_l": rouge_l}
"""Measure of what was said against an answer → its function."""
MEASURES = {
    "exact_match": "exact match",
    "contains": "contains the answer",
    "token_f1": "token F1",
    "rouge_l": "ROUGE-L",
    "accuracy": "accuracy",
    "facts_told": "facts told",
    "all_told": "all facts told",
}
"""Measure → its name for people. Accuracy: the answer is the likeliest of its options. Facts told: the share of a
question's facts whose answers stand in what was said; all facts told: whether all do. None where a question has none."""


def prediction(
    condition: str,
    question: Question,
    said: str,
    route: Route,
    *,
    scored: bool,
    probability: float | None = None,
    likelihoods: Mapping[str, float] | None = None,
) -> Prediction:
    """What was asked, said and routed; scores are None where there is nothing to recall.

    Args:
        scored: whether the headline counts it.
        probability: how likely what was said was, a token on average; None where that is unknown.
        likelihoods: the mean log-probability of each option's tokens.
    """
    answers = [question.answer, *question.accepted] if question.answer is not None else []
    parts = [{"memory": memory, "answer": answer, "told": contains(said, answer)} for memory, answer in question.parts]
    told = [part["told"] for part in parts]
    judged = {option: round(value, 4) for option, value in (likelihoods or {}).items()}
    return {
        "condition": condition,
        "kind": question.kind,
        "memory": question.memory,
        "fact": question.fact,
        "question": question.text,
        "answer": question.answer,
        "said": said,
        "probability": None if probability is None else round(probability, 4),
        "scored": scored,
        **{measure: best(score, said, answers) if answers else None for measure, score in TEXT_MEASURES.items()},
        "accuracy": float(max(judged, key=lambda option: judged[option]) == question.answer) if judged else None,
        "likelihoods": judged,
        "facts_told": sum(told) / len(told) if told else None,
        "all_told": min(told, default=None),
        **({"memories": list(question.memories), "parts": parts} if parts else {}),
        "route": {**vars(route), "confidence": round(route.confidence, 4)},
    }


def summary(predictions: Sequence[Prediction], seed: int) -> dict[str, Any]:
    """The headline of a condition with its intervals, the mean exact match by topic, and the scores by kind."""
    counted = [p for p in predictions if p["scored"]]
    return {
        **scored(counted, seed),
        "by_topic": {t: _mean(p["exact_match"] for p in held) for t, held in _grouped(counted, "memory").items()},
        "by_kind": {kind: _of_kind(held, seed) for kind, held in _grouped(predictions, "kind").items()},
    }


def scored(predictions: Sequence[Prediction], seed: int) -> dict[str, Any]:
    """Each measure that some of the predictions have, over those, with its interval."""
    told = {}
    for measure in MEASURES:
        if counted := [p for p in predictions if p.get(measure) is not None]:
            told[measure] = interval(
                cluster_mean([p[measure] for p in counted], [p["fact"] for p in counted], seed=seed)
            )
    return told


def _of_kind(predictions: Sequence[Prediction], seed: int) -> dict[str, Any]:
    """The scores of what has an answer; of what no memory holds, the share that was left to the base, where that is known."""
    told: dict[str, Any] = {"questions": len(predictions), **scored(predictions, seed)}
    if unheld := [p for p in predictions if not p["memory"] and p["route"]]:
        left = [float(not p["route"]["memories"]) for p in unheld]
        told["left_to_base"] = interval(cluster_mean(left, [p["fact"] for p in unheld], seed=seed))
    return told


def _grouped(predictions: Iterable[Prediction], key: str) -> dict[str, list[Prediction]]:
    groups: dict[str, list[Prediction]] = {}
    for p in predictions:
        groups.setdefault(p[key], []).append(p)
    return groups


def _mean(values: Iterable[float]) -> float:
    held = list(values)
    return sum(held) / len(held)
