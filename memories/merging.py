"""Merging: several memories → one stock PEFT adapter, for those who want one file and no router."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lorary.bank.adapters import CONFIG, WEIGHTS
from lorary.bank.bank import MemoryBank
from lorary.bank.files import write_aside
from lorary.bank.merging import DENSITY, merged
from lorary.base.loading import Base
from lorary.model.composite import base_of


def merge(
    bank: str | Path | MemoryBank,
    *,
    out: str | Path,
    how: str = "exact",
    memories: Sequence[str] | None = None,
    weights: Sequence[float] | None = None,
    density: float = DENSITY,
    base: Base | None = None,
) -> Path:
    """The folder `out` with one PEFT LoRA adapter that stands for several memories.

    exact: the weighted sum of the updates, their ranks laid side by side (what the mixture computes); ties: trimmed and
    sign-elected (Yadav et al. 2023, arXiv 2306.01708); linear: A and B averaged apart. The last two are PEFT's own, which
    needs memories of one rank and the same targets.

    Args:
        memories: which to merge; all by default.
        weights: of each, 1 / their number by default.
        density: the share of each factor's entries that ties keeps.
        base: a loaded base that the adapter is meant for; its weights are compared with the bank's. None is needed.

    Raises:
        BankError: an unknown way or memory, a wrong number of weights, or memories that PEFT cannot merge so.
        BaseError: the base is not the bank's.
    """
    opened = MemoryBank.load(bank) if isinstance(bank, (str, Path)) else bank
    if base is not None:
        base_of(opened, base)
    chosen = [opened[name] for name in (memories or opened.names)]
    files = merged("merged", chosen, how, weights, density=density, base=opened.base).files()
    for file in (WEIGHTS, CONFIG):
        write_aside(Path(out) / file, files[file])
    return Path(out)
