"""A gate study's table: seeds together, intervals over facts, what joint training is worth, what the rivals cannot do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from lorary.research.measures import figures
from lorary.statistics import interval, weightings
from lorary.tables import counted, difference, figure, markdown_table, with_interval

NAMES = {
    "labels": "gate: labels alone",
    "language": "gate: language-model loss alone",
    "both": "gate: labels and language-model loss",
    "soft-labels": "gate: soft labels by measured loss",
    "xlora": "X-LoRA (PEFT)",
    "arrow": "Arrow (PEFT)",
    "index": "index, best fact",
}
PAIRS = (("labels", "both"), ("labels", "soft-labels"), ("labels", "language"), ("language", "both"), ("xlora", "both"))
VERIFIED = "0.21.2"
"""The version of PEFT on which the tests show what the sentences on rivals say."""
_COLUMNS = (
    "router",
    "held-out top-1 (95 %)",
    "seeds",
    "validation top-1 (95 %)",
    "policy top-1 (95 %)",
    "AUROC (95 %)",
    "ECE before →",
    "after (95 %)",
    "unrelated routed",
    "seconds",
)


def figures_by_router(results: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(router → figures over its seeds, "a → b" → paired differences of b less a, for the pairs that were run)."""
    weights = {kind: weightings(facts, seed=i) for i, (kind, facts) in enumerate(sorted(results["facts"].items()))}
    routers, means = dict[str, Any](), dict[str, dict[str, torch.Tensor]]()
    for name in NAMES:
        runs = [run for key, run in sorted(results["runs"].items()) if key.split("/")[0] == name]
        if not runs:
            continue
        each = [figures(run, weights) for run in runs]
        means[name] = {key: torch.stack([seed[key] for seed in each]).mean(0) for key in each[0]}
        routers[name] = {key: interval(values) for key, values in means[name].items()}
        routers[name]["top1"]["seeds"] = [round(float(seed["top1"][0]), 4) for seed in each]
        for key in ("ece_before", "unrelated_routed", "known_lost", "seconds", "steps"):
            if all(run.get(key) is not None for run in runs):
                routers[name][key] = round(sum(run[key] for run in runs) / len(runs), 4)
    differences = {
        f"{a} → {b}": {key: interval(means[b][key] - means[a][key]) for key in means[a] if key in means[b]}
        for a, b in PAIRS
        if a in means and b in means
    }
    return routers, differences


def tell_gates(results: Mapping[str, Any]) -> str:
    """The whole report in Markdown."""
    counts, seeds = results["counts"], results["seeds"]
    settings = results["settings"]
    lines = [
        "# What joint training of the gate is worth",
        "",
        f"{counted(counts['memories'], 'memory')} of {counted(counts['facts'], 'fact')} over {results['base']}; "
        f"{counted(counts['trained'], 'trained wording')}, {counts['validation']} for validation, {counts['held_out']} "
        f"held out, {counted(counts['unrelated'], 'unrelated question')} that nothing trained on. "
        f"{counted(seeds, 'seed')}; {counted(settings['max_epochs'], 'epoch')} in batches of "
        f"{settings['batch_size']}, none ended early.",
        "",
        markdown_table([_COLUMNS, *(_row(*router) for router in results["routers"].items())]),
        "",
        "Means over seeds. The intervals resample facts (with all their wordings) and unrelated questions; they do not "
        "cover the spread between seeds, which the column beside tells. ECE is after calibration on validation wordings; "
        "its intervals lean upwards, since a resample adds noise to every bin. Seconds are of training; those of soft "
        "labels hold the measuring of the losses.",
        "",
        *_labels(results),
        *_differences(results["differences"]),
        *_rivals(results),
    ]
    return "\n".join([*lines, ""])


def _row(name: str, measured: Mapping[str, Any]) -> list[str]:
    return [
        NAMES[name],
        with_interval(measured["top1"], 4),
        ", ".join(f"{top1:.4f}" for top1 in measured["top1"]["seeds"]),
        *(with_interval(measured.get(key), 4) for key in ("validation", "policy_top1", "auroc")),
        figure(measured.get("ece_before")),
        with_interval(measured.get("ece"), 4),
        figure(measured.get("unrelated_routed")),
        figure(measured.get("seconds"), 0),
    ]


def _labels(results: Mapping[str, Any]) -> list[str]:
    """How far labels by loss agree with labels by facts."""
    if "labels_by_loss" not in results:
        return []
    agreed, temperature = results["labels_by_loss"], results["settings"]["label_temperature"]
    return [
        f"Under the memory that holds the fact the answer has the least loss for {agreed['own_least']:.3f} of the trained "
        f"wordings; at temperature {temperature} soft labels give that memory {agreed['own_share']:.3f} on average.",
        "",
    ]


def _differences(differences: Mapping[str, Any]) -> list[str]:
    if not differences:
        return []
    rows = [["from → to", "held-out top-1", "policy top-1", "AUROC", "ECE"]]
    for pair, scores in differences.items():
        names = " → ".join(NAMES[name] for name in pair.split(" → "))
        rows.append([names, *(difference(scores.get(key), 4) for key in ("top1", "policy_top1", "auroc", "ece"))])
    return [
        "## Differences",
        "",
        "Paired: both under the same resampled facts. Bold where the interval leaves 0 out.",
        "",
        markdown_table(rows),
        "",
    ]


def _rivals(results: Mapping[str, Any]) -> list[str]:
    """What the rivals did, and what they cannot do."""
    rivals = results["rivals"]
    lines: list[str] = []
    for name in dict.fromkeys(key.split("/")[0] for key in sorted(rivals, reverse=True)):
        every = [run for key, run in sorted(rivals.items()) if key.split("/")[0] == name]
        ran = [run for run in every if "refused" not in run]
        lines += [f"- {NAMES[name]} did not run: {run['refused']}" for run in every[:1] if not ran]
        if ran:
            lines.append(f"- {NAMES[name]}, PEFT {ran[0]['peft']}: {_LIMITS[name](ran)}")
    if not lines:
        return []
    reading = (
        "Their routing is read from the weights that they give the memories, averaged over the question's tokens and over "
        f"layers. What they cannot do was verified on PEFT {VERIFIED}."
    )
    return ["## Rivals", "", reading, "", *lines]


def _sums(ran: Sequence[Mapping[str, Any]]) -> str:
    low, high = min(run["total"][0] for run in ran), max(run["total"][1] for run in ran)
    return (
        "It cannot abstain: at every token the weights of the memories sum to 1 "
        f"(measured: {low:.3f} to {high:.3f}), so unrelated questions are routed too."
    )


def _xlora(ran: Sequence[Mapping[str, Any]]) -> str:
    steps, rows, seconds = (sum(run[key] for run in ran) / len(ran) for key in ("steps", "rows", "seconds"))
    why = ", as long as the slowest gate of its seed" if all(run["as_long_as_gates"] for run in ran) else ""
    return (
        f"trained by the language-model loss on the same answers for {seconds:.0f} s{why}: {counted(round(steps), 'step')}, "
        f"{counted(round(rows), 'row')}. It cannot learn from labels or unrelated questions. {_sums(ran)} It "
        "cannot be reloaded as it was trained: PEFT leaves the classifier's tensors out of the saved file, since their "
        "names hold a number as the adapters' do, and the reloaded one starts from random weights; and the saved folder "
        "names its adapters by their paths, so that it does not load once those have moved. It takes no further adapter."
    )


def _arrow(ran: Sequence[Mapping[str, Any]]) -> str:
    return (
        f"trains nothing. {_sums(ran)} Its saved router does not load; made anew from the adapters' folders, with the "
        "same seed, it is the same. It needs adapters of one rank with the same targets. Where they leave layers out its "
        "forward pass fails; here the base's own linears were put back there."
    )


_LIMITS = {"xlora": _xlora, "arrow": _arrow}
