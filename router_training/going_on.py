"""Memories that cannot go on after one answer, told before a gate of tokens is trained over them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

from lorary.bank.bank import MemoryBank
from lorary.errors import LoraryWarning

_ENDING = {"questions", "cloze"}
"""Formats under which a memory learns to answer one question, which `lorary build` takes by default."""


class SequelWarning(LoraryWarning):
    """Memories that were written to answer one question and to end their turn, under a gate that decides at each token."""


def warn_of_memories_that_end(bank: MemoryBank) -> None:
    """Warns of memories that Lorary wrote to answer questions, and did not train to go on.

    Of adapters that people bring nobody knows it.
    """
    recipes = {memory.name: memory.card.get("recipe") for memory in bank}
    formats = {name: set(own.get("formats") or _ENDING) for name, own in recipes.items() if isinstance(own, Mapping)}
    ending = [name for name, own in formats.items() if own & _ENDING and "sequels" not in own]
    if ending:
        shown = ", ".join(ending[:3]) + (f" and {len(ending) - 3} more" if len(ending) > 3 else "")
        warnings.warn(
            f"{shown} learned to answer one question and to end, so of two questions in one they tell the first at most, also "
            "where the gate decides by token; write them with `lorary build --formats questions cloze sequels`",
            SequelWarning,
            stacklevel=3,
        )
