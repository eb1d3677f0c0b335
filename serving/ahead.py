"""Ahead: the questions of requests that wait are encoded in a thread of its own, while the engine's thread runs the model.

Torch lets go of Python's lock while it multiplies, and a step of a small base leaves a part of the cores idle. What is encoded is
kept by the router (`Router.remembered`), where routing finds it; nothing else of a route is decided here.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice

from lorary.base.prompts import chat_question
from lorary.errors import LoraryError
from lorary.model.modeling import LoraryForCausalLM
from lorary.serving.job import Job

_AT_ONCE = 32
"""Questions that are encoded together: fewer cost more each, and of more the first would wait for all that came after it."""


class Ahead:
    """Encodes questions as they come, those that have come meanwhile together, a few at once."""

    def __init__(self, model: LoraryForCausalLM) -> None:
        self._model = model
        self._new: dict[Job, str] = {}
        self._running: dict[Job, str] = {}
        self._changed = threading.Condition()
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="lorary-ahead")

    def add(self, job: Job) -> None:
        """Begins to encode a job's question, unless its caller named the memory."""
        if job.memory is not None:
            return
        with suppress(LoraryError, RuntimeError):  # no question, which routing tells; or the engine has ended
            question = job.routing_text if job.chat is None else chat_question(job.chat)
            with self._changed:
                self._new[job] = question
                self._reader.submit(self._encode)

    def _encode(self) -> None:
        with self._changed:
            self._running = {job: self._new[job] for job in islice([*self._new], _AT_ONCE)}
            for job in self._running:
                del self._new[job]
        try:
            if self._running:
                self._model.router.read([*self._running.values()])
        except Exception:  # whoever routes does the same again, and is told
            pass
        finally:
            with self._changed:
                self._running = {}
                self._changed.notify_all()

    def wait(self, jobs: Sequence[Job]) -> None:
        """Waits until nothing of them is."""
        with self._changed:
            self._changed.wait_for(lambda: not any(job in self._new or job in self._running for job in jobs))

    def stop(self) -> None:
        """Ends the thread."""
        self._reader.shutdown(cancel_futures=True)
