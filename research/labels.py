"""Labels by loss: how likely each answer is under each memory, measured once, as soft targets for the gate.

The facts say which memory a question belongs to; the losses also know where two memories hold a fact, and where the
right one never learned it. The targets are what retrieval learns from a language model in REPLUG (Shi et al. 2023,
arXiv 2301.12652, eq. 3), with memories for documents.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from lorary.bank.bank import MemoryBank
from lorary.bank.files import BankError
from lorary.model.modeling import LoraryForCausalLM
from lorary.progress import progress_bars
from lorary.router_training.loss_labels import answer_losses
from lorary.router_training.queries import Queries

TEMPERATURE = 0.25
"""Of the softmax over the losses, in nats a token."""
_ROWS = 64  # a pass; nothing trains


def soft_labels(
    losses: Float[Tensor, "batch memories"], memory: Int[Tensor, " batch"], temperature: float
) -> Float[Tensor, "batch memories_and_none"]:
    """softmax(-loss / temperature) over the memories and 0 for none; for unrelated queries 1 for none."""
    known = functional.pad((-losses / temperature).softmax(-1), (0, 1))
    none = losses.shape[-1]
    unrelated = functional.one_hot(torch.full_like(memory, none), none + 1).to(known)
    return torch.where((memory == none).unsqueeze(-1), unrelated, known)


def agreement(
    losses: Float[Tensor, "queries memories"], memory: Int[Tensor, " queries"], temperature: float
) -> dict[str, float]:
    """How far labels by loss agree with labels by facts, over the known queries.

    own_least: the share of them whose own memory has the least loss; own_share: the mean label of their own memory.
    """
    known = memory < losses.shape[-1]
    own, labels = memory[known], soft_labels(losses, memory, temperature)[known]
    shares = {
        "own_least": (losses[known].argmin(-1) == own).float(),
        "own_share": labels.gather(-1, own.unsqueeze(-1)),
    }
    return {name: round(float(values.mean()), 4) for name, values in shares.items()}


def check_adapters(bank: MemoryBank) -> None:
    """Raises BankError where a memory has no adapter to measure a loss under."""
    if without := [memory.name for memory in bank if not memory.tensors]:
        raise BankError(
            f"labels by loss need an adapter in every memory, {without[0]!r} has none; build the bank, or label by facts"
        )


def measure_losses(
    model: LoraryForCausalLM, data: Sequence[Queries], *, quiet: bool = False
) -> list[Float[Tensor, "_ memories"]]:
    """The losses of the queries' answers under each memory of the composite, 0 without one; a bar on standard error."""
    measured = []
    known = [[i for i, example in enumerate(queries.examples) if example.answer is not None] for queries in data]
    with progress_bars(quiet) as bars:
        bar = bars.start("loss of each answer under each memory", sum(map(len, known)))
        for queries, answered in zip(data, known, strict=True):
            losses, answers = torch.zeros(len(queries), len(model.memories)), queries.answers
            assert answers is not None, "losses need queries that were made with a model"
            by_length = sorted(answered, key=lambda i: len(answers.rows[i].ids))  # padding is wasted work
            for start in range(0, len(by_length), _ROWS):
                part = by_length[start : start + _ROWS]
                losses[part] = answer_losses(model, answers, part)
                bar.advance(len(part))
            measured.append(losses)
    return measured
