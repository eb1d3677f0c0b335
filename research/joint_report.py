"""The report of a joint study: figures over seeds and facts, and differences to gates that learn from names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lorary.statistics import Figures, crossed_mean, interval, weightings
from lorary.tables import difference, figure, markdown_table, with_interval

LABELS = "names"
"""The arm that the others are compared with."""


def scores_of(bank: Mapping[str, Any], chosen: Sequence[Sequence[int]]) -> dict[str, Float[Tensor, "runs prompts"]]:
    """What follows from where gates led the held-out prompts: whether that was the right memory, whether its answer was
    exact, and the completion's nats a token under it.

    Args:
        chosen: the source that each run led each prompt to.
    """
    led, right = torch.tensor(chosen), torch.tensor(bank["right"])
    exact, nats = torch.tensor(bank["exact"]).float(), torch.tensor(bank["nats"])
    return {
        "right": (led == right).float(),
        "exact": torch.stack([exact.gather(1, row.unsqueeze(1)).squeeze(1) for row in led]),
        "nats": torch.stack([nats.gather(1, row.unsqueeze(1)).squeeze(1) for row in led]),
    }


def figures_of(results: Mapping[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """Setting → arm → figure, with intervals over seeds and facts, and how far each lies above that of names."""
    told: dict[str, dict[str, dict[str, Any]]] = {}
    for setting, bank in results["banks"].items():
        facts, arms = weightings(bank["facts"]), dict[str, dict[str, Any]]()
        runs: dict[str, list[Mapping[str, Any]]] = {}
        for key, run in results["runs"].items():
            name, arm, _ = key.split("/")
            if name == setting:
                runs.setdefault(arm, []).append(run)
        drawn = {
            arm: {
                f"{kind} {name}": crossed_mean(scores, weightings(range(len(own))), facts)
                for kind in ("keys", "policy")
                if kind in own[0]
                for name, scores in scores_of(bank, [run[kind] for run in own]).items()
            }
            for arm, own in runs.items()
        }
        for arm, own in runs.items():
            arms[arm] = {name: interval(figures) for name, figures in drawn[arm].items()}
            arms[arm]["over names"] = {name: interval(_less(drawn, arm, name)) for name in drawn[arm]}
            arms[arm]["seconds"] = sum(run["seconds"] for run in own) / len(own)
            strangers = [led != len(bank["memories"]) for run in own for led in run.get("unrelated", ())]
            arms[arm]["unrelated"] = sum(strangers) / len(strangers) if strangers else None
        told[setting] = arms
    return told


def _less(drawn: Mapping[str, Mapping[str, Figures]], arm: str, name: str) -> Figures:
    """A figure less that of names, or less its keys' where an arm has no other, in each resample."""
    return drawn[arm][name] - drawn[LABELS][name]


def sources_of(bank: Mapping[str, Any]) -> dict[str, float]:
    """The share of exact answers of the right memory, of the best single one for all, and of the base."""
    exact, right = torch.tensor(bank["exact"]).float(), torch.tensor(bank["right"])
    return {
        "the right memory": float(exact.gather(1, right.unsqueeze(1)).mean()),
        **{name: float(own) for name, own in zip((*bank["memories"], "the base"), exact.mean(0), strict=True)},
    }


def tell_joint(results: Mapping[str, Any]) -> str:
    """The report in Markdown."""
    lines = ["# Joint study", "", f"Base {results['settings']['base']}, {results['seeds']} seeds of each gate.", ""]
    for setting, arms in figures_of(results).items():
        bank = results["banks"][setting]
        sources = ", ".join(f"{name} {share:.3f}" for name, share in sources_of(bank).items())
        lines += [
            f"## {setting}",
            "",
            f"{bank['examples']} examples, {len(bank['right'])} held-out prompts. Exact answers: {sources}. "
            f"Labels by loss name the right memory for {bank['labels_right']:.3f} of the examples and take "
            f"{bank['label_seconds']:.1f} s.",
            "",
            markdown_table(_rows(arms)),
            "",
            markdown_table(_differences(arms)),
            "",
        ]
    return "\n".join(lines)


_SHOWN = ("keys right", "keys exact", "keys nats", "policy right", "policy exact", "policy nats")


def _rows(arms: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    head = ["learns from", *_SHOWN, "unrelated routed", "seconds"]
    return [
        head,
        *(
            [
                arm,
                *(with_interval(own.get(name)) for name in _SHOWN),
                figure(own["unrelated"]),
                f"{own['seconds']:.1f}",
            ]
            for arm, own in arms.items()
        ),
    ]


def _differences(arms: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    head = ["less names", *_SHOWN]
    rows = [[arm, *(difference(own["over names"].get(name)) for name in _SHOWN)] for arm, own in arms.items()]
    return [head, *(row for row in rows if row[0] != LABELS)]
