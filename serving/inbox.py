"""Inbox: what has come for the engine, in order. What is taken in is told how it ends; once it is closed nothing comes in."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator

from lorary.serving.change import Change
from lorary.serving.errors import RequestError
from lorary.serving.job import Job
from lorary.serving.limits import Limits
from lorary.serving.metrics import Metrics


class Inbox:
    """The jobs and changes that wait to be taken, up to the limits.

    Attributes:
        refusal: what all that comes is told; None while it is open.
        jobs: that were put in and are not done.
    """

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._limits, self._metrics = limits, metrics
        self._items: queue.SimpleQueue[Job | Change | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self.refusal: RequestError | None = None
        self.jobs = self._changes = 0

    def put_job(self, job: Job, admitted: Callable[[Job], None]) -> None:
        """Takes a job in, and calls `admitted` before anybody can take it out. Raises RequestError where too many wait (429), or
        it is closed."""
        with self._lock:
            self._check_open()
            if self.jobs >= self._limits.waiting + self._limits.rows:
                self._metrics.refused.inc()
                raise _full()
            self.jobs += 1
            admitted(job)
            self._items.put(job)

    def put_change(self, change: Change) -> None:
        """Takes a change in. Raises RequestError where too many wait (429), or it is closed."""
        with self._lock:
            self._check_open()
            if self._changes >= self._limits.waiting:
                raise _full()
            self._changes += 1
            self._items.put(change)

    def close(self, refusal: RequestError) -> None:
        """Lets nothing in any more, and ends what `take` gives with None behind what is there."""
        with self._lock:  # whoever was let in has put what it brings
            self.refusal = refusal
            self._items.put(None)

    def _check_open(self) -> None:
        if self.refusal is not None:
            raise RequestError(self.refusal.status, str(self.refusal), self.refusal.code)

    def take(self, patience: float = 0.0) -> Job | Change | None:
        """What came first; None once it is closed. Raises queue.Empty where nothing comes within so many seconds."""
        item = self._items.get(block=patience > 0, timeout=patience)
        if isinstance(item, Change):
            with self._lock:
                self._changes -= 1
        return item

    def rest(self) -> Iterator[Job | Change]:
        """All that nobody has taken."""
        while not self._items.empty():
            if (item := self.take()) is not None:
                yield item

    def count_done(self) -> None:
        """Counts a job as done, so that another may come."""
        with self._lock:
            self.jobs -= 1


def _full() -> RequestError:
    return RequestError(429, "too many requests wait; ask again later", "too_many_requests")
