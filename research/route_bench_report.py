"""The routing benchmark's tables: seeds together, intervals over facts, which combination of features is best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lorary.statistics import cluster_mean, interval
from lorary.tables import ABSENT, counted, figure, markdown_table, with_interval

_COLUMNS = (
    "router",
    "top-1 (95 %)",
    "validation",
    "policy top-1",
    "AUROC",
    "unrelated routed",
    "unknown names routed",
    "known lost",
    "ECE before → after",
    "seconds",
)


def figures_by_set(runs: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """set → router → figures: means over the seeds, top-1 with its interval over the facts of all seeds."""
    sets: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(key.split("/")[0] for key in runs):
        seeds = {key: run for key, run in runs.items() if key.split("/")[0] == name}
        # A fact of another seed is another fact; folds of a seed ask the same ones.
        facts = [f"{'/'.join(key.split('/')[:2])}/{fact}" for key, run in seeds.items() for fact in run["facts"]]
        sets[name] = {router: _together(seeds, router, facts) for router in next(iter(seeds.values()))["routers"]}
    return sets


def _together(seeds: Mapping[str, Any], router: str, facts: Sequence[str]) -> dict[str, Any]:
    """A router's figures over the seeds of a set.

    Args:
        facts: of each question, in the order of the seeds.
    """
    each = [run["routers"][router] for run in seeds.values()]
    parts = [part for run in seeds.values() for part in run["parts"]]
    right = [hit for figures in each for hit in figures["right"]]
    combined: dict[str, Any] = {
        "top1": interval(cluster_mean(right, facts)),
        "seeds": [_mean(figures["right"]) for figures in each],
        "parts": {
            part: _mean([hit for hit, other in zip(right, parts, strict=True) if other == part])
            for part in dict.fromkeys(parts)
        },
    }
    for key in ("validation", "auroc", "ece_before", "ece", "seconds"):
        if key in each[0]:
            combined[key] = _mean([figures[key] for figures in each])
    for key in ("policy", "joining"):
        if key in each[0]:
            combined[key] = {name: _mean([figures[key][name] for figures in each]) for name in each[0][key]}
    if "policy_right" in each[0]:
        hits = [hit for figures in each for hit in figures["policy_right"]]
        combined["policy_top1"] = interval(cluster_mean(hits, facts))
    return combined


def _mean(values: Sequence[float | None] | Sequence[int]) -> Any:
    """The mean of the runs that measured it; None where none did."""
    measured = [value for value in values if value is not None]
    return round(sum(measured) / len(measured), 4) if measured else None


def best_features(sets: Mapping[str, Mapping[str, Any]], key: str = "validation") -> dict[str, float]:
    """Gate → mean top-1 over the sets, best first: on validation wordings, or by `top1` on those that runs score."""
    gates = [router for router in next(iter(sets.values()), {}) if router.startswith("gate: ")]
    scores = {gate: [routers[gate][key] for routers in sets.values()] for gate in gates}
    means = {gate: _mean([s["value"] if key == "top1" else s for s in each]) for gate, each in scores.items()}
    return dict(sorted(means.items(), key=lambda item: -item[1]))


def tell_routing(results: Mapping[str, Any]) -> str:
    """The whole report in Markdown: a table a set, then what the tables do not hold."""
    lines = [
        "# Routing",
        "",
        "Wordings held out, or left out by a fold; means over runs; 95 % intervals resample facts.",
        "",
    ]
    for name, routers in results["sets"].items():
        parts = [part for part in next(iter(routers.values()))["parts"] if name.startswith("overlapping")]
        columns = [*_COLUMNS[:2], *parts, *_COLUMNS[2:]]
        rows = [columns, *(_row(router, measured, parts) for router, measured in routers.items())]
        seeds = len(next(iter(routers.values()))["seeds"])
        lines += [
            f"## {name} ({counted(seeds, 'run' if 'folds' in name else 'seed')})",
            "",
            markdown_table(rows),
            "",
        ]
        lines += [
            f"A memory joins without training ({router}): top-1 on its questions {measured['joining']['own']:.3f}, on the "
            f"others {measured['joining']['others_before']:.4f} before and {measured['joining']['others_after']:.4f} after.\n"
            for router, measured in routers.items()
            if "joining" in measured
        ]
    folds = {name: routers for name, routers in results["sets"].items() if "folds" in name}
    whole = {name: routers for name, routers in results["sets"].items() if name not in folds}
    for sets, key, what in ((whole, "validation", "validation"), (folds, "top1", "left-out")):
        order = ", ".join(f"{gate} {mean:.4f}" for gate, mean in best_features(sets, key).items())
        lines += [f"Gates by mean top-1 on {what} wordings: {order}.", ""] if sets else []
    if speed := results.get("milliseconds_a_query"):
        lines += [
            f"Routing one query among {counted(speed['memories'], 'memory')} of "
            f"{counted(speed['wordings'] // speed['memories'], 'wording')} "
            f"(index: {speed['kind']}), the encoder apart: {speed['median']} ms.",
        ]
    return "\n".join([*lines, ""])


def _row(router: str, measured: Mapping[str, Any], parts: Sequence[str]) -> list[str]:
    row = [router, with_interval(measured["top1"], 4), *(figure(measured["parts"][part], 4) for part in parts)]
    row += [figure(measured["validation"], 4)]
    if "policy" not in measured:
        return [*row, ABSENT, figure(measured["auroc"], 4), *[ABSENT] * 5]
    policy = measured["policy"]
    return [
        *row,
        figure(policy["top1"], 4),
        figure(measured["auroc"], 4),
        figure(policy["unrelated_routed"]),
        figure(policy["unknown_names_routed"]),
        figure(policy["known_lost"]),
        f"{measured['ece_before']:.3f} → {measured['ece']:.3f}",
        figure(measured["seconds"], 0),
    ]
