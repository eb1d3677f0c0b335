"""Measures of routers: what each did with a gate study's questions, figures of that, and the time a query."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from lorary.bank.bank import MemoryBank
from lorary.bank.facts import Fact
from lorary.bank.files import BankError
from lorary.bank.memory import Memory
from lorary.research.questions import Questions, Remembered, general_questions, questions_of, unrelated_questions
from lorary.router_training.calibration import fit_scales, outcome
from lorary.routing.gate import DEFAULT_FEATURES
from lorary.routing.policy import Policy, decide
from lorary.routing.router import Router
from lorary.routing.starting import new_gate
from lorary.statistics import Figures, Weightings, auroc, calibration_error, mean, top_calibration_error

KINDS = ("validation", "held_out", "unrelated")
"""What is measured on; unrelated questions are some that no gate trains or is calibrated on."""


def study_questions(bank: MemoryBank) -> dict[str, Questions]:
    """Kind → questions: "trained", then `KINDS`.

    Raises:
        BankError: no fact has a held-out wording, or none was kept for validation.
    """
    questions = {kind: questions_of(bank, kind) for kind in ("trained", "validation", "held_out")}
    if not questions["held_out"].texts:
        raise BankError("no fact of the bank has a held-out wording to measure on; build it from facts with 'held_out'")
    if not questions["validation"].texts:
        raise BankError(
            "no fact of the bank has a wording for validation; give facts more wordings and build the bank with "
            "validation_wordings of 1 or more"
        )
    return questions | {"unrelated": unrelated_questions(general_questions(), len(bank))}


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


def routing_milliseconds(memories: int = 1000, wordings: int = 250, queries: int = 100) -> dict[str, Any]:
    """The median time to route one query among so many memories, the encoder apart, and how the index searched."""
    generator, dimension = torch.Generator().manual_seed(0), 384

    def near(centre: Tensor, count: int) -> Tensor:
        spread = torch.randn(count, dimension, generator=generator) / dimension**0.5
        return functional.normalize(centre + spread, dim=-1)

    sentence = _sentences(Random(0))
    bank = MemoryBank("none", "", "none", {}, "")
    for number, centre in enumerate(functional.normalize(torch.randn(memories, dimension, generator=generator))):
        name = f"memory-{number}"
        facts = tuple(Fact(name, next(sentence), "answer") for _ in range(wordings))
        bank.memories[name] = Memory(name, {}, {}, facts, near(centre, wordings), tuple(range(wordings)))
    drawn = torch.randint(memories, (queries,), generator=generator).tolist()
    vectors = {f"{i} {next(sentence)}": near(list(bank)[m].keys[0], 1)[0] for i, m in enumerate(drawn)}
    texts, elsewhere = list(vectors), near(torch.zeros(dimension), 1)[0]
    encoder = Remembered(
        lambda sentences: torch.stack([vectors.get(s, elsewhere) for s in sentences]), dimension, "none"
    )
    gate = new_gate(bank, encoder, 0, DEFAULT_FEATURES).requires_grad_(False)
    router = Router(bank, gate, Policy(), lambda: encoder)
    router.decide(router.features(texts[:1]))  # builds the indices
    spent = []
    for text in texts:
        began = time.perf_counter()
        router.decide(router.features([text]))
        spent.append(1000 * (time.perf_counter() - began))
    median = round(sorted(spent)[len(spent) // 2], 2)
    return {"memories": memories, "wordings": memories * wordings, "kind": router.index.kind, "median": median}


def _sentences(random: Random) -> Iterator[str]:
    """Sentences of eight invented words, the last two of them a name; a word is as frequent as words are (Zipf)."""
    while True:
        words = ["".join("abcdefghij"[int(digit)] for digit in str(int(20_000 ** random.random()))) for _ in range(8)]
        yield " ".join([*words[:6], *(word.title() for word in words[6:])])
