"""A gate study's questions: what is trained on, chosen by and measured on, as features and as a file for rivals."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from lorary.bank.bank import MemoryBank
from lorary.bank.files import BankError, write_aside
from lorary.model.modeling import LoraryForCausalLM
from lorary.research.route_sets import general_questions
from lorary.router_training.data import RoutingData
from lorary.router_training.queries import Example, Queries

KINDS = ("validation", "held_out", "unrelated")
"""What is measured on; unrelated questions are some that no gate trains or is calibrated on."""


@dataclass(frozen=True)
class Asked:
    """Questions of one kind: `memory` is the right one's number, that of none for unrelated ones."""

    texts: list[str]
    memory: Int[Tensor, " questions"]
    answers: list[str | None]
    facts: list[str]

    def examples(self) -> list[Example]:
        """The same as the gate's data knows them."""
        rows = zip(self.texts, self.memory.tolist(), self.answers, strict=True)
        return [Example(text, memory, answer) for text, memory, answer in rows]


def study_questions(bank: MemoryBank) -> dict[str, Asked]:
    """Kind → questions: "trained", then `KINDS`.

    Raises:
        BankError: no fact has a held-out wording, or none was kept for validation.
    """
    found = {kind: _asked(bank, kind) for kind in ("trained", "validation", "held_out")}
    if not found["held_out"].texts:
        raise BankError("no fact of the bank has a held-out wording to measure on; build it from facts with 'held_out'")
    if not found["validation"].texts:
        raise BankError(
            "no fact of the bank has a wording for validation; give facts more wordings and build the bank with "
            "validation_wordings of 1 or more"
        )
    general = general_questions()
    none = torch.full((len(general),), len(bank))
    found["unrelated"] = Asked(general, none, [None] * len(general), [f"unrelated/{i}" for i in range(len(general))])
    return found


def _asked(bank: MemoryBank, kind: str) -> Asked:
    rows = [
        (wording, number, fact.answer, f"{memory.name}/{i}")
        for number, memory in enumerate(bank)
        for i, fact in enumerate(memory.facts)
        for wording in getattr(fact, kind)
    ]
    texts, numbers, answers, facts = ([row[i] for row in rows] for i in range(4))
    return Asked(texts, torch.tensor(numbers, dtype=torch.long), answers, facts)  # type: ignore[arg-type]


def write_questions(path: Path, asked: dict[str, Asked], names: list[str]) -> None:
    """Writes the file that rivals read: a line a question, with its kind, memory and answer."""
    lines = [
        {"kind": kind, "question": text, "memory": names[memory] if memory < len(names) else None, "answer": answer}
        for kind in ("trained", *KINDS)
        for text, memory, answer in zip(
            asked[kind].texts, asked[kind].memory.tolist(), asked[kind].answers, strict=True
        )
    ]
    write_aside(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())


def measured_on(model: LoraryForCausalLM, data: RoutingData, asked: dict[str, Asked]) -> dict[str, Queries]:
    """Kind → questions with their features, for each of `KINDS`."""
    reads = model if "hidden" in model.gate.features else None
    return {kind: Queries(model.router, data.wordings, asked[kind].examples(), reads) for kind in KINDS}
