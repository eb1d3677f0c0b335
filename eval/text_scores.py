"""Scores of what was said against a right answer, 0 to 1."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any


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


def rouge_l(given: str, answer: str) -> float:
    """The F-measure of the longest common subsequence of words, without stemming, 0 to 1 (Lin 2004)."""
    return float(_rouge().score(answer, given)["rougeL"].fmeasure)


@lru_cache(maxsize=1)
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # it imports nltk, which takes a second

    return RougeScorer(["rougeL"])


def best(score: Callable[[str, str], float], given: str, answers: Sequence[str]) -> float:
    """The score against the answer that it is highest for."""
    return max(score(given, answer) for answer in answers)
