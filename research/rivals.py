"""Rivals: how PEFT's own routers, X-LoRA and Arrow, weigh the memories of a bank for questions."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lorary.bank.adapters import CONFIG, WEIGHTS
from lorary.bank.bank import MemoryBank
from lorary.bank.files import write_aside
from lorary.base.loading import Base
from lorary.errors import LoraryError
from lorary.memories.rows import Row, tokenise
from lorary.model.composite import base_of
from lorary.randomness import seeded

RIVALS = ("xlora", "arrow")
PEFT = version("peft")
_EVALUATED = 32  # rows a pass where nothing trains


class RivalError(LoraryError):
    """A bank that a rival cannot route over: says why."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What X-LoRA may spend on its training; Arrow trains nothing.

    Args:
        seconds: seconds of training on trained wordings, the preparation apart; Arrow trains nothing.
        batch_size: rows a training step.
        lr: AdamW learning rate, which falls to nothing over the training.

    Raises:
        RivalError: nothing could be trained so.
    """

    seconds: float = 60.0
    batch_size: int = 64
    lr: float = 3e-3

    def __post_init__(self) -> None:
        if not (self.seconds >= 0 and self.batch_size >= 1 and self.lr > 0):
            raise RivalError(
                f"X-LoRA cannot train with {self}; give 0 seconds or more, a batch size of 1 or more, and lr above 0"
            )


@dataclass(frozen=True, kw_only=True)
class Task:
    """Questions with their answers to train on, and questions to weigh the memories for."""

    trained: Sequence[tuple[str, str]]
    questions: Sequence[str]


@dataclass(frozen=True)
class Contest:
    """What a rival gets: the adapters' folders, rows to train on (with answers), and rows to weigh (prompts alone)."""

    folders: list[Path]
    trained: list[Row]
    prompts: list[Row]
    pad_id: int

    def batches(self) -> list[tuple[list[int], Tensor, Tensor]]:
        """(numbers of the rows, padded ids, 1 for real tokens) of each batch of rows to weigh, of like length."""
        order, batches = sorted(range(len(self.prompts)), key=lambda i: len(self.prompts[i].ids)), []
        for start in range(0, len(order), _EVALUATED):
            part = order[start : start + _EVALUATED]
            batches.append((part, *padded([self.prompts[i].ids for i in part], self.pad_id)))
        return batches


@dataclass(frozen=True)
class Outcome:
    """A rival's weights of the memories, and what there is to tell of how they came about.

    Args:
        scores: [rows, memories], means over tokens and layers.
        total: the least and the greatest sum of a token's weights.
    """

    scores: Float[Tensor, "rows memories"]
    total: tuple[float, float]
    seconds: float = 0.0
    steps: int = 0
    rows: int = 0


def padded(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """(right-padded ids, 1 for real tokens)."""
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=pad_id)
    lengths = torch.tensor([len(row) for row in rows])
    return ids, (torch.arange(ids.shape[1]) < lengths.unsqueeze(-1)).float()


def over_tokens(
    weights: Float[Tensor, "batch seq memories"], real: Float[Tensor, "batch seq"]
) -> Float[Tensor, "batch memories"]:
    """The mean over a row's real tokens."""
    return torch.einsum("bsm,bs->bm", weights.float(), real) / real.sum(-1, keepdim=True)


def check_rival(rival: str) -> None:
    """Raises RivalError for an unknown one."""
    if rival not in RIVALS:
        raise RivalError(f"rival {rival!r} is unknown; choose from {list(RIVALS)}")


def weigh(
    rival: str, bank: MemoryBank, task: Task, budget: Budget, *, seed: int = 0, base: Base | None = None
) -> tuple[dict[str, Any], Float[Tensor, "questions memories"] | None]:
    """(what a rival's run took, its weights of the memories for each question; None where it refuses the bank).

    Args:
        seed: of first weights and order; the caller's random numbers are as they were afterwards.
        base: the bank's, loaded; it is left changed.

    Raises:
        RivalError: an unknown rival.
    """
    check_rival(rival)
    loaded, run = base_of(bank, base), {"rival": rival, "seed": seed, "peft": PEFT}
    with TemporaryDirectory() as work, seeded(seed):
        try:
            outcome = _outcome(rival, loaded, _contest(bank, task, loaded, Path(work)), budget, seed)
        except RivalError as error:
            return run | {"refused": str(error)}, None
        finally:
            gc.collect()
    took = {"seconds": outcome.seconds, "steps": outcome.steps, "rows": outcome.rows, "total": list(outcome.total)}
    return run | took, outcome.scores


def _outcome(rival: str, base: Base, contest: Contest, budget: Budget, seed: int) -> Outcome:
    if rival == "arrow":
        from lorary.research.arrow import arrow_outcome

        began = time.perf_counter()
        outcome = arrow_outcome(base, contest, seed)
        return replace(outcome, seconds=round(time.perf_counter() - began, 1))
    from lorary.research.xlora import xlora_outcome

    return xlora_outcome(base, contest, budget, seed)


def adapter_folders(bank: MemoryBank, work: Path) -> list[Path]:
    """A folder in `work` for each memory, with the adapter alone, as PEFT reads it."""
    folders = [work / str(number) for number in range(len(bank))]
    for memory, folder in zip(bank, folders, strict=True):
        files = memory.files()
        for name in (CONFIG, WEIGHTS):
            write_aside(folder / name, files[name])
    return folders


def _contest(bank: MemoryBank, task: Task, base: Base, work: Path) -> Contest:
    trained = [tokenise(base.tokenizer, 0, i, question, answer) for i, (question, answer) in enumerate(task.trained)]
    rows = [tokenise(base.tokenizer, 0, i, question, "") for i, question in enumerate(task.questions)]
    prompts = [replace(row, ids=row.ids[: row.start]) for row in rows]
    return Contest(adapter_folders(bank, work), trained, prompts, int(base.tokenizer.pad_token_id))
