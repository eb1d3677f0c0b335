"""Scores of what was said against right answers, 0 to 1; from them predictions, and from predictions figures."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeVar

from lorary.eval.figures import MEASURES, Difference, Score
from lorary.eval.questions import Question
from lorary.eval.records import ConditionResult, KindResult, PartTold, Prediction, StoredFact, measured
from lorary.routing.policy import Route
from lorary.statistics import Figures as Resampled
from lorary.statistics import cluster_mean, interval


def normalise(text: str) -> str:
    """Lower case, without punctuation, articles and extra space (SQuAD; Rajpurkar et al. 2016, arXiv 1606.05250)."""
    text = "".join(" " if c in string.punctuation else c for c in text.lower())
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def exact_match(given: str, answer: str) -> float:
    """1 where the normalised texts are equal, else 0."""
    return float(normalise(given) == normalise(answer))


def token_f1(given: str, answer: str) -> float:
    """The harmonic mean of precision and recall over normalised words, 0 to 1."""
    a, b = normalise(given).split(), normalise(answer).split()
    common = sum((Counter(a) & Counter(b)).values())
    return 2 * common / (len(a) + len(b)) if common else 0.0


def contains(given: str, answer: str) -> float:
    """1 where the normalised answer stands in the normalised text as a run of whole words, else 0."""
    return float(f" {normalise(answer)} " in f" {normalise(given)} ")


def chosen(given: str, options: Sequence[str]) -> str | None:
    """The option that stands first in the text as whole words; of two that begin there, the longer; None where none does."""
    text = f" {normalise(given)} "
    places = [(text.find(f" {normalise(option)} "), -len(option), option) for option in options]
    return min((place for place in places if place[0] >= 0), default=(0, 0, None))[2]


def rouge_l(given: str, answer: str) -> float:
    """The F-measure of the longest common subsequence of words, without stemming, 0 to 1 (Lin 2004)."""
    return float(_rouge().score(answer, given)["rougeL"].fmeasure)


def rouge_l_recall(given: str, answer: str) -> float:
    """The share of the answer's words, without stemming, that stand in the text in their order, 0 to 1 (Lin 2004)."""
    return float(_rouge().score(answer, given)["rougeL"].recall)


@lru_cache(maxsize=1)
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # it imports nltk, which takes a second

    return RougeScorer(["rougeL"])


def best(score: Callable[[str, str], float], given: str, answers: Sequence[str]) -> float:
    """The score against the answer that it is highest for."""
    return max(score(given, answer) for answer in answers)


TEXT_MEASURES = {"exact_match": exact_match, "contains": contains, "token_f1": token_f1, "rouge_l": rouge_l}
"""Measure of what was said against an answer → its function."""
_Key = TypeVar("_Key")


def prediction(
    condition: str,
    question: Question,
    said: str,
    route: Route | None,
    *,
    scored: bool,
    probability: float | None = None,
    likelihoods: Mapping[str, float] | None = None,
    stored: StoredFact | None = None,
) -> Prediction:
    """What was asked, said and routed, with its scores; they are None where there is nothing to recall.

    Args:
        route: None where nobody knows it.
        scored: whether the headline counts it.
        probability: how likely what was said was, a token on average; None where that is unknown.
        likelihoods: the mean log-probability of each option's tokens.
        stored: the fact whose answer was looked up.
    """
    answers = [question.answer, *question.accepted] if question.answer is not None else []
    parts = tuple(PartTold(memory, answer, contains(said, answer)) for memory, answer in question.parts)
    shares = [part.told for part in parts]
    options = {option: round(value, 4) for option, value in (likelihoods or {}).items()}
    likeliest = max(options, key=lambda option: options[option], default=None)
    return Prediction(
        condition=condition,
        kind=question.kind,
        memory=question.memory,
        fact=question.fact,
        question=question.text,
        answer=question.answer,
        said=said,
        probability=None if probability is None else round(probability, 4),
        scored=scored,
        **{measure: best(score, said, answers) if answers else None for measure, score in TEXT_MEASURES.items()},
        accuracy=float(likeliest == question.answer) if options else None,
        chosen=float(chosen(said, question.options) == question.answer) if question.options else None,
        likelihoods=options,
        facts_told=sum(shares) / len(shares) if shares else None,
        all_told=min(shares, default=None),
        parts=parts,
        free=question.free,
        route=route and _rounded(route),
        stored=stored,
    )


def _rounded(route: Route) -> Route:
    right = None if route.right is None else round(route.right, 4)
    return replace(route, confidence=round(route.confidence, 4), right=right)


def score(resampled: Resampled) -> Score | None:
    """A figure under many weightings with its interval; None where it was measured on nothing."""
    found = interval(resampled)
    return found and Score(**found)


def difference(resampled: Resampled) -> Difference | None:
    """The same of a difference."""
    found = interval(resampled)
    return found and Difference(**found, differs=not found["low"] <= 0 <= found["high"])


def figures(predictions: Sequence[Prediction], seed: int) -> dict[str, Score | None]:
    """Each measure's mean over the predictions that have it, as the fields of `Figures`; facts are resampled."""
    return {measure: _mean(measured(predictions, measure), seed) for measure in MEASURES}


def condition_result(
    predictions: Sequence[Prediction], seed: int, *, meaning: str = "", seconds: float = 0.0, generated: int = 0
) -> ConditionResult:
    """What a condition came to: the headline's figures, the mean exact match by topic, and the figures by kind."""
    return ConditionResult(
        meaning=meaning,
        **figures([p for p in predictions if p.scored], seed),
        by_topic=by_topic(predictions),
        by_kind=by_kind(predictions, seed),
        seconds=round(seconds, 1),
        generated=generated,
        questions=len(predictions),
    )


def by_topic(predictions: Sequence[Prediction]) -> dict[str, float]:
    """The mean exact match of each memory's questions, of what the headline counts."""
    counted = ((p.memory, p.exact_match) for p in predictions if p.scored and p.exact_match is not None)
    matches = grouped(counted, lambda pair: pair[0])
    return {memory: sum(match for _, match in pairs) / len(pairs) for memory, pairs in matches.items()}


def by_kind(predictions: Sequence[Prediction], seed: int) -> dict[str, KindResult]:
    """The figures of each kind of question."""
    return {kind: _of_kind(own, seed) for kind, own in grouped(predictions, lambda p: p.kind).items()}


def _of_kind(predictions: Sequence[Prediction], seed: int) -> KindResult:
    unheld = [(float(not p.answered_by), p.fact) for p in predictions if not p.memory and p.route]
    left = _mean(unheld, seed)
    return KindResult(questions=len(predictions), left_to_base=left, **figures(predictions, seed))


def _mean(values: Sequence[tuple[float, str]], seed: int) -> Score | None:
    """The mean of (score, fact)."""
    return score(cluster_mean([value for value, _ in values], [fact for _, fact in values], seed=seed))


_Item = TypeVar("_Item")


def grouped(items: Iterable[_Item], key: Callable[[_Item], _Key]) -> dict[_Key, list[_Item]]:
    """The items by key, in order of first appearance."""
    groups: dict[_Key, list[_Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups
