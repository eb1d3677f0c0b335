"""Figures of questions as records; None is what was not measured."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True, kw_only=True)
class Score:
    """A mean over questions with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Difference(Score):
    """A paired difference of means; `differs` where its interval excludes 0."""

    differs: bool


@dataclass(frozen=True, kw_only=True)
class Figures:
    """The mean of each measure over the questions that have it."""

    exact_match: Score | None = None
    contains: Score | None = None
    token_f1: Score | None = None
    rouge_l: Score | None = None
    accuracy: Score | None = None
    facts_told: Score | None = None
    all_told: Score | None = None

    def of(self, measure: str) -> Score | None:
        """The score of a measure of `MEASURES`, or of what a record has beside them."""
        score: Score | None = getattr(self, measure, None)
        return score


@dataclass(frozen=True, kw_only=True)
class Area(Score):
    """An AUROC, and how many questions right answers were held against."""

    questions: int
