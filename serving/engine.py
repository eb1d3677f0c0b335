"""Engine: the one thread that runs the model. Requests and changes of the bank come in order, answers leave piece by piece."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from itertools import islice
from typing import Any

from lorary.model.modeling import LoraryForCausalLM
from lorary.serving.ahead import Ahead
from lorary.serving.batch import Batch, next_rows
from lorary.serving.change import Change
from lorary.serving.errors import RequestError, closing, failed, late
from lorary.serving.following import Followed
from lorary.serving.inbox import Inbox
from lorary.serving.job import Job, Row
from lorary.serving.limits import Limits
from lorary.serving.metrics import Metrics
from lorary.serving.prefixes import Prefixes
from lorary.serving.routing import check_servable, route_following
from lorary.serving.sampling import Token

_LOG = logging.getLogger("lorary.serving")
_IDLE = 5.0
"""Seconds after which a server that nobody asks looks whether another process has changed the bank: what was forgotten goes."""
_AT_ONCE = 4
"""Jobs that are routed together: more would make the first of them wait for the last."""
_PASS = 256
"""Prompt tokens of one pass: a token costs hardly less in a longer one, whose first prompt would wait for its last."""


class Engine:
    """Writes the answers of many requests at once.

    A request is routed when it is about to be read, or before a change of the bank that came after it: so it sees the bank with
    every change that came before it, and none that came after. Between two steps of the rows in progress those that wait are
    read, pass by pass, up to the limit of `pass_tokens`.

    Args:
        model: nothing else may use it while the engine runs.
        follow: takes up what another process has changed of the bank, and tells whether there was anything.

    Attributes:
        asks: whether replies also tell what `model.ask` gives (`asking`).
        failed: whether its thread has ended by itself; then all that comes is refused.

    Raises:
        LoraryError: a composite that decides at each token.
    """

    def __init__(
        self, model: LoraryForCausalLM, limits: Limits | None = None, follow: Callable[[], bool] = lambda: False
    ) -> None:
        check_servable(model)
        self.model, self.limits, self.metrics = model, limits or Limits(), Metrics()
        self.asks = self.failed = False
        self.inbox = Inbox(self.limits, self.metrics)
        self._new, self._waiting = deque[Job](), deque[Row]()
        self._batch = Batch(model, self.limits.rows, Prefixes(self.limits.prefix_mib))
        self._ahead = Ahead(model)
        self._unstepped, self._pass_tokens = 0, min(_PASS, self.limits.pass_tokens)
        ends = model.generation_config.eos_token_id
        self._ends = frozenset([ends] if isinstance(ends, int) else ends or [])
        self._bank = Followed(model, follow, lambda: self._batch.forget(self._waiting))
        self._thread = threading.Thread(target=self._run, name="lorary-engine", daemon=True)

    @property
    def memories(self) -> tuple[str, ...]:
        """Names of those that the bank holds now."""
        return self._bank.names

    def start(self) -> None:
        """Begins to take requests."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread once what it has taken is done; what comes then is refused."""
        if not self.failed:
            self.inbox.close(closing())
        if self._thread.is_alive():
            self._thread.join()
        self._ahead.stop()

    @property
    def state(self) -> str:
        """ "ok", "closing" where nothing new is taken, or "failed" where it has ended by itself."""
        if self.failed:
            return "failed"
        return "ok" if self.inbox.refusal is None and self._thread.is_alive() else "closing"

    def submit(self, job: Job) -> None:
        """Takes a job. Raises RequestError where too many wait (429), or the server ends or has failed (503)."""
        self.inbox.put_job(job, self._ahead.add)

    def cancel(self, job: Job) -> None:
        """Lets a job go whose client has gone; its rows are free before the next step."""
        job.cancelled = True

    def change(self, work: Callable[[], Any]) -> Future[Any]:
        """Does `work`, which may change the bank, in the engine's thread, after all requests that have come before it have
        their routes. Raises RequestError as `submit` does."""
        change = Change(work, self._bank.note)
        self.inbox.put_change(change)
        return change.future

    def _run(self) -> None:
        ended = closing()
        try:
            self._serve()
        except BaseException:  # nothing may wait for a thread that is gone
            _LOG.critical("the engine has ended by itself; start the server again", exc_info=True)
            ended, self.failed = failed(), True
            self.inbox.close(ended)
        for job in {*self._new, *(row.job for row in (*self._waiting, *self._batch.rows))}:
            self._end(job, ended)
        for item in self.inbox.rest():
            self._end(item, ended) if isinstance(item, Job) else item.refuse(ended)

    def _serve(self) -> None:
        running = True
        while running or self._new or self._waiting or self._batch.rows:
            running = self._take() and running
            self._let_go()
            while self._ready():  # what came while questions were encoded is read in the same pass
                running = self._take() and running
            try:
                read = self._join()
                self._unstepped += read
                if not read or self._unstepped >= self.limits.pass_tokens:
                    self._step()
                    self._unstepped = 0
            except Exception:  # out of memory, for one: what runs is lost, what comes is served
                _LOG.exception("a pass failed; the answers in progress are given up")
                for row in [*self._batch.rows, *self._waiting]:
                    self._end(row.job, RequestError(500, "the server failed while it wrote this answer; ask again"))
                self._batch.clear()
                self._waiting.clear()
            self.metrics.running.set(len(self._batch.rows))
            self.metrics.waiting.set(len(self._waiting) + sum(job.choices for job in self._new))

    def _take(self) -> bool:
        """Takes the jobs and does the changes that have come, in order; False once the engine is to end."""
        while True:
            idle = not (self._new or self._waiting or self._batch.rows)
            try:
                item = self.inbox.take(_IDLE if idle else 0.0)
            except queue.Empty:
                if idle:
                    self._bank.look()
                return True
            if item is None:
                return False
            if isinstance(item, Job):
                self._new.append(item)
                continue
            self._route([*self._new])
            self._new.clear()
            self._bank.look()
            item.do()
            if self._waiting or self._batch.rows:  # one between two steps, or all answers in progress would wait
                return True

    def _ready(self) -> bool:
        """Routes some jobs where the next pass may read more; whether it did, and rows wait. Questions of those behind them are
        encoded during that pass."""
        full = sum(len(row.job.ids) for row in self._waiting) >= self._pass_tokens
        if not self._new or full or len(self._waiting) >= self._batch.room:
            return False
        jobs = [*islice(self._new, _AT_ONCE)]
        self._ahead.wait(jobs)
        self._route(jobs)
        for _ in jobs:  # only now: what is taken is always in a place where its end is told
            self._new.popleft()
        return bool(self._waiting)

    def _route(self, jobs: list[Job]) -> None:
        jobs = [job for job in jobs if not self._given_up(job)]
        if not jobs:
            return
        try:
            told = route_following(self.model, jobs, self.limits, self._bank.take_up)
        except Exception:
            _LOG.exception("a request could not be routed")
            told = {job: RequestError(500, "the server failed while it read this request; ask again") for job in jobs}
        for job in jobs:
            event = told[job]
            if isinstance(event, RequestError):
                self._end(job, event)
                continue
            job.left = job.choices
            job.tell(event)
            self.metrics.routed(event.route, event.prompt_tokens)
            self._waiting += [Row(job, choice, self.model.tokenizer) for choice in range(job.choices)]

    def _given_up(self, job: Job) -> bool:
        """Whether nobody waits for a job any more."""
        if not job.cancelled and time.monotonic() < job.deadline:
            return False
        self._end(job, None if job.cancelled else late(self.limits.seconds))
        return True

    def _end(self, job: Job, error: RequestError | None = None) -> None:
        """Counts a job as done, once."""
        if job.done:
            return
        job.done = True
        self.inbox.count_done()
        if error is not None:
            job.tell(error)

    def _let_go(self) -> None:
        """Takes out the rows that nobody waits for any more."""
        self._new = deque(job for job in self._new if not self._given_up(job))
        jobs = {row.job for row in (*self._batch.rows, *self._waiting)}
        gone = {job for job in jobs if self._given_up(job)}
        if not gone:
            return
        for row in [row for row in self._batch.rows if row.job in gone]:
            self._batch.leave(row)
        self._waiting = deque(row for row in self._waiting if row.job not in gone)

    def _join(self) -> int:
        """Reads the prompts of as many waiting rows as one pass may read; how many tokens they were."""
        if not (group := next_rows(self._waiting, self._batch.room, self._pass_tokens)):
            return 0
        try:
            tokens = self._batch.join(group)
        except BaseException:
            self._waiting.extendleft(reversed(group))
            raise
        self._tell(group, tokens)
        return sum(len(row.job.ids) for row in group)

    def _step(self) -> None:
        """Writes the next token of every row."""
        if self._batch.rows:
            rows = [*self._batch.rows]
            self._tell(rows, self._batch.step())

    def _tell(self, rows: list[Row], tokens: list[Token]) -> None:
        """Tells what the tokens say, and lets the rows go that are done."""
        self.metrics.tokens.inc(len(rows))
        for row, token in zip(rows, tokens, strict=True):
            if not row.answer:
                self.metrics.first_token.observe(time.monotonic() - row.job.begun)
            piece = row.take(token, self._ends)
            if piece is not None:
                row.job.tell(piece)
            if piece is not None and piece.finished:
                self._batch.leave(row)
                row.job.left -= 1
                if not row.job.left:
                    self._end(row.job)
