"""The records of a recall run. `results` writes them as JSON and reads them back; None is what was not measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lorary.eval.figures import (
    MEASURES,
    Abstention,
    Calibration,
    Certainty,
    Differences,
    Figures,
    Latency,
    PriorThird,
    Ranking,
    Retention,
    Score,
)
from lorary.routing.policy import Route

SCHEMA = 8
STUDY = "recall"
_SENTENCE = 3
"""Words beside the answer from which on it is told in a sentence."""


@dataclass(frozen=True)
class PartTold:
    """One of the facts that a question asks for, and whether its answer stands in what was said (1 or 0)."""

    memory: str
    answer: str
    told: float


@dataclass(frozen=True)
class StoredFact:
    """The fact whose stored answer was given, and the cosine similarity of its nearest trained wording to the question."""

    memory: str
    question: str
    similarity: float


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One question under one condition: what was said, by which route, and how it scores.

    Args:
        memory: the memory that holds its fact, "" where none does; of several, the first.
        fact: wordings of one fact share it.
        answer: None where there is nothing to recall; then no measure has a score.
        probability: how likely what was said was, a token on average; None where that is unknown.
        known: the calibrated probability that memory or lookup is right; None where sources were not weighed.
        scored: whether the headline counts it.
        likelihoods: the mean log-probability of each option's tokens.
        free: whether sentences were asked for.
        route: None where no model of the run was asked: another system answered, or a stored answer was looked up.
        stored: the fact whose answer was looked up; None where none was.
    """

    condition: str
    question: str
    answer: str | None
    fact: str
    memory: str = ""
    kind: str = "held-out"
    said: str = ""
    probability: float | None = None
    known: float | None = None
    scored: bool = False
    exact_match: float | None = None
    contains: float | None = None
    token_f1: float | None = None
    rouge_l: float | None = None
    accuracy: float | None = None
    chosen: float | None = None
    facts_told: float | None = None
    all_told: float | None = None
    likelihoods: dict[str, float] = field(default_factory=dict)
    parts: tuple[PartTold, ...] = ()
    free: bool = False
    route: Route | None = None
    stored: StoredFact | None = None

    def of(self, measure: str) -> float | None:
        """Its score by a measure of `MEASURES`."""
        score: float | None = getattr(self, measure)
        return score

    @property
    def right(self) -> float | None:
        """How right it is, whatever it asks for: whether the right option was chosen, the share of several facts that were
        told, or whether the answer stands in what was said, with other words beside it where sentences were asked for; None
        where there is nothing to recall."""
        scores = (self.chosen, self.facts_told, self.contains)
        score = next((score for score in scores if score is not None), None)
        if score and self.free and self.answer is not None and not self.parts:
            return float(len(self.said.split()) >= len(self.answer.split()) + _SENTENCE)
        return score

    @property
    def memories(self) -> tuple[str, ...]:
        """The memories that its answer takes, each once."""
        return tuple(dict.fromkeys(part.memory for part in self.parts)) or ((self.memory,) if self.memory else ())

    @property
    def answered_by(self) -> tuple[str, ...]:
        """The memories of its route, heaviest first, or the one whose stored answer was looked up."""
        if self.stored:
            return (self.stored.memory,)
        return self.route.memories if self.route else ()

    @property
    def confidence(self) -> float | None:
        """How sure its answer is: by calibrated sources, else by its probability, else by the similarity of what was looked
        up; None where nothing tells."""
        if self.known is not None:
            return self.known
        if self.probability is not None:
            return self.probability
        return self.stored.similarity if self.stored else None

    @property
    def found(self) -> bool:
        """Whether the heaviest memory that answered holds the answer, or a part of it."""
        return bool(self.answered_by) and self.answered_by[0] in self.memories


@dataclass(frozen=True, kw_only=True)
class KindResult(Figures):
    """The figures of one kind of question; `left_to_base` is the share that no memory answered, where none holds it."""

    questions: int
    left_to_base: Score | None = None


@dataclass(frozen=True, kw_only=True)
class ConditionResult(Figures):
    """What a condition came to.

    Args:
        by_topic: the mean exact match of each memory's questions.
        seconds: that it took.
        generated: how many answers no earlier condition had given.
        skipped: why it was not run; then nothing else is told.
    """

    meaning: str = ""
    by_topic: dict[str, float] = field(default_factory=dict)
    by_kind: dict[str, KindResult] = field(default_factory=dict)
    seconds: float = 0.0
    generated: int = 0
    questions: int = 0
    skipped: str | None = None


@dataclass(frozen=True, kw_only=True)
class BankStudy(Figures):
    """What a condition recalls in banks of so many memories."""

    memories: int
    condition: str
    top1: float | None = None


@dataclass(frozen=True, kw_only=True)
class MergeStudy(Figures):
    """What is recalled under so many memories merged; `skipped` is why they could not be."""

    merged: int
    how: str
    skipped: str | None = None


@dataclass(kw_only=True)
class Studies:
    """Recall against a number of memories: in the bank, and merged."""

    in_bank: list[BankStudy] = field(default_factory=list)
    by_merging: list[MergeStudy] = field(default_factory=list)


@dataclass(kw_only=True)
class Results:
    """A run: what made it, and what stands so far."""

    study: str = STUDY
    schema: int = SCHEMA
    partial: bool = True
    configuration: dict[str, Any] = field(default_factory=dict)
    seeds: dict[str, int] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    conditions: dict[str, ConditionResult] = field(default_factory=dict)
    routing: dict[str, Ranking] = field(default_factory=dict)
    abstention: Abstention | None = None
    calibration: Calibration | None = None
    certainty: dict[str, Certainty] = field(default_factory=dict)
    selective: dict[str, dict[str, float]] = field(default_factory=dict)
    prior: dict[str, list[PriorThird]] = field(default_factory=dict)
    differences: Differences | None = None
    retention: Retention | None = None
    latency: Latency | None = None
    studies: Studies = field(default_factory=Studies)
    seconds: dict[str, float] = field(default_factory=dict)
    peak_rss_mib: int | None = None

    @property
    def measures(self) -> dict[str, str]:
        """Measure → its name, of those that a condition of the run has."""
        results = self.conditions.values()
        return {measure: name for measure, name in MEASURES.items() if any(result.of(measure) for result in results)}


Predictions = dict[str, list[Prediction]]
"""Condition → its predictions, in the order of the questions."""


def measured(predictions: Sequence[Prediction], measure: str) -> list[tuple[float, str]]:
    """(score, fact) of the predictions that a measure has a score of."""
    scores = ((prediction.of(measure), prediction.fact) for prediction in predictions)
    return [(score, fact) for score, fact in scores if score is not None]
