"""Change: work that needs the model between two steps of the answers, such as that of a memory that joins."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class Change:
    """Work for the engine's thread.

    Args:
        behind: is done behind the work, also where that fails, before anybody is told.

    Attributes:
        future: of what the work gives.
    """

    def __init__(self, work: Callable[[], Any], behind: Callable[[], None]) -> None:
        self._work, self._behind = work, behind
        self.future: Future[Any] = Future()

    def do(self) -> None:
        """Does the work, unless nobody waits for it any more; what it raises is the future's."""
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            try:
                result = self._work()
            finally:
                self._behind()  # also what fails may have taken up what another process changed
        except BaseException as error:
            self.future.set_exception(error)
            if not isinstance(error, Exception):
                raise
        else:
            self.future.set_result(result)

    def refuse(self, error: Exception) -> None:
        """Gives an error in place of a result."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)
