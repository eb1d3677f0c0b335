"""What was computed of token sequences and is kept for the next time, up to so many bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

_Held = TypeVar("_Held")


class Kept(Generic[_Held]):
    """Values by the tokens that they were computed of; what finds no room any more is computed anew.

    Nothing is put out for what is newer: who asks for the same sequences in the same order, round after round, would
    then find none of them.

    Args:
        most: bytes that are kept at most.
    """

    def __init__(self, most: int) -> None:
        self._free = most
        self._held: dict[tuple[int, ...], _Held] = {}

    def get(self, tokens: Sequence[int]) -> _Held | None:
        """What is kept of these tokens, or None."""
        return self._held.get(tuple(tokens))

    def put(self, tokens: Sequence[int], value: _Held, size: int) -> None:
        """Keeps a value of so many bytes, where there is room for it."""
        if size <= self._free and tuple(tokens) not in self._held:
            self._held[tuple(tokens)] = value
            self._free -= size
