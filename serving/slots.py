"""Slots: the keys and values of the rows of a running batch, which rows join and leave without the others being copied.

All rows end at one place, as rows that are padded on the left do. So a step writes one column, and the masks that transformers
makes hold for every family of bases.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin, DynamicCache

_STEP = 256
"""Columns that a cache grows by, at least."""


class SlotLayer(CacheLayerMixin):
    """The keys and values of one decoder layer, [rows, heads, columns, width]; the columns in use are its cache's."""

    is_sliding = False
    keys: Tensor
    values: Tensor

    def __init__(self, slots: Slots) -> None:
        super().__init__()
        self.slots = slots

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Makes room for rows like those given."""
        size = self.slots.rows, key_states.shape[1], self.slots.columns
        self.keys = key_states.new_zeros(*size, key_states.shape[3])
        self.values = value_states.new_zeros(*size, value_states.shape[3])
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        rows, start, end = len(key_states), self.slots.start, self.slots.end
        after = end + key_states.shape[2]
        self.keys[:rows, :, end:after], self.values[:rows, :, end:after] = key_states, value_states
        return self.keys[:rows, :, start:after], self.values[:rows, :, start:after]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        return self.slots.end - self.slots.start

    def get_max_length(self) -> int:
        return -1

    def place(self, index: slice, columns: slice, keys: Tensor, values: Tensor) -> None:
        """Writes the keys and values of rows that join."""
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
        self.keys[index, :, columns], self.values[index, :, columns] = keys, values

    def copy(self, to: int, row: int, columns: slice) -> None:
        """Puts a row in the place of another."""
        for tensor in (self.keys, self.values):
            tensor[to, :, columns] = tensor[row, :, columns]

    def empty(self) -> None:
        """Lets go of all rows; the next that join make room for as many columns as there are then."""
        self.keys = self.values = None  # type: ignore[assignment]
        self.is_initialized = False

    def wipe(self, starts: Sequence[int], end: int) -> None:
        """Clears all but the columns of the rows in use, given where each begins."""
        for tensor in (self.keys, self.values):
            tensor[len(starts) :] = 0.0
            tensor[:, :, end:] = 0.0
            for row, start in enumerate(starts):
                tensor[row, :, :start] = 0.0

    def shift(self, count: int, source: slice, by: int, columns: int) -> None:
        """Moves the columns of the first rows, into a tensor of another width where `columns` is another."""
        for name in ("keys", "values"):
            tensor: Tensor = getattr(self, name)
            moved = tensor[:count, :, source].clone()
            if tensor.shape[2] != columns:
                tensor = tensor.new_zeros(*tensor.shape[:2], columns, tensor.shape[3])
                setattr(self, name, tensor)
            tensor[:count, :, source.start + by : source.stop + by] = moved


class Slots(Cache):
    """A cache of at most `rows` rows, the first `count` of which are in use.

    Args:
        rows: at most.
        layers: decoder layers of the base.

    Attributes:
        starts: the column of each row's first token.
        end: the column behind the last token of all rows.
        columns: that there is room for; it grows by need.
    """

    def __init__(self, rows: int, layers: int) -> None:
        self.rows, self.columns, self.end = rows, _STEP, 0
        self.starts: list[int] = []
        self._own = [SlotLayer(self) for _ in range(layers)]
        super().__init__(layers=[*self._own])

    @property
    def count(self) -> int:
        """Rows in use."""
        return len(self.starts)

    @property
    def start(self) -> int:
        """The first column that any row uses."""
        return min(self.starts, default=self.end)

    def mask(self) -> Int[Tensor, "count columns"]:
        """The attention mask of the step that comes: 1 for each token of a row, and for its next."""
        places = torch.arange(self.start, self.end + 1)
        return (places >= torch.tensor(self.starts).unsqueeze(1)).long()

    def positions(self) -> Int[Tensor, "count 1"]:
        """The position of each row's next token."""
        return torch.tensor([[self.end - start] for start in self.starts])

    def join(self, made: DynamicCache, lengths: list[int]) -> None:
        """Takes rows in behind those that are there.

        Args:
            made: what a pass over their prompts made, padded on the left.
            lengths: tokens of each prompt.
        """
        width, before, longest = made.get_seq_length(), self.count, max(lengths)
        assert before + len(lengths) <= self.rows, "there is a slot for each row that joins"
        self._make_room(longest)
        index, columns = slice(before, before + len(lengths)), slice(self.end - longest, self.end)
        for own, layer in zip(self._own, made.layers, strict=True):
            kept = slice(width - longest, width)
            own.place(index, columns, layer.keys[:, :, kept], layer.values[:, :, kept])  # type: ignore[union-attr, index]
        self.starts += [self.end - length for length in lengths]

    def row(self, row: int) -> list[tuple[Tensor, Tensor]]:
        """A copy of the keys and values of a row, of each layer, [1, heads, tokens, width]."""
        index, columns = slice(row, row + 1), slice(self.starts[row], self.end)
        return [(own.keys[index, :, columns].clone(), own.values[index, :, columns].clone()) for own in self._own]

    def step(self) -> None:
        """Counts the column that a pass wrote, and makes room for the next."""
        self.end += 1
        self._make_room(0)

    def leave(self, row: int) -> None:
        """Lets a row go; the last one takes its place."""
        last = self.starts.pop()
        if row < self.count:
            for layer in self._own:
                layer.copy(row, self.count, slice(last, self.end))
            self.starts[row] = last
        if not self.count:
            self.end = 0
            if self.columns > 4 * _STEP:  # long chats have ended
                self.columns = _STEP
                for layer in self._own:
                    layer.empty()

    def wipe(self) -> None:
        """Clears what rows that have left have written."""
        for layer in self._own:
            if not self.count:
                layer.empty()
            elif layer.is_initialized:
                layer.wipe(self.starts, self.end)

    def _make_room(self, longest: int) -> None:
        """Moves the columns so that a prompt ends where the rows do, and one more token fits behind them."""
        start, length = self.start, self.end - self.start
        needed = max(length, longest) + 1
        if self.end >= longest and self.end < self.columns:
            return
        columns = self.columns if 2 * needed <= self.columns else _STEP * (-(-2 * needed // _STEP))
        by = max(length, longest) - self.end
        for layer in self._own:
            if self.count:
                layer.shift(self.count, slice(start, self.end), by, columns)
            elif columns != self.columns:
                layer.empty()
        self.columns = columns
        self.end += by
        self.starts = [place + by for place in self.starts]
