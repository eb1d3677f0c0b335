"""The page of a recall run: `report.html`, one file that needs no network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from lorary.eval import plots
from lorary.eval.predictions import Prediction
from lorary.eval.report import measured, notes, tables
from lorary.eval.routers import found

_CHIEF = ("oracle", "gate", "index", "policy", "hybrid")
"""Conditions whose recall is told by topic, of those that were run."""
_READ = 60
"""Failures that the page shows, at most."""
_FORCED = "oracle"
"""The condition whose damage is that of one memory throughout, which is wrong for the text: `forced`."""


def page(results: Mapping[str, Any], predictions: Mapping[str, Sequence[Prediction]]) -> str:
    """The whole page as HTML; of a partial run, what stands so far."""
    folder = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    conditions = {name: s for name, s in results["conditions"].items() if "skipped" not in s}
    routed = next((name for name in ("policy", "gate", "index") if name in predictions), None)
    # Where nothing routed, what the right memory gets wrong is what there is to read.
    read = routed or ("oracle" if "oracle" in predictions else None)
    failures = [p | {"why": why} for p in predictions.get(read or "", ()) if (why := failure(p))]
    return folder.get_template("report.html").render(
        results=results,
        conditions=conditions,
        measures=measured(results),
        skipped={name: s["skipped"] for name, s in results["conditions"].items() if "skipped" in s},
        tables=tables(results),
        notes=[note.removeprefix("- ").replace("**", "") for note in notes(results)],
        figures=_figures(results, conditions, predictions.get(routed or "", ())),
        routed=read,
        failures=failures[:_READ],
        failed=len(failures),
    )


def failure(prediction: Prediction) -> str | None:
    """Why an answer is not what it should be, in a few words; None where it is."""
    route = prediction["route"]
    if prediction["answer"] is None:
        return "should have been left to the base" if route["memories"] else None
    if prediction["exact_match"]:
        return None
    if not prediction["memory"]:
        return "the base's own answer, changed or not as expected"
    if not route["memories"]:
        return "no memory answered"
    return "right memory, wrong answer" if found(prediction) else "wrong memory"


def confused(asked: Sequence[Prediction]) -> tuple[list[str], list[str], list[list[int]]]:
    """(rows, columns, counts) of held memory against the one that answered, "none" last in both."""
    pairs = Counter((p["memory"] or "none", (*p["route"]["memories"], "none")[0]) for p in asked)
    names = sorted({name for pair in pairs for name in pair} - {"none"})
    rows = [name for name in [*names, "none"] if any(held == name for held, _ in pairs)]
    columns = [*names, "none"]
    return rows, columns, [[pairs[row, column] for column in columns] for row in rows]


def _figures(
    results: Mapping[str, Any], conditions: Mapping[str, Any], asked: Sequence[Prediction]
) -> list[tuple[str, str, Markup]]:
    """(title, what it shows, SVG) of each plot that the run has data for."""
    drawn: list[tuple[str, str, str]] = []
    if chief := {name: conditions[name]["by_topic"] for name in _CHIEF if name in conditions}:
        drawn.append(("Recall by topic", "Exact match of the questions on each topic.", plots.topics(chief)))
    if asked:
        told = "How many questions on a topic (row) were answered by a memory (column), shaded by share of the row."
        drawn.append(("Who answered", told, plots.confusion(*confused(asked))))
    if calibrated := results.get("calibration"):
        told = (
            f"How often the gate's choice was right, by how sure it was; {calibrated['questions']} questions that a "
            f"memory holds, expected calibration error {calibrated['error']:.3f}. The larger a mark, the more questions."
        )
        drawn.append(("Is the gate as sure as it is right?", told, plots.reliability(calibrated["bins"])))
    drawn += _of_studies(results.get("studies") or {})
    if points := _damage(results.get("retention") or {}, conditions):
        told = "Perplexity of unrelated text, as a multiple of the base's, against recall. Down and right is better."
        drawn.append(("Damage against recall", told, plots.damage(points)))
    if latency := results.get("latency"):
        ways = ("base", "policy")
        parts = {
            w: {
                "route": latency[w]["route"],
                "prefill": latency[w]["prefill"],
                f"decode, {latency['tokens']} tokens": latency[w]["decode"] * latency["tokens"],
            }
            for w in ways
        }
        told = f"One question at a time, median of {latency['questions']}, no batch."
        drawn.append(("Where the time goes", told, plots.split(parts)))
    return [(title, told, Markup(svg)) for title, told, svg in drawn]


def _damage(retention: Mapping[str, float], conditions: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Name → (recall, perplexity as a multiple of the base's) of the conditions whose damage was measured."""
    points = {}
    for name, scores in conditions.items():
        forced = name == _FORCED
        damaged = retention.get("perplexity_forced" if forced else f"perplexity_{name}")
        if damaged is not None and name != "base":
            ratio = damaged / retention["perplexity_base"]
            points[f"{name} (one memory throughout)" if forced else name] = (scores["exact_match"]["value"], ratio)
    return points


def _of_studies(studies: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The plots of recall against a number of memories."""
    drawn = []
    if rows := studies.get("in_bank"):
        told = (
            "Each question asked in a bank of so many memories, its own among them; the same questions at each number."
        )
        svg = plots.numbers(_series(rows, "condition", "memories"), "memories in the bank")
        drawn.append(("Recall against the number of memories", told, svg))
    if rows := studies.get("by_merging"):
        told = "Each question asked under so many memories merged with equal weights, its own among them."
        svg = plots.numbers(_series(rows, "how", "merged"), "memories merged")
        drawn.append(("Recall against the number merged", told, svg))
    return drawn


def _series(rows: Sequence[Mapping[str, Any]], by: str, number: str) -> dict[str, list[tuple[int, Any]]]:
    """(number, score) of the rows that have one, by what they tell of."""
    series: dict[str, list[tuple[int, Any]]] = {}
    for row in rows:
        if "exact_match" in row:
            series.setdefault(row[by], []).append((row[number], row["exact_match"]))
    return {name: sorted(held, key=lambda point: point[0]) for name, held in series.items()}
