"""Following: what is loaded keeps up with a folder that another process writes to, and lets go of what was forgotten there."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from lorary.bank.files import MANIFEST
from lorary.bank.memory import Memory
from lorary.errors import LoraryError
from lorary.model.modeling import LoraryForCausalLM

TRIES = 10
"""How often work is done again that a change of the folder cut short; as many changes in a row are no accident."""
T = TypeVar("T")


def stamp_of(folder: Path) -> tuple[int, ...]:
    """What changes whenever the bank in a folder is written: its manifest is always a new file. Empty where none is there."""
    try:
        told = os.stat(folder / MANIFEST)
    except OSError:
        return ()
    return told.st_ino, told.st_mtime_ns, told.st_size


def settled(folder: Path, work: Callable[[], T]) -> T:
    """What `work` gives, which reads a folder; it is done again where another process changed the folder meanwhile.

    Raises:
        LoraryError, OSError: what `work` raises of a folder that nobody changed, or that changed each time.
    """
    for _ in range(TRIES):
        stamp = stamp_of(folder)
        try:
            return work()
        except (LoraryError, OSError):
            if stamp_of(folder) == stamp:
                raise
    return work()


def opened(folder: Path, load: Callable[[], T]) -> tuple[T, tuple[int, ...]]:
    """(what `load` gives of a folder, the folder's stamp from before), so that a change meanwhile is taken up later. Raises what
    `settled` does."""

    def once() -> tuple[T, tuple[int, ...]]:
        stamp = stamp_of(folder)
        return load(), stamp

    return settled(folder, once)


class Followed:
    """The bank as an engine knows it.

    Args:
        follow: takes up what another process has changed of the bank, and tells whether there was anything.
        forget: is called where a memory has left the bank, or is another now.

    Attributes:
        names: of the memories.
    """

    def __init__(self, model: LoraryForCausalLM, follow: Callable[[], bool], forget: Callable[[], None]) -> None:
        self._model, self._follow, self._forget = model, follow, forget
        self._memories: dict[str, Memory] = {}
        self.note()

    def note(self) -> None:
        """Takes note of what the bank holds now."""
        before, self._memories = self._memories, {**self._model.router.bank.memories}
        self.names = (*self._memories,)
        if any(self._memories.get(name) is not memory for name, memory in before.items()):
            self._forget()

    def take_up(self) -> bool:
        """Takes up what another process has changed; whether there was anything. Raises what `follow` does."""
        changed = self._follow()
        if changed:
            self.note()
        return changed

    def look(self) -> None:
        """Does the same, where nobody waits for it: a folder that cannot be read is told to who asks next."""
        with suppress(LoraryError, OSError):
            self.take_up()
