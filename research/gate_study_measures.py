"""What a gate study measures: its questions, what a router did with each, and figures under many weightings of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lorary.bank.bank import MemoryBank
from lorary.bank.files import BankError
from lorary.model.modeling import LoraryForCausalLM
from lorary.research.route_sets import general_questions
from lorary.router_training.calibration import fit_scales, outcome
from lorary.router_training.data import RoutingData
from lorary.router_training.queries import Example, Queries
from lorary.routing.policy import Policy, decide
from lorary.statistics import Figures, Weightings, auroc, calibration_error, mean, top_calibration_error

KINDS = ("validation", "held_out", "unrelated")
"""What is measured on; unrelated questions are some that no gate trains or is calibrated on."""


@dataclass(frozen=True)
class StudyQuestions:
    """Questions of one kind: `memory` is the right one's number, that of none for unrelated ones."""

    texts: list[str]
    memory: Int[Tensor, " questions"]
    answers: list[str | None]
    facts: list[str]

    def examples(self) -> list[Example]:
        """The same as the gate's data knows them."""
        rows = zip(self.texts, self.memory.tolist(), self.answers, strict=True)
        return [Example(text, memory, answer) for text, memory, answer in rows]


def study_questions(bank: MemoryBank) -> dict[str, StudyQuestions]:
    """Kind → questions: "trained", then `KINDS`.

    Raises:
        BankError: no fact has a held-out wording, or none was kept for validation.
    """
    questions = {kind: _questions_of(bank, kind) for kind in ("trained", "validation", "held_out")}
    if not questions["held_out"].texts:
        raise BankError("no fact of the bank has a held-out wording to measure on; build it from facts with 'held_out'")
    if not questions["validation"].texts:
        raise BankError(
            "no fact of the bank has a wording for validation; give facts more wordings and build the bank with "
            "validation_wordings of 1 or more"
        )
    general = general_questions()
    none = torch.full((len(general),), len(bank))
    facts = [f"unrelated/{i}" for i in range(len(general))]
    questions["unrelated"] = StudyQuestions(general, none, [None] * len(general), facts)
    return questions


def _questions_of(bank: MemoryBank, kind: str) -> StudyQuestions:
    rows = [
        (wording, number, fact.answer, f"{memory.name}/{i}")
        for number, memory in enumerate(bank)
        for i, fact in enumerate(memory.facts)
        for wording in getattr(fact, kind)
    ]
    texts, numbers, answers, facts = ([row[i] for row in rows] for i in range(4))
    return StudyQuestions(texts, torch.tensor(numbers, dtype=torch.long), answers, facts)  # type: ignore[arg-type]


def measured_on(
    model: LoraryForCausalLM, data: RoutingData, questions: dict[str, StudyQuestions]
) -> dict[str, Queries]:
    """Kind → questions with their features, for each of `KINDS`."""
    reads = model if "hidden" in model.gate.features else None
    return {kind: Queries(model.router, data.wordings, questions[kind].examples(), reads) for kind in KINDS}


def figures(run: Mapping[str, Any], weights: Mapping[str, Weightings]) -> dict[str, Figures]:
    """Name → figure of one run under every weighting.

    Args:
        weights: of the validation, held_out and unrelated questions.
    """
    held_out, unrelated = weights["held_out"], weights["unrelated"]
    measures: dict[str, Callable[[], Figures]] = {
        "top1": lambda: mean(run["right"], held_out),
        "validation": lambda: mean(run["validation_right"], weights["validation"]),
        "policy_top1": lambda: mean(run["policy_right"], held_out),
        "auroc": lambda: auroc(torch.tensor(run["confidence"]), torch.tensor(run["unrelated"]), held_out, unrelated),
        "ece": lambda: calibration_error(torch.tensor(run["sure"]), torch.tensor(run["hit"]).bool(), held_out),
    }
    needs = {"policy_top1": "policy_right", "ece": "sure"}
    return {name: measure() for name, measure in measures.items() if name not in needs or needs[name] in run}


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
    known, right = probabilities["held_out"], memory["held_out"]
    kinds = ("held_out", "unrelated")
    together, owners = torch.cat([probabilities[k] for k in kinds]), torch.cat([memory[k] for k in kinds])
    decided = decide(together, torch.cat([votes[k] for k in kinds]), policy)
    policy_right = (decided.source > 0) & (decided.weights.argmax(-1) == owners)
    sure, chosen = known.max(-1)
    return {
        "right": _ints(known[:, :-1].argmax(-1) == right),
        "validation_right": _ints(probabilities["validation"][:, :-1].argmax(-1) == memory["validation"]),
        "policy_right": _ints(policy_right[: len(right)]),
        "confidence": _floats(known[:, :-1].amax(-1)),
        "unrelated": _floats(probabilities["unrelated"][:, :-1].amax(-1)),
        "sure": _floats(sure),
        "hit": _ints(chosen == right),
        "ece_before": round(top_calibration_error(before.softmax(-1), right), 4),
        **{name: value for name, value in outcome(decided, owners).items() if name != "top1"},
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
        logits = {kind: weights.clamp(min=1e-9).log() for kind, weights in scores.items()}
        start = {"log": torch.zeros(()), "none": torch.tensor(-1e4)}  # it knows no none
        scale = fit_scales({"log": logits["validation"]}, start, memory["validation"])["log"].exp()
        run["ece_before"] = round(top_calibration_error(scores["held_out"], memory["held_out"]), 4)
        scores = {kind: (scale * logs).softmax(-1) for kind, logs in logits.items()}
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
