"""The factors that routes apply: those of a bank's memories, read when a route needs them, within a budget of memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lorary.errors import LoraryError

if TYPE_CHECKING:
    from lorary.bank.memory import Memory

BUDGET = 512
"""MiB of factors that a composite keeps at hand, by default."""
Gains = tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Stack:
    """What a route needs of its memories, one linear after the other.

    Args:
        linears: path of a linear → (A [slots, d_in], B [d_out, slots] with the scaling folded in, the place of each slot's
            memory among those of the route).
        memories: whose factors they are, in the order of the route.
    """

    linears: Mapping[str, tuple[Tensor, Tensor, tuple[int, ...]]]
    memories: tuple[Memory, ...] = field(repr=False)

    @cached_property
    def plain(self) -> dict[str, tuple[Tensor, Tensor, None]]:
        """Path of a linear → (A, B, no gains): what a layer applies where each gain is 1 or folded into B."""
        return {path: (down, up, None) for path, (down, up, _) in self.linears.items()}

    @property
    def bytes(self) -> int:
        """What the factors take."""
        return sum(down.nbytes + up.nbytes for down, up, _ in self.linears.values())


class FactorCache:
    """Stacks by their route; the least recently used goes first, so that those kept fit into the budget.

    What a pass applies it holds by itself, so what goes from here goes from memory once the pass has ended. Threads may
    ask at once.

    Args:
        budget: MiB; a stack that is larger by itself is made anew each time, and puts none out.

    Raises:
        LoraryError: a budget below 0.
    """

    def __init__(self, budget: int | float = BUDGET) -> None:
        self._stacks: OrderedDict[Any, Stack] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()
        self.resize(budget)

    def __getstate__(self) -> dict[str, Any]:
        """The budget alone: another process reads what it needs itself."""
        return {"budget": self.budget}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @property
    def bytes(self) -> int:
        """What the stacks at hand take."""
        return self._bytes

    def get(self, key: Any, make: Callable[[], Stack]) -> Stack:
        """The stack of a route, made if it is not at hand. Where two threads make one at once, the first is kept."""
        with self._lock:
            if (stack := self._stacks.get(key)) is not None:
                self._stacks.move_to_end(key)
                return stack
        stack = make()
        with self._lock:
            if key not in self._stacks and stack.bytes <= self.budget * 2**20:
                self._stacks[key] = stack
                self._bytes += stack.bytes
            self._fit()
        return stack

    def resize(self, budget: int | float) -> None:
        """Keeps to another budget from now on. Raises LoraryError for one below 0."""
        if not budget >= 0:
            raise LoraryError(f"memory_budget is {budget}; give how many MiB of factors to keep at hand, 0 or more")
        with self._lock:
            self.budget = budget
            self._fit()

    def _fit(self) -> None:
        while self._bytes > self.budget * 2**20:
            self._bytes -= self._stacks.popitem(last=False)[1].bytes

    def drop(self, memory: Memory) -> None:
        """Lets go of all stacks with the factors of a memory."""
        with self._lock:
            own = [
                key for key, stack in self._stacks.items() if any(m.tensors is memory.tensors for m in stack.memories)
            ]
            for key in own:
                self._bytes -= self._stacks.pop(key).bytes


class BankFactors:
    """The factors of a bank's memories as they stand now: a bank that changes has others, over the same cache.

    Args:
        memories: by number.
        shapes: the base's block linears, path → (d_in, d_out).
        linears: the base's own linears that any memory adapts, by path; factors have their dtype and device.
        in_layers: whether the layers hold the factors as parameters, so that no route needs them from here.
    """

    def __init__(
        self,
        memories: Sequence[Memory],
        shapes: Mapping[str, tuple[int, int]],
        linears: Mapping[str, nn.Linear],
        cache: FactorCache,
        in_layers: bool = False,
    ) -> None:
        self.memories, self.shapes, self.linears, self.cache = tuple(memories), shapes, linears, cache
        self.in_layers = in_layers

    def __deepcopy__(self, _: dict[int, Any]) -> BankFactors:
        """Itself, since it never changes; who copies a whole composite gives the copy factors of its own."""
        return self

    def stack(self, active: Sequence[int], gains: Gains | None = None) -> Stack:
        """What a route needs of the memories given by number.

        Args:
            gains: of each of them, folded into B; None for 1.

        Raises:
            BankError, AdapterError: a memory's files are damaged, or no longer accepted.
        """
        memories = tuple(self.memories[number] for number in active)
        weight = next(iter(self.linears.values())).weight
        key = (
            tuple((id(memory.tensors), id(memory.adapter_config)) for memory in memories),
            gains,
            weight.dtype,
            weight.device,
        )
        return self.cache.get(key, lambda: self._made(active, memories, gains))

    def _made(self, active: Sequence[int], memories: tuple[Memory, ...], gains: Gains | None) -> Stack:
        if len(active) == 1 and gains is None:
            return self._read(memories[0])
        parts = [self.stack((number,)).linears for number in active]
        paths = dict.fromkeys(path for part in parts for path in part)
        return Stack({path: _joined(path, parts, gains) for path in paths}, memories)

    def _read(self, memory: Memory) -> Stack:
        linears = {}
        for path, (down, up) in memory.factors(self.shapes).items():
            weight = self.linears[path].weight
            down, up = (factor.to(weight.device, weight.dtype) for factor in (down, up))
            linears[path] = (down, up, (0,) * len(down))
        return Stack(linears, (memory,))


def _joined(
    path: str, parts: Sequence[Mapping[str, tuple[Tensor, Tensor, tuple[int, ...]]]], gains: Gains | None
) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """The slots of all memories that adapt a linear, one memory after the other."""
    own = [(place, part[path]) for place, part in enumerate(parts) if path in part]
    downs, ups = [down for _, (down, _, _) in own], [up for _, (_, up, _) in own]
    if gains is not None:
        ups = [up * gains[place] for (place, _), up in zip(own, ups, strict=True)]
    owners = tuple(place for place, (down, _, _) in own for _ in range(len(down)))
    return (*((downs[0], ups[0]) if len(own) == 1 else (torch.cat(downs), torch.cat(ups, 1))), owners)
