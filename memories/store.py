"""Rows that memories are written from, with what the layers below the split made of them, in batches of like length."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from torch import Tensor

from lorary.bank.facts import Fact
from lorary.base.loading import Base
from lorary.base.rows import SplitRows
from lorary.memories.rows import Row, rows, validation_rows

EVALUATED = 64
"""Rows a pass where nothing trains."""
Known = Mapping[tuple[int, ...], Tensor]
"""The hidden state at the split of rows, by their tokens."""


class Store:
    """Rows with their cached hidden state at the split, batched by length."""

    def __init__(self, base: Base, split_layer: int, held: Sequence[Row], known: Known | None) -> None:
        self.rows = list(held)
        self.states = SplitRows(base.model, split_layer, self.rows, int(base.tokenizer.pad_token_id), known)
        for chunk in self.batches(range(len(held)), EVALUATED, None):
            self.states.keep(chunk)

    def batches(self, wanted: Sequence[int], size: int, order: random.Random | None) -> list[list[int]]:
        """Batches of rows of like length (padding is wasted work), in random order where `order` is given."""
        by_length = sorted(wanted, key=lambda i: (len(self.rows[i].ids), order.random() if order else i))
        batches = [by_length[i : i + size] for i in range(0, len(by_length), size)]
        if order:
            order.shuffle(batches)
        return batches


def states_of(base: Base, facts: Sequence[Fact], split_layer: int) -> Known:
    """What the layers below the split make of the facts' wordings, for several calls of `write` that show them."""
    shown = rows(base.tokenizer, [facts]), validation_rows(base.tokenizer, [facts])
    return {key: state for held in shown for key, state in Store(base, split_layer, held, None).states.hidden.items()}
