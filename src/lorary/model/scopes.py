"""Scopes: where a `with` block holds whose body a generator may leave and enter again.

A context variable that a generator sets stays set while it waits, so two generators that take turns in one thread would
see each other's. Here a block in a generator's body does not hold while that generator waits at a `yield`. The helpers
that `contextlib` makes of generators are no such bodies: what they enter, they enter for the block of their caller (as in
PEP 550).
"""

from __future__ import annotations

import contextlib
import dis
import inspect
from dataclasses import dataclass
from types import FrameType

_GENERATOR = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
_RESUME = dis.opmap["RESUME"]


@dataclass(eq=False)
class Scope:
    """Where a block holds.

    Args:
        body: the generator in whose body the block stands; None where it stands in a function's.
        ended: whether the block has ended. A generator may be closed in another task than the one it ran in.
    """

    body: FrameType | None = None
    ended: bool = False

    @classmethod
    def of_caller(cls, frame: FrameType) -> Scope:
        """The scope of the block that a context manager is entered for; `frame` is that of its own generator."""
        entering: FrameType | None = frame
        while entering is not None:
            if entering.f_code.co_filename != contextlib.__file__:
                if not entering.f_code.co_flags & _GENERATOR:
                    return cls()
                if entering.f_back is None or entering.f_back.f_code.co_filename != contextlib.__file__:
                    return cls(entering)
            entering = entering.f_back
        return cls()

    def holds(self) -> bool:
        """Whether the block holds for who asks now."""
        return not self.ended and (self.body is None or not waits_at_yield(self.body))


def waits_at_yield(frame: FrameType) -> bool:
    """Whether a generator waits at a `yield`, or a `yield from`; one that awaits something runs.

    Its last instruction is then the one before a RESUME with 1 or 2 (3 stands behind an `await`), or that RESUME.
    """
    start = max(frame.f_lasti, 0)
    code = frame.f_code.co_code[start : start + 4]
    return any(code[i] == _RESUME and code[i + 1] & 3 in (1, 2) for i in range(0, len(code), 2))
