"""Runs that are seeds of one experiment, as one: the mean of each condition, its spread, an interval over both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lorary.eval.comparison import CompareError, check_same_questions, opened
from lorary.eval.predictions import MEASURES, Prediction
from lorary.eval.report import change, value_in
from lorary.eval.results import Predictions
from lorary.statistics import crossed_mean, interval, weightings
from lorary.tables import markdown_table


def pool(runs: Sequence[str | Path], *, against: str = "policy", seed: int = 0) -> dict[str, Any]:
    """What several runs of the same questions come to, as seeds of one experiment.

    `conditions` has, by condition and measure, the mean over the runs with a 95 % interval that covers both questions
    and seeds, each run's value, and their standard deviation; `differences` the same of each condition less `against`,
    paired by run and question, and `differs` where the interval excludes 0.

    Runs and facts are resampled apart (`statistics.crossed_mean`). A bootstrap over a few runs is coarse: of three whose
    spread outweighs that of the facts, intervals held the truth nine times in ten in a simulation, not nineteen in
    twenty.

    Args:
        runs: two or more folders that `lorary recall` wrote, of composites trained with different seeds.
        against: the condition that the others are compared to.
        seed: of the bootstrap.

    Raises:
        CompareError: fewer than two runs; a condition that a run lacks; runs that asked different questions, or asked
            them otherwise; two runs of one composite, which are no two seeds.
    """
    read_runs = opened(runs)
    results = {run: told for run, (told, _) in read_runs.items()}
    _check_seeds(results)
    scored = _scored({run: predictions for run, (_, predictions) in read_runs.items()})
    if against not in scored:
        raise CompareError(f"the runs have no condition {against!r}; they have {list(scored)}: give --condition")
    asked = scored[against][0]
    measures = [m for m in MEASURES if all(p.get(m) is not None for held in scored.values() for p in held[0])]
    weights = weightings(range(len(runs)), seed=seed + 1), weightings([p["fact"] for p in asked], seed=seed)
    scores = {name: {m: _scores(held, m) for m in measures} for name, held in scored.items()}
    conditions = {name: {m: _told(found[m], *weights) for m in measures} for name, found in scores.items()}
    differences: dict[str, dict[str, Any]] = {}
    for name, found in scores.items():
        if name != against:
            gains = {m: _told(found[m] - scores[against][m], *weights) for m in measures}
            differences[name] = {m: t | {"differs": not t["low"] <= 0 <= t["high"]} for m, t in gains.items()}
    return {
        "runs": [{"run": run, "partial": told["partial"]} for run, told in results.items()],
        "questions": len(asked),
        "facts": len({p["fact"] for p in asked}),
        "against": against,
        "conditions": conditions,
        "differences": differences,
    }


def _check_seeds(results: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises CompareError for runs that are no seeds of one experiment."""
    (first, one), *others = [(run, told["configuration"]) for run, told in results.items()]
    for run, configuration in others:
        for setting in ("scored_wordings", "passages", "free_tokens"):
            if one[setting] != configuration[setting]:
                raise CompareError(
                    f"{first} and {run} asked otherwise ({setting} {one[setting]!r} and {configuration[setting]!r}); run "
                    "`lorary recall` on both with the same options"
                )
    by_source: dict[str, str] = {}
    for run, told in results.items():
        source = told["configuration"]["source_sha256"]
        if source is not None and by_source.setdefault(source, run) != run:
            raise CompareError(
                f"{by_source[source]} and {run} are of the same composite, so they are no two seeds; train one with "
                "another --seed"
            )


def _scored(predictions: Mapping[str, Predictions]) -> dict[str, list[list[Prediction]]]:
    """Condition → the scored predictions of each run, the same questions in all. Raises CompareError where not."""
    first, *_ = predictions
    found: dict[str, list[list[Prediction]]] = {}
    for name in dict.fromkeys(name for held in predictions.values() for name in held):
        if lacking := [run for run, held in predictions.items() if name not in held]:
            having = next(run for run, held in predictions.items() if name in held)
            raise CompareError(
                f"{', '.join(lacking)} lacks condition {name!r}, which {having} has; run `lorary recall` on all with the "
                "same --conditions"
            )
        found[name] = [[p for p in held[name] if p["scored"]] for held in predictions.values()]
        for run, held in zip(predictions, found[name], strict=True):
            check_same_questions(first, found[name][0], run, held)
    return found


def _scores(held: Sequence[Sequence[Prediction]], measure: str) -> Float[Tensor, "runs questions"]:
    return torch.tensor([[p[measure] for p in run] for run in held], dtype=torch.float)


def _told(
    scores: Float[Tensor, "runs questions"],
    runs: Float[Tensor, "weightings runs"],
    questions: Float[Tensor, "weightings questions"],
) -> dict[str, Any]:
    """The mean with its interval, each run's mean, and their standard deviation (of a sample: n − 1)."""
    each = scores.mean(-1)
    spread = {"runs": [round(value, 4) for value in each.tolist()], "deviation": round(float(each.std()), 4)}
    return interval(crossed_mean(scores, runs, questions)) | spread


def pooled(told: Mapping[str, Any]) -> str:
    """The Markdown tables of pooled runs, one a measure; differences are bold where more than chance."""
    parts = []
    for measure in next(iter(told["conditions"].values())):
        rows = [["condition", "mean (95 %)", "each run", "deviation", f"less {told['against']} (95 %)"]]
        for name, found in told["conditions"].items():
            score, less = found[measure], told["differences"].get(name)
            each = ", ".join(f"{value:.3f}" for value in score["runs"])
            rows.append(
                [name, value_in(score), each, f"{score['deviation']:.3f}", change(less[measure]) if less else "–"]
            )
        parts += [f"## {MEASURES[measure]}", markdown_table(rows)]
    named = ", ".join(f"{run['run']} (partial)" if run["partial"] else run["run"] for run in told["runs"])
    parts.append(
        f"{len(told['runs'])} runs as seeds of one experiment: {named}. {told['questions']} questions on "
        f"{told['facts']} facts. Intervals resample runs and facts; deviation: the standard deviation between runs; bold: "
        "the 95 % interval of a paired difference excludes 0."
    )
    return "\n\n".join(parts)
