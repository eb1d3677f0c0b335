"""Rivals: how PEFT's own routers, X-LoRA and Arrow, weigh the memories of a bank for the questions of a gate study.

The study and this folder meet on disk. The study's folder holds `questions.jsonl` (each line a `kind`, a `question`, its
`memory` and its `answer`); here `rivals/NAME-SEED.safetensors` is written (`scores`: a weight of each memory for each
question that is not of the kind "trained", in order), then `rivals/NAME-SEED.json` with what there is to tell.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import peft
import torch
from jaxtyping import Float
from safetensors.torch import save
from torch import Tensor

from lorary.bank.adapters import CONFIG, WEIGHTS
from lorary.bank.bank import MemoryBank
from lorary.bank.facts import read_lines
from lorary.bank.files import BankError, to_json, write_aside
from lorary.base.loading import Base
from lorary.errors import LoraryError
from lorary.memories.rows import Row, tokenise
from lorary.model.composite import base_of

RIVALS = ("xlora", "arrow")
_EVALUATED = 32  # rows a pass where nothing trains


class RivalError(LoraryError):
    """A bank that a rival cannot route over: says why."""


@dataclass(frozen=True)
class Contest:
    """What a rival gets: the adapters' folders, rows to train on (with answers), and rows to weigh (prompts alone)."""

    folders: list[Path]
    trained: list[Row]
    asked: list[Row]
    pad_id: int

    def prompts(self) -> list[tuple[list[int], Tensor, Tensor]]:
        """(numbers of the rows, padded ids, 1 for real tokens) of each batch of rows to weigh, of like length."""
        order, found = sorted(range(len(self.asked)), key=lambda i: len(self.asked[i].ids)), []
        for start in range(0, len(order), _EVALUATED):
            part = order[start : start + _EVALUATED]
            found.append((part, *padded([self.asked[i].ids for i in part], self.pad_id)))
        return found


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


def rival_scores(
    bank: str | Path,
    *,
    study: str | Path,
    rival: str,
    seed: int = 0,
    seconds: float = 60.0,
    batch_size: int = 64,
    lr: float = 3e-3,
    base: Base | None = None,
) -> dict[str, Any]:
    """What there is to tell of a rival on a study's questions; the weights that it gave lie in the study's folder.

    Args:
        seconds: that X-LoRA may train, its own preparation apart; Arrow trains nothing.

    Raises:
        ValueError: an unknown rival.
        BankError: the folder holds no questions, or questions of another bank.
    """
    if rival not in RIVALS:
        raise ValueError(f"rival {rival!r} is unknown; choose from {list(RIVALS)}")
    opened, place = MemoryBank.load(bank), Path(study) / "rivals"
    lines = _read(Path(study) / "questions.jsonl", opened)
    loaded = base_of(opened, base)
    told: dict[str, Any] = {"rival": rival, "seed": seed, "peft": peft.__version__}
    with TemporaryDirectory() as work:
        contest = _contest(opened, lines, loaded, Path(work))
        torch.manual_seed(seed)
        try:
            outcome = _run(rival, loaded, contest, seconds=seconds, batch_size=batch_size, lr=lr, seed=seed)
        except RivalError as error:
            told["refused"] = str(error)
        else:
            told |= {"seconds": outcome.seconds, "steps": outcome.steps, "rows": outcome.rows, "total": outcome.total}
            content = save({"scores": outcome.scores.contiguous()}, metadata={"format": "pt"})
            write_aside(place / f"{rival}-{seed}.safetensors", content)
    write_aside(place / f"{rival}-{seed}.json", to_json(told))
    return told


def _run(rival: str, base: Base, contest: Contest, **training: Any) -> Outcome:
    if rival == "arrow":
        from lorary.research.arrow import arrow_outcome

        began = time.perf_counter()
        found = arrow_outcome(base, contest, training["seed"])
        return Outcome(found.scores, found.total, seconds=round(time.perf_counter() - began, 1))
    from lorary.research.xlora import xlora_outcome

    return xlora_outcome(base, contest, **training)


def _read(path: Path, bank: MemoryBank) -> list[dict[str, Any]]:
    """The study's questions. Raises BankError where there are none, or none that this bank can answer."""
    if not path.is_file():
        raise BankError(f"{path} is missing; `lorary gate-study` writes it")
    lines = [given for _, given in read_lines(path)]
    if other := sorted({line["memory"] for line in lines if line["memory"]} - set(bank.names)):
        raise BankError(f"{path}: asks for {other[0]!r}, which the bank does not hold; give the study's bank")
    return lines


def adapter_folders(bank: MemoryBank, work: Path) -> list[Path]:
    """A folder in `work` for each memory, with the adapter alone, as PEFT reads it."""
    folders = [work / str(number) for number in range(len(bank))]
    for memory, folder in zip(bank, folders, strict=True):
        files = memory.files()
        for name in (CONFIG, WEIGHTS):
            write_aside(folder / name, files[name])
    return folders


def _contest(bank: MemoryBank, lines: Sequence[dict[str, Any]], base: Base, work: Path) -> Contest:
    names = bank.names
    trained, asked = list[Row](), list[Row]()
    for line in lines:
        owner = names.index(line["memory"]) if line["memory"] else len(names)
        row = tokenise(base.tokenizer, owner, 0, line["question"], line["answer"] or "")
        if line["kind"] != "trained":
            asked.append(Row(owner, 0, row.ids[: row.start], row.start))
        elif line["answer"]:
            trained.append(row)
    return Contest(adapter_folders(bank, work), trained, asked, int(base.tokenizer.pad_token_id))
