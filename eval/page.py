"""The page of a recall run: `report.html`, one file that needs no network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from lorary.eval import charts
from lorary.eval.figures import Latency, Retention, Score
from lorary.eval.records import ConditionResult, Prediction, Results, Studies
from lorary.eval.report import bank_points, merge_points, notes, tables
from lorary.tables import counted

_CHIEF = ("lookup", "oracle", "gate", "index", "policy", "ask", "hybrid")
"""Conditions whose recall is told by topic, of those that were run."""
_READ = 60
"""Failures that the page shows, at most."""
_FORCED = "oracle"
"""The condition whose damage is that of one memory throughout, which is wrong for the text: `forced`."""


@dataclass(frozen=True)
class Failure:
    """A prediction that is not as it should be, and why, in a few words."""

    prediction: Prediction
    why: str


def page(results: Results, predictions: Mapping[str, Sequence[Prediction]]) -> str:
    """The whole page as HTML; of a partial run, what stands so far."""
    folder = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    conditions = {name: result for name, result in results.conditions.items() if result.skipped is None}
    routed = next((name for name in ("policy", "gate", "index") if name in predictions), None)
    # Where nothing routed, what the right memory gets wrong is what there is to read.
    read = routed or ("oracle" if "oracle" in predictions else None)
    failures = [Failure(p, why) for p in predictions.get(read or "", ()) if (why := failure(p))]
    return folder.get_template("report.html").render(
        results=results,
        conditions=conditions,
        measures=results.measures,
        skipped={name: result.skipped for name, result in results.conditions.items() if result.skipped is not None},
        tables=tables(results),
        notes=[note.removeprefix("- ").replace("**", "") for note in notes(results)],
        figures=_figures(results, conditions, predictions.get(routed or "", ())),
        routed=read,
        failures=failures[:_READ],
        failed=len(failures),
    )


def failure(prediction: Prediction) -> str | None:
    """Why an answer is not what it should be, in a few words; None where it is."""
    if prediction.answer is None:
        return "should have been left to the base" if prediction.answered_by else None
    if prediction.exact_match:
        return None
    if not prediction.memory:
        return "the base's own answer, changed or not as expected"
    if not prediction.answered_by:
        return "no memory answered"
    return "right memory, wrong answer" if prediction.found else "wrong memory"


def confused(predictions: Sequence[Prediction]) -> tuple[list[str], list[str], list[list[int]]]:
    """(rows, columns, counts) of held memory against the one that answered, "none" last in both."""
    pairs = Counter((p.memory or "none", (*p.answered_by, "none")[0]) for p in predictions)
    names = sorted({name for pair in pairs for name in pair} - {"none"})
    rows = [name for name in [*names, "none"] if any(memory == name for memory, _ in pairs)]
    columns = [*names, "none"]
    return rows, columns, [[pairs[row, column] for column in columns] for row in rows]


def _figures(
    results: Results, conditions: Mapping[str, ConditionResult], predictions: Sequence[Prediction]
) -> list[tuple[str, str, Markup]]:
    """(title, what it shows, SVG) of each chart that the run has data for."""
    drawn: list[tuple[str, str, str]] = []
    topics = {name: conditions[name].by_topic for name in _CHIEF if name in conditions and conditions[name].by_topic}
    if topics:
        drawn.append(("Recall by topic", "Exact match of the questions on each topic.", charts.topics(topics)))
    if predictions:
        text = "How many questions on a topic (row) were answered by a memory (column), shaded by share of the row."
        drawn.append(("Who answered", text, charts.confusion(*confused(predictions))))
    if calibration := results.calibration:
        text = (
            f"How often the gate's choice was right, by how sure it was; {counted(calibration.questions, 'question')} that a "
            f"memory holds, expected calibration error {calibration.error:.3f}. The larger a mark, the more questions."
        )
        drawn.append(("Is the gate as sure as it is right?", text, charts.reliability(calibration.bins)))
    drawn += _of_studies(results.studies)
    if results.retention and (points := _damage(results.retention, conditions)):
        text = "Perplexity of unrelated text, as a multiple of the base's, against recall. Down and right is better."
        drawn.append(("Damage against recall", text, charts.damage(points)))
    if results.latency:
        text = f"One question at a time, median of {results.latency.questions}, no batch."
        drawn.append(("Where the time goes", text, charts.split(_times(results.latency))))
    return [(title, text, Markup(svg)) for title, text, svg in drawn]


def _times(latency: Latency) -> dict[str, dict[str, float]]:
    """Way → part of an answer → milliseconds."""
    ways = {"base": latency.base, "policy": latency.policy}
    return {
        name: {
            "route": timing.route,
            "prefill": timing.prefill,
            f"decode, {counted(latency.tokens, 'token')}": timing.decode * latency.tokens,
        }
        for name, timing in ways.items()
    }


def _damage(retention: Retention, conditions: Mapping[str, ConditionResult]) -> dict[str, tuple[float, float]]:
    """Name → (recall, perplexity as a multiple of the base's) of the conditions whose damage was measured."""
    points = {}
    for name, result in conditions.items():
        forced = name == _FORCED
        ratio = retention.ratio("forced" if forced else name)
        if ratio is not None and name != "base" and result.exact_match:
            points[f"{name} (one memory throughout)" if forced else name] = (result.exact_match.value, ratio)
    return points


def _of_studies(studies: Studies) -> list[tuple[str, str, str]]:
    """The charts of recall against a number of memories."""
    drawn = []
    if series := _series(bank_points(studies.in_bank)):
        text = (
            "Each question asked in a bank of so many memories, its own among them; the same questions at each number."
        )
        svg = charts.numbers(series, "memories in the bank")
        drawn.append(("Recall against the number of memories", text, svg))
    if series := _series(merge_points(studies.by_merging)):
        text = "Each question asked under so many memories merged with equal weights, its own among them."
        drawn.append(("Recall against the number merged", text, charts.numbers(series, "memories merged")))
    return drawn


def _series(points: Mapping[tuple[str, int], Score | None]) -> dict[str, list[tuple[int, Score]]]:
    """Name → (number, score) of the points that have one, in order of their numbers."""
    series: dict[str, list[tuple[int, Score]]] = {}
    for (name, number), score in sorted(points.items(), key=lambda point: point[0][1]):
        if score:
            series.setdefault(name, []).append((number, score))
    return series
