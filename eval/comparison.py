"""Runs side by side: the same questions under one condition, and which differences are more than chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lorary.errors import LoraryError
from lorary.eval.figures import MEASURES, Difference, Differences, Score
from lorary.eval.records import ConditionResult, Prediction, Predictions, Results
from lorary.eval.report import change, value_in
from lorary.eval.results import read
from lorary.eval.scoring import TEXT_MEASURES, difference
from lorary.statistics import cluster_mean
from lorary.tables import counted, markdown_table


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
    scored = {name: _of(name, condition, predictions) for name, (_, predictions) in read_runs.items()}
    first, *others = scored
    for name in others:
        check_same_questions(first, scored[first], name, scored[name])
    differences = {
        name: {measure: _difference(scored[first], scored[name], measure, seed) for measure in TEXT_MEASURES}
        for name in others
    }
    return {
        "condition": condition,
        "questions": len(scored[first]),
        "facts": len({p.fact for p in scored[first]}),
        "runs": [
            {"run": name, "partial": results.partial} | _figures(results.conditions[condition])
            for name, (results, _) in read_runs.items()
        ],
        "differences": [
            {"run": name, "against": first} | {measure: gain and asdict(gain) for measure, gain in gains.items()}
            for name, gains in differences.items()
        ],
    }


def _figures(result: ConditionResult) -> dict[str, Any]:
    scores = {measure: result.of(measure) for measure in TEXT_MEASURES}
    return {measure: score and asdict(score) for measure, score in scores.items()}


def opened(runs: Sequence[str | Path]) -> dict[str, tuple[Results, Predictions]]:
    """Folder → (results, predictions) of two or more runs. Raises CompareError for fewer, or one given twice."""
    if len(runs) < 2:
        raise CompareError(f"one run cannot be compared, {len(runs)} given; give two or more folders")
    read_runs = {str(folder): read(Path(folder)) for folder in runs}
    if len(read_runs) < len(runs):
        raise CompareError(f"a run was given twice in {[str(r) for r in runs]}; give different folders")
    return read_runs


def within(predictions: Mapping[str, Sequence[Prediction]], seed: int) -> Differences | None:
    """What the conditions of one run differ by: `against` (the policy, or the first condition) and, by condition, the
    differences of exact match and of what contains the answer to it, on the same questions, as `compare` tells them.
    None for a run of one condition.
    """
    scored = {name: [p for p in own if p.scored] for name, own in predictions.items()}
    if len(scored) < 2:
        return None
    against = "policy" if "policy" in scored else next(iter(scored))
    conditions = {
        name: {measure: _difference(scored[against], own, measure, seed) for measure in ("exact_match", "contains")}
        for name, own in scored.items()
        if name != against
    }
    return Differences(against=against, conditions=conditions)


def _of(name: str, condition: str, predictions: Predictions) -> list[Prediction]:
    """The scored predictions of a run under the condition."""
    if condition not in predictions:
        raise CompareError(f"{name} has no condition {condition!r}; it has {list(predictions)}: give --condition")
    return [p for p in predictions[condition] if p.scored]


def check_same_questions(first: str, own: Sequence[Prediction], other: str, also: Sequence[Prediction]) -> None:
    """Raises CompareError where the scored predictions of two runs are not of the same questions."""
    questions, others = ([(p.question, p.answer, p.fact) for p in scored] for scored in (own, also))
    if questions == others:
        return
    only = next((q for q in others if q not in questions), None)
    only = only or next((q for q in questions if q not in others), questions[0])
    raise CompareError(
        f"{first} and {other} asked different questions ({len(questions)} and {len(others)} scored; {only[0]!r} is not the same "
        "in both); run `lorary recall` on both with one --questions file"
    )


def _difference(first: Sequence[Prediction], other: Sequence[Prediction], measure: str, seed: int) -> Difference | None:
    """The mean of `other` less that of `first`; None where nothing is scored.

    Both runs' scores of a fact are resampled together, so that what makes a fact hard for both cancels.
    """
    gains = [getattr(after, measure) - getattr(before, measure) for before, after in zip(first, other, strict=True)]
    return difference(cluster_mean(gains, [p.fact for p in first], seed=seed))


def compared(comparison: Mapping[str, Any]) -> str:
    """The Markdown table of runs side by side; differences whose interval excludes 0 are bold."""
    runs = comparison["runs"]
    measures = {measure: name for measure, name in MEASURES.items() if measure in runs[0]}
    rows = [["run", *(f"{n} (95 %)" for n in measures.values()), *(f"{n} − first" for n in measures.values())]]
    gains = {own["run"]: own for own in comparison["differences"]}
    for run in runs:
        name = f"{run['run']} (partial)" if run["partial"] else run["run"]
        scores = (value_in(run[measure] and Score(**run[measure])) for measure in measures)
        own = gains.get(run["run"], {})
        changes = (change(own.get(measure) and Difference(**own[measure])) for measure in measures)
        rows.append([name, *scores, *changes])
    questions = (
        f"Condition {comparison['condition']}: {counted(comparison['questions'], 'question')} on "
        f"{counted(comparison['facts'], 'fact')}."
    )
    means = f"Differences are to {runs[0]['run']}, by a paired bootstrap over facts; bold where the 95 % interval excludes 0."
    return "\n".join([markdown_table(rows), "", questions, means])
