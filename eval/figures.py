"""What a run measures, as records: figures of questions, of routers, of damage and of time; None was not measured."""

from __future__ import annotations

from dataclasses import dataclass

MEASURES = {
    "exact_match": "exact match",
    "contains": "contains the answer",
    "token_f1": "token F1",
    "rouge_l": "ROUGE-L",
    "chosen": "chose the answer",
    "accuracy": "accuracy",
    "facts_told": "facts told",
    "all_told": "all facts told",
}
"""Measure → its name for people. Accuracy: the answer is the likeliest of its options; chose the answer: it is the first of
them in what was said. Facts told: the share of a question's facts whose answers stand in what was said; all facts told:
whether all do. None where a question has none."""


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
    chosen: Score | None = None
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


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """How often a router finds the memories: the best is right, all are among three, all are among as many as there are."""

    top1: float | None = None
    top3: float | None = None
    together: float | None = None


@dataclass(frozen=True, kw_only=True)
class Abstention:
    """How well the gate parts what it knows from what it does not: AUROC, in all and against each kind of question."""

    auroc: float | None
    auroc_by_kind: dict[str, float | None]
    unrelated_questions: int
    gate_leaves_unrelated: float | None


@dataclass(frozen=True, kw_only=True)
class CalibrationBin:
    """The questions of one bin: the mean confidence, the share right, and how many there are."""

    confidence: float
    right: float
    questions: int


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How often the gate is right by how sure it is, and the expected calibration error."""

    questions: int
    error: float
    bins: tuple[CalibrationBin, ...]


@dataclass(frozen=True, kw_only=True)
class Certainty:
    """How well an answer's probability parts the right ones from wrong ones, and from those to each kind of question
    that no memory holds."""

    right: int
    wrong: Area | None
    by_kind: dict[str, Area | None]


@dataclass(frozen=True, kw_only=True)
class PriorThird:
    """Questions of like prior: how many, the least and the greatest prior, and the figures by condition."""

    questions: int
    least: float
    greatest: float
    conditions: dict[str, Figures]


@dataclass(frozen=True, kw_only=True)
class Differences:
    """By condition and measure, the difference to the condition `against` on the same questions."""

    against: str
    conditions: dict[str, dict[str, Difference | None]]


@dataclass(frozen=True, kw_only=True)
class Damage:
    """A text's perplexity, and the mean KL(base ‖ routed) a token, in nats; None where it is no finite number."""

    perplexity: float | None
    kl: float | None


@dataclass(frozen=True, kw_only=True)
class Retention:
    """Damage to a text by condition; the base's own is called `base`, a memory forced on it `forced`.

    Args:
        tokens: that were predicted.
        conditions: those that were asked for, also where there was nothing to measure.
    """

    damage: dict[str, Damage]
    tokens: int
    text_sha256: str = ""
    conditions: tuple[str, ...] = ()

    def ratio(self, condition: str) -> float | None:
        """The perplexity under a condition as a multiple of the base's; None where it was not measured."""
        own, base = (self.damage.get(name, Damage(perplexity=None, kl=None)).perplexity for name in (condition, "base"))
        return own / base if own is not None and base else None


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Milliseconds of the parts of one answer: the route, the prompt, one token."""

    route: float
    prefill: float
    decode: float


@dataclass(frozen=True, kw_only=True)
class Latency:
    """The median `Timing` of questions asked one by one, each given so many tokens."""

    questions: int
    tokens: int
    base: Timing
    policy: Timing
