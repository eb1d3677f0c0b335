"""The tables of routing on questions about documents: draws together, intervals over topics and questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lorary.research.route_draws import NEW, REWORDED
from lorary.research.route_rivals import GATE, NAMES, POLICY
from lorary.statistics import Figures, Weightings, auroc, calibration_error, interval, mean, nested_weightings, value
from lorary.tables import ABSENT, counted, difference, figure, markdown_table, with_interval

SETTINGS = ("known", "strangers")
"""All topics have a memory; the questions of some topics are strangers."""


def figures_by_file(runs: Mapping[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """file → setting → router → figures: the draws together, with intervals that resample topics and their questions."""
    tables: dict[str, dict[str, dict[str, Any]]] = {}
    for name in dict.fromkeys(key.rsplit("/", 2)[0] for key in runs):
        for setting in SETTINGS:
            draws = [run for key, run in runs.items() if key.rsplit("/", 1)[0] == f"{name}/{setting}"]
            if draws:
                tables.setdefault(name, {})[setting] = _together(draws)
    return tables


def _together(draws: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Router → figures over the draws of a setting."""
    asked = [row for run in draws for row in run["asked"]]
    weights = {kind: _weights([row for row in asked if row[2] == kind]) for kind in (NEW, REWORDED)}
    weights["strange"] = _weights([row for run in draws for row in run["strangers"]])
    # Results that were read again are sorted by name.
    pooled = {name: _pooled(draws, name) for name in NAMES if name in draws[0]["routers"]}
    gate = mean(_of_kind(pooled[GATE]["right"], asked, NEW), weights[NEW])
    return {
        name: _figures(doings, asked, weights, gate, [run["routers"][name] for run in draws])
        for name, doings in pooled.items()
    }


def _weights(rows: Sequence[Sequence[Any]]) -> Weightings:
    return nested_weightings([row[0] for row in rows], [row[1] for row in rows])


def _of_kind(values: Sequence[Any], asked: Sequence[Sequence[Any]], kind: str) -> list[Any]:
    return [value for value, row in zip(values, asked, strict=True) if row[2] == kind]


def _pooled(draws: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    """The lists of a router, those of the draws joined."""
    each = [run["routers"][name] for run in draws]
    pooled: dict[str, Any] = {"right": [right for doings in each for right in doings["right"]]}
    for key in ("best", "routed"):
        if key in each[0]:
            pooled[key] = {kind: [v for doings in each for v in doings[key][kind]] for kind in each[0][key]}
    return pooled


def _figures(
    doings: Mapping[str, Any],
    asked: Sequence[Sequence[Any]],
    weights: Mapping[str, Tensor],
    gate: Figures,
    each: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """A router's figures: of new questions, but for `reworded`.

    Args:
        doings: its lists over all draws.
        weights: weightings of the new, the reworded and the strange questions.
        gate: the gate's top-1, under the same weightings.
        each: its record of each draw.
    """
    new = weights[NEW]
    top1 = mean(_of_kind(doings["right"], asked, NEW), new)
    figures: dict[str, Any] = {"top1": interval(top1), "gate_gain": interval(gate - top1)}
    if weights[REWORDED].shape[1]:
        figures["reworded"] = interval(mean(_of_kind(doings["right"], asked, REWORDED), weights[REWORDED]))
    known, strangers = _of_kind(doings["best"]["known"], asked, NEW), doings["best"]["strange"]
    if strangers:
        figures["auroc"] = interval(auroc(torch.tensor(known), torch.tensor(strangers), new, weights["strange"]))
    if "routed" in doings:
        routed = doings["routed"]
        figures["lost"] = interval(mean([1 - row for row in _of_kind(routed["known"], asked, NEW)], new))
        figures["wrong"] = round(1 - figures["lost"]["value"] - figures["top1"]["value"], 4)
        figures["strangers_routed"] = interval(mean(routed["strange"], weights["strange"])) if strangers else None
        figures["unrelated_routed"] = _mean(routed["unrelated"])
    if "hit" in each[0]:
        sure = torch.tensor([share for run in each for share in run["sure"]])
        hit = torch.tensor([right for run in each for right in run["hit"]]).bool()
        figures["ece"] = value(calibration_error(sure, hit))
    if "seconds" in each[0]:
        figures["seconds"] = _mean([run["seconds"] for run in each])
        figures["thresholds"] = [run["thresholds"] for run in each]
    return figures


def _mean(values: Sequence[float] | Sequence[int]) -> float | None:
    return round(sum(values) / len(values), 4) if values else None


def tell_routes(results: Mapping[str, Any], to_table: Callable[[Sequence[Sequence[str]]], str] = markdown_table) -> str:
    """The whole report: two tables a file, then the time a question.

    Args:
        to_table: rows → table, the first row its head; Markdown by default.
    """
    lines = [
        "# Routing on questions about documents",
        "",
        "Top-1 of questions that nothing was trained on; 95 % intervals resample topics and their questions. "
        '"Gate\'s gain" is the gate\'s top-1 less the router\'s. "Reworded" asks trained questions in other words. '
        '"Strangers" and "unrelated": the share of them that gets a memory. "Lost": the share of known questions that gets '
        'none; "wrong": that gets another.',
        "",
    ]
    for name, settings in results["tables"].items():
        for setting, routers in settings.items():
            counts = [run["counts"] for key, run in results["runs"].items() if key.startswith(f"{name}/{setting}/")]
            tell = _known if setting == "known" else _strangers
            lines += [f"## {name}, {_setting(counts, setting)}", "", to_table(tell(routers)), ""]
            lines += [_details(counts, routers), ""]
    if speed := results.get("speed"):
        lines += [
            f"Routing one question among {counted(speed['memories'], 'memory')} of {counted(speed['passages'], 'passage')} "
            f"each, the encoder apart: {speed['median']} ms (median of {counted(speed['questions'], 'question')}; "
            f"nine tenths took {speed['low']} to {speed['high']} ms; {speed['processor']} ms of processor time).",
            "",
        ]
    return "\n".join(lines)


def _setting(counts: Sequence[Mapping[str, int]], setting: str) -> str:
    draws = counted(len(counts), "draw")
    if setting == "known":
        return f"{counted(counts[0]['topics'], 'topic')}, all known ({draws})"
    return f"{counted(counts[0]['topics'], 'topic')} known, the others' questions are strangers ({draws})"


def _details(counts: Sequence[Mapping[str, int]], routers: Mapping[str, Any]) -> str:
    """What the table was measured on, and what it does not hold."""
    means = {name: round(sum(run[name] for run in counts) / len(counts)) for name in counts[0]}
    policy = routers[POLICY]
    thresholds = ", ".join(
        f"{drawn.get('t_gate', 0):.3g} and {drawn.get('t_index', 0):.3g}" for drawn in policy["thresholds"]
    )
    strangers = f", {counted(means['strangers'], 'stranger')}" if means["strangers"] else ""
    return (
        f"A draw: {counted(means['trained'], 'question')} trained, {means['validation']} for validation, {means['asked']} "
        f"asked, {means['met']} left out as near-copies{strangers}; {counted(means['passages'], 'passage')}. "
        f"The gate trains in {figure(policy['seconds'], 0)} s; its calibration error is {figure(routers[GATE]['ece'])}. "
        f"Thresholds of gate and index by draw: {thresholds}."
    )


def _known(routers: Mapping[str, Any]) -> list[list[str]]:
    reworded = ["reworded"] if "reworded" in routers[GATE] else []
    head = ["router", "top-1 (95 %)", "gate's gain (95 %)", *reworded, "lost", "wrong"]
    return [head, *(_known_row(name, figures) for name, figures in routers.items())]


def _known_row(name: str, figures: Mapping[str, Any]) -> list[str]:
    row = [name, with_interval(figures["top1"]), ABSENT if name == GATE else difference(figures["gate_gain"])]
    if "reworded" in figures:
        row.append(figure(figures["reworded"]["value"]))
    lost = figures.get("lost")
    return [*row, figure(lost and lost["value"]), figure(figures.get("wrong"))]


def _strangers(routers: Mapping[str, Any]) -> list[list[str]]:
    head = ["router", "top-1 (95 %)", "AUROC (95 %)", "strangers", "unrelated", "lost", "wrong"]
    rows = [head]
    for name, figures in routers.items():
        strangers, lost = figures.get("strangers_routed"), figures.get("lost")
        area = ABSENT if name == POLICY else with_interval(figures["auroc"])  # its score is the gate's
        shares = [strangers and strangers["value"], figures.get("unrelated_routed"), lost and lost["value"]]
        row = [name, with_interval(figures["top1"]), area, *map(figure, shares), figure(figures.get("wrong"))]
        rows.append(row)
    return rows
