"""The routing benchmark's tables: seeds together, intervals over facts, which combination of features is best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lorary.statistics import Weightings, interval, mean, weightings

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


def combine(runs: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """set → router → figures: means over the seeds, top-1 with its interval over the facts of all seeds."""
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(run.split("/")[0] for run in runs):
        seeds = {run: given for run, given in runs.items() if run.split("/")[0] == name}
        # A fact of another seed is another fact; folds of a seed ask the same ones.
        runs_of = {run: "/".join(run.split("/")[:2]) for run in seeds}
        weights = weightings([f"{runs_of[run]}/{fact}" for run, given in seeds.items() for fact in given["facts"]])
        found[name] = {router: _together(seeds, router, weights) for router in next(iter(seeds.values()))["routers"]}
    return found


def _together(seeds: Mapping[str, Any], router: str, weights: Weightings) -> dict[str, Any]:
    each = {run: given["routers"][router] for run, given in seeds.items()}
    parts = [part for given in seeds.values() for part in given["parts"]]
    right = [hit for figures in each.values() for hit in figures["right"]]
    told: dict[str, Any] = {"top1": interval(mean(right, weights)), "seeds": [_mean(f["right"]) for f in each.values()]}
    told["parts"] = {
        part: _mean([hit for hit, other in zip(right, parts, strict=True) if other == part])
        for part in dict.fromkeys(parts)
    }
    one = next(iter(each.values()))
    for key in ("validation", "auroc", "ece_before", "ece", "seconds"):
        if key in one:
            told[key] = _mean([figures[key] for figures in each.values()])
    for key in ("policy", "joining"):
        if key in one:
            told[key] = {name: _mean([figures[key][name] for figures in each.values()]) for name in one[key]}
    if "policy_right" in one:
        hits = [hit for figures in each.values() for hit in figures["policy_right"]]
        told["policy_top1"] = interval(mean(hits, weights))
    return told


def _mean(values: Sequence[float] | Sequence[int]) -> float:
    return round(sum(values) / len(values), 4)


def best_features(sets: Mapping[str, Mapping[str, Any]], figure: str = "validation") -> dict[str, float]:
    """Gate → mean top-1 over the sets, best first: on validation wordings, or by `top1` on those that runs score."""
    gates = [router for router in next(iter(sets.values()), {}) if router.startswith("gate: ")]
    told = {gate: [routers[gate][figure] for routers in sets.values()] for gate in gates}
    means = {gate: _mean([one["value"] if figure == "top1" else one for one in each]) for gate, each in told.items()}
    return dict(sorted(means.items(), key=lambda item: -item[1]))


def write_report(results: Mapping[str, Any]) -> str:
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
        rows = [columns, ["---"] * len(columns), *(_row(router, told, parts) for router, told in routers.items())]
        seeds = len(next(iter(routers.values()))["seeds"])
        lines += [
            f"## {name} ({seeds} {'runs' if 'folds' in name else 'seeds'})",
            "",
            *(f"| {' | '.join(row)} |" for row in rows),
            "",
        ]
        lines += [
            f"A memory joins without training ({router}): top-1 on its questions {told['joining']['own']:.3f}, on the "
            f"others {told['joining']['others_before']:.4f} before and {told['joining']['others_after']:.4f} after.\n"
            for router, told in routers.items()
            if "joining" in told
        ]
    folds = {name: routers for name, routers in results["sets"].items() if "folds" in name}
    held = {name: routers for name, routers in results["sets"].items() if name not in folds}
    for sets, figure, what in ((held, "validation", "validation"), (folds, "top1", "left-out")):
        order = ", ".join(f"{gate} {mean:.4f}" for gate, mean in best_features(sets, figure).items())
        lines += [f"Gates by mean top-1 on {what} wordings: {order}.", ""] if sets else []
    if speed := results.get("milliseconds_a_query"):
        lines += [
            f"Routing one query among {speed['memories']} memories of {speed['wordings'] // speed['memories']} wordings "
            f"(index: {speed['kind']}), the encoder apart: {speed['median']} ms.",
        ]
    return "\n".join([*lines, ""])


def _row(router: str, told: Mapping[str, Any], parts: list[str]) -> list[str]:
    top = told["top1"]
    row = [router, f"{top['value']:.4f} ({top['low']:.3f} to {top['high']:.3f})"]
    row += [f"{told['parts'][part]:.4f}" for part in parts]
    row += [f"{told['validation']:.4f}"]
    if "policy" not in told:
        return [*row, "–", f"{told['auroc']:.4f}", *["–"] * 5]
    policy = told["policy"]
    shares = [f"{policy['top1']:.4f}", f"{told['auroc']:.4f}", f"{policy['unrelated_routed']:.3f}"]
    shares += [f"{policy['unknown_names_routed']:.3f}"]
    calibrated = f"{told['ece_before']:.3f} → {told['ece']:.3f}"
    return [*row, *shares, f"{policy['known_lost']:.3f}", calibrated, f"{told['seconds']:.0f}"]
