"""RowRoute: the route of a running batch, whose rows apply a memory each.

A bank's stacked factors (`active_route`) are made anew whenever the memories of a batch change, which here is at every request.
These lie row by row instead: a row that joins writes its own, and a layer multiplies each row by its own alone, as BGMV does
(Chen et al. 2023, arXiv 2310.18547).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from lorary.model.active_route import ActiveRoute, Applied
from lorary.model.factors import Stack
from lorary.model.mixture import MixtureLinear

Share = tuple[Stack, float]
"""(the factors of one memory, its weight)."""


@dataclass
class _Factors:
    """The factors of one linear, by row: down [rows, slots, d_in], up [rows, slots, d_out]; `used` is 0 where a row has none."""

    down: Tensor
    up: Tensor
    used: list[int]

    def write(self, row: int, parts: Sequence[tuple[Tensor, Tensor]]) -> None:
        slots = sum(len(down) for down, _ in parts)
        if slots > self.down.shape[1]:
            self._widen(slots)
        place = 0
        for down, up in parts:
            self.down[row, place : place + len(down)] = down
            self.up[row, place : place + len(down)] = up.T
            place += len(down)
        if slots < self.used[row]:
            self.clear(row, slots)
        self.used[row] = slots

    def clear(self, row: int, kept: int = 0) -> None:
        """Empties the slots of a row from the first that is not kept on."""
        self.down[row, kept : self.used[row]] = 0.0
        self.up[row, kept : self.used[row]] = 0.0
        self.used[row] = kept

    def copy(self, to: int, row: int) -> None:
        slots = max(self.used[row], self.used[to])
        self.down[to, :slots], self.up[to, :slots] = self.down[row, :slots], self.up[row, :slots]
        self.used[to] = self.used[row]

    def _widen(self, slots: int) -> None:
        for name in ("down", "up"):
            old: Tensor = getattr(self, name)
            wide = old.new_zeros(len(old), slots, old.shape[2])
            wide[:, : old.shape[1]] = old
            setattr(self, name, wide)


class RowRoutes:
    """The factors of at most so many rows."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._factors: dict[str, _Factors] = {}
        self._shares: list[tuple[Share, ...]] = [()] * rows
        self._last: tuple[int, int, RowRoute] | None = None

    @property
    def paths(self) -> set[str]:
        """The linears that rows have applied memories to."""
        return {*self._factors}

    def write(self, row: int, shares: Sequence[Share]) -> None:
        """Lets a row apply memories, each by its weight; none gives the base."""
        if tuple(shares) == self._shares[row]:
            return
        self._last, self._shares[row] = None, ()
        for path in {*self._factors, *(path for stack, _ in shares for path in stack.linears)}:
            parts = [
                (stack.linears[path][0], stack.linears[path][1] if weight == 1.0 else stack.linears[path][1] * weight)
                for stack, weight in shares
                if path in stack.linears
            ]
            if parts:
                self._of(path, *parts[0]).write(row, parts)
            elif self._factors[path].used[row]:
                self._factors[path].clear(row)
        self._shares[row] = tuple(shares)

    def copy(self, to: int, row: int) -> None:
        """Lets a row apply what another does."""
        if self._shares[to] == self._shares[row]:
            return
        self._last = None
        for factors in self._factors.values():
            if factors.used[to] or factors.used[row]:
                factors.copy(to, row)
        self._shares[to] = self._shares[row]

    def _of(self, path: str, down: Tensor, up: Tensor) -> _Factors:
        if path not in self._factors:
            size = self.rows, len(down)
            self._factors[path] = _Factors(
                down.new_zeros(*size, down.shape[1]), up.new_zeros(*size, up.shape[0]), [0] * self.rows
            )
        return self._factors[path]

    def of(self, first: int, last: int) -> RowRoute:
        """The route of some rows, the last one excluded."""
        if self._last is None or self._last[:2] != (first, last):
            by_path: dict[str, Applied] = {
                path: (factors.down[first:last, :slots], factors.up[first:last, :slots].mT, None)
                for path, factors in self._factors.items()
                if (slots := max(factors.used[first:last]))
            }
            self._last = first, last, RowRoute(by_path)
        return self._last[2]


class RowRoute(ActiveRoute):
    """What the mixture layers of one pass apply: path of a linear → (A, B) of each row.

    Attributes:
        hidden: what entered the split in the last pass, [rows, tokens, hidden].
    """

    hidden: Tensor | None = None

    def __init__(self, by_path: dict[str, Applied]) -> None:
        super().__init__()
        self._by_path = by_path

    def applied(self, layer: MixtureLinear, x: Tensor) -> Applied | None:
        return self._by_path.get(layer.path)

    def at_split(self, hidden: Tensor) -> None:
        """Keeps it for who goes on from here: each row's route was decided before."""
        self.hidden = hidden
