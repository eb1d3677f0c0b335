"""A study's measures: what a router did with each question, and its figures under many weightings of the questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lorary.router_training.calibration import fit_scales, outcome
from lorary.routing.policy import Policy, decide
from lorary.statistics import Figures, Weightings, auroc, calibration_error, mean, top_calibration_error


def figures(run: Mapping[str, Any], asked: Mapping[str, Weightings]) -> dict[str, Figures]:
    """Name → figure of one run under every weighting; `asked` has those of validation, held_out and unrelated."""
    held = asked["held_out"]
    found: dict[str, Callable[[], Figures]] = {
        "top1": lambda: mean(run["right"], held),
        "validation": lambda: mean(run["validation_right"], asked["validation"]),
        "policy_top1": lambda: mean(run["policy_right"], held),
        "auroc": lambda: auroc(
            torch.tensor(run["confidence"]), torch.tensor(run["unrelated"]), held, asked["unrelated"]
        ),
        "ece": lambda: calibration_error(torch.tensor(run["sure"]), torch.tensor(run["hit"]).bool(), held),
    }
    needs = {"policy_top1": "policy_right", "ece": "sure"}
    return {name: figure() for name, figure in found.items() if name not in needs or needs[name] in run}


def gate_run(
    logits: Mapping[str, Float[Tensor, "_ memories_and_none"]],
    votes: Mapping[str, Float[Tensor, "_ memories"]],
    memory: Mapping[str, Int[Tensor, " _"]],
    policy: Policy,
    before: Float[Tensor, "_ memories_and_none"],
) -> dict[str, Any]:
    """What a calibrated gate did with each question; each mapping has validation, held_out and unrelated ones.

    Args:
        before: its logits on the held-out ones before it was calibrated.
    """
    probabilities = {kind: logits[kind].softmax(-1) for kind in logits}
    held, right = probabilities["held_out"], memory["held_out"]
    kinds = ("held_out", "unrelated")
    together, asked = torch.cat([probabilities[k] for k in kinds]), torch.cat([memory[k] for k in kinds])
    decided = decide(together, torch.cat([votes[k] for k in kinds]), policy)
    policy_right = (decided.source > 0) & (decided.weights.argmax(-1) == asked)
    sure, chosen = held.max(-1)
    return {
        "right": _ints(held[:, :-1].argmax(-1) == right),
        "validation_right": _ints(probabilities["validation"][:, :-1].argmax(-1) == memory["validation"]),
        "policy_right": _ints(policy_right[: len(right)]),
        "confidence": _floats(held[:, :-1].amax(-1)),
        "unrelated": _floats(probabilities["unrelated"][:, :-1].amax(-1)),
        "sure": _floats(sure),
        "hit": _ints(chosen == right),
        "ece_before": round(top_calibration_error(before.softmax(-1), right), 4),
        **{name: value for name, value in outcome(decided, asked).items() if name != "top1"},
    }


def rival_run(
    scores: Mapping[str, Float[Tensor, "_ memories"]], memory: Mapping[str, Int[Tensor, " _"]], *, shares: bool
) -> dict[str, Any]:
    """The same for a rival, which weighs memories and knows no none: every question is routed.

    Args:
        shares: its scores are shares of 1; they are calibrated on validation questions by a temperature, as a gate is.
    """
    run: dict[str, Any] = {}
    if shares:
        logits = {kind: found.clamp(min=1e-9).log() for kind, found in scores.items()}
        start = {"log": torch.zeros(()), "none": torch.tensor(-1e4)}  # it knows no none
        scale = fit_scales({"log": logits["validation"]}, start, memory["validation"])["log"].exp()
        run["ece_before"] = round(top_calibration_error(scores["held_out"], memory["held_out"]), 4)
        scores = {kind: (scale * found).softmax(-1) for kind, found in logits.items()}
        run |= {"known_lost": 0.0, "unrelated_routed": 1.0}
    best, chosen = scores["held_out"].max(-1)
    run["right"] = _ints(chosen == memory["held_out"])
    run["validation_right"] = _ints(scores["validation"].argmax(-1) == memory["validation"])
    run["confidence"], run["unrelated"] = _floats(best), _floats(scores["unrelated"].amax(-1))
    return run | ({"sure": run["confidence"], "hit": run["right"]} if shares else {})


def _ints(values: Tensor) -> list[int]:
    return [int(value) for value in values.tolist()]


def _floats(values: Tensor) -> list[float]:
    return [round(value, 5) for value in values.tolist()]
