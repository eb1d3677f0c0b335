"""Beside: what one request needs later is worked out in another thread, while its own thread runs the layers below the split.

Torch lets go of Python's lock while it multiplies, so the two run side by side where there are two cores.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

import torch

T = TypeVar("T")
_THREADS = 4
"""Requests of different threads that are worked out at once; an encoder reads one text at a time anyway."""
_pool: ThreadPoolExecutor | None = None


def _forget_pool() -> None:
    """A forked process has none of its parent's threads."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):  # where processes can fork at all
    os.register_at_fork(after_in_child=_forget_pool)


def beside(work: Callable[[], T]) -> Callable[[], T]:
    """Starts `work` in another thread, under this one's context variables, without gradients.

    Returns:
        what waits for its result; it raises what `work` raised. It may be called again, from any thread.
    """
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="lorary-beside")
    context = copy_context()

    def working() -> T:
        with torch.no_grad():
            return context.run(work)

    try:
        return _pool.submit(working).result
    except RuntimeError:  # the main thread has ended, so no other may start: this one works before it goes on
        result = working()
        return lambda: result
