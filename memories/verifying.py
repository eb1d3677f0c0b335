"""Certificates are measured again: what a memory recalls and costs now, beside what its card says."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorary.bank.bank import MemoryBank
from lorary.bank.memory import Memory
from lorary.base.loading import Base
from lorary.memories.certifying import damage, failing, measured_under, recalled, recalls
from lorary.memories.recipe import FORMATS
from lorary.model.composite import base_of
from lorary.progress import progress_bars

CLOSE = 0.01
"""The relative difference in damage that another machine's arithmetic may make."""


@dataclass(frozen=True)
class Differing:
    """A figure of a memory's certificate that is another one now."""

    memory: str
    figure: str
    certified: Any
    measured: Any

    def __str__(self) -> str:
        return f"{self.memory}: {self.figure} is {self.measured} now, {self.certified} in its certificate"


def verify_certificates(
    bank_folder: str | Path, *, base: Base | None = None, quiet: bool = False
) -> tuple[list[str], list[Differing]]:
    """(the memories whose certificates were measured again on the base, the figures that differ).

    Recall and failing facts must be the same, damage within `CLOSE`. A memory that was not written from facts has no
    certificate; of an older certificate only the figures that it has are compared.

    Args:
        base: the bank's base, if it is loaded already.

    Raises:
        BankError: the bank cannot be read. BaseError: the base is not the bank's.
    """
    bank = MemoryBank.load(bank_folder)
    certified = [memory for memory in bank if memory.card.get("certificate") and memory.facts]
    differing = list[Differing]()
    if certified:
        loaded = base_of(bank, base)
        with progress_bars(quiet) as bars:
            bar = bars.start("measuring certificates", len(certified))
            for memory in certified:
                differing += _compared(memory, loaded, memory.split_layer(bank.layers_path))
                bar.advance()
    return [memory.name for memory in certified], differing


def _compared(memory: Memory, base: Base, split_layer: int) -> Iterator[Differing]:
    certificate, now = memory.card["certificate"], measured(memory, base, split_layer)
    for figure, value in now.items():
        if figure in certificate and not _same(figure, certificate[figure], value):
            yield Differing(memory.name, figure, certificate[figure], value)


def measured(memory: Memory, base: Base, split_layer: int) -> dict[str, Any]:
    """The figures of a certificate, of the memory as it is now."""
    recipe = memory.card.get("recipe")
    formats = recipe.get("formats", FORMATS[:2]) if isinstance(recipe, Mapping) else FORMATS[:2]
    wordings = memory.card["certificate"].get("wordings")
    most = wordings.get("a_fact") if isinstance(wordings, Mapping) else None
    trained, validation = recalled(base, split_layer, memory, formats, most)
    return {
        "facts": len(memory.facts),
        "wordings": measured_under(memory.facts, formats, most),
        **recalls(trained, validation),
        "failing_facts": failing(trained, validation),
        "damage": round(damage(base, split_layer, memory.factors()), 4),
    }


def _same(figure: str, certified: Any, now: Any) -> bool:
    if figure == "damage" and isinstance(certified, (int, float)):
        return math.isclose(certified, now, rel_tol=CLOSE)
    return bool(certified == now)
