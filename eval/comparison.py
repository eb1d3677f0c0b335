"""Runs side by side: the same questions under one condition, and which differences are more than chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lorary.errors import LoraryError
from lorary.eval.predictions import TEXT_MEASURES, Prediction
from lorary.eval.results import Predictions, read
from lorary.statistics import cluster_mean, interval


class CompareError(LoraryError):
    """Runs that cannot be compared: says which, and why."""


def compare(runs: Sequence[str | Path], *, condition: str = "policy", seed: int = 0) -> dict[str, Any]:
    """The scores of each run, and each later run's difference to the first.

    A difference comes with its 95 % interval from a paired bootstrap over facts, and `differs` where that excludes 0.

    Args:
        runs: two or more folders that `lorary recall` wrote.

    Raises:
        CompareError: fewer than two runs, one without the condition, or runs that asked different questions.
    """
    read_runs = opened(runs)
    held = {name: _of(name, condition, *run) for name, run in read_runs.items()}
    first, *others = held
    for name in others:
        check_same_questions(first, held[first], name, held[name])
    return {
        "condition": condition,
        "questions": len(held[first]),
        "facts": len({p["fact"] for p in held[first]}),
        "runs": [
            {"run": name, "partial": results["partial"]}
            | {measure: results["conditions"][condition][measure] for measure in TEXT_MEASURES}
            for name, (results, _) in read_runs.items()
        ],
        "differences": [
            {"run": name, "against": first}
            | {measure: _difference(held[first], held[name], measure, seed) for measure in TEXT_MEASURES}
            for name in others
        ],
    }


def opened(runs: Sequence[str | Path]) -> dict[str, tuple[dict[str, Any], Predictions]]:
    """Folder → (results, predictions) of two or more runs. Raises CompareError for fewer, or one given twice."""
    if len(runs) < 2:
        raise CompareError(f"one run cannot be compared, {len(runs)} given; give two or more folders")
    read_runs = {str(folder): read(Path(folder)) for folder in runs}
    if len(read_runs) < len(runs):
        raise CompareError(f"a run was given twice in {[str(r) for r in runs]}; give different folders")
    return read_runs


def within(predictions: Mapping[str, Sequence[Prediction]], seed: int) -> dict[str, Any]:
    """What the conditions of one run differ by: `against` (the policy, or the first condition) and, by condition, the
    differences of exact match and of what contains the answer to it, on the same questions, as `compare` tells them.
    """
    scored = {name: [p for p in held if p["scored"]] for name, held in predictions.items()}
    if len(scored) < 2:
        return {}
    against = "policy" if "policy" in scored else next(iter(scored))
    told = {
        name: {measure: _difference(scored[against], held, measure, seed) for measure in ("exact_match", "contains")}
        for name, held in scored.items()
        if name != against
    }
    return {"against": against, "conditions": told}


def _of(
    name: str, condition: str, results: Mapping[str, Any], predictions: Mapping[str, Sequence[Prediction]]
) -> list[Prediction]:
    """The scored predictions of a run under the condition."""
    if condition not in predictions:
        raise CompareError(f"{name} has no condition {condition!r}; it has {list(predictions)}: give --condition")
    return [p for p in predictions[condition] if p["scored"]]


def check_same_questions(first: str, asked: Sequence[Prediction], other: str, also: Sequence[Prediction]) -> None:
    """Raises CompareError where the scored predictions of two runs are not of the same questions."""
    one, two = ([(p["question"], p["answer"], p["fact"]) for p in held] for held in (asked, also))
    if one == two:
        return
    only = next((q for q in two if q not in one), None) or next((q for q in one if q not in two), one[0])
    raise CompareError(
        f"{first} and {other} asked different questions ({len(one)} and {len(two)} scored; {only[0]!r} is not the same "
        "in both); run `lorary recall` on both with one --questions file"
    )


def _difference(
    first: Sequence[Prediction], other: Sequence[Prediction], measure: str, seed: int
) -> dict[str, Any] | None:
    """The mean of `other` less that of `first`; None where nothing is scored.

    Both runs' scores of a fact are resampled together, so that what makes a fact hard for both cancels.
    """
    gains = [after[measure] - before[measure] for before, after in zip(first, other, strict=True)]
    found = interval(cluster_mean(gains, [p["fact"] for p in first], seed=seed))
    return found and found | {"differs": not found["low"] <= 0 <= found["high"]}
