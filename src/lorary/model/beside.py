"""Beside: what one request needs later is worked out in another thread, while its own thread runs the layers below the split.

Torch lets go of Python's lock while it multiplies, so the two run side by side where there are two cores.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from typing import Generic, TypeVar

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


class Coming(Generic[T]):
    """What is on its way: called, from any thread, it waits for the result, and raises what was raised there."""

    def __init__(self, future: Future[T]) -> None:
        self._future = future

    def __call__(self) -> T:
        return self._future.result()

    def drop(self) -> None:
        """Keeps it from starting, or waits until it has ended, whatever it came to: nobody asks for it any more."""
        if not self._future.cancel():
            self._future.exception()


def beside(work: Callable[[], T]) -> Coming[T]:
    """Starts `work` in another thread, under this one's context variables, without gradients.

    On a GPU it queues what it does on the stream that this thread uses now, so that each of the two finds whatever the other
    queued before it.
    """
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="lorary-beside")
    context, stream = copy_context(), _stream()

    def working() -> T:
        with torch.no_grad(), stream:
            return context.run(work)

    try:
        return Coming(_pool.submit(working))
    except RuntimeError:  # the main thread has ended, so no other may start: this one works before it goes on
        ended = Future[T]()
        ended.set_result(working())
        return Coming(ended)


def _stream() -> AbstractContextManager[object]:
    """Lets another thread queue on this one's stream; a GPU that nobody uses stays untouched."""
    return torch.cuda.stream(torch.cuda.current_stream()) if torch.cuda.is_initialized() else nullcontext()
