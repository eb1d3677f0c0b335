"""Companions: files beside a bank that belong to one state of it, such as a composite's gate, and change when it does.

A bank has one commit point, `bank.json`. The companions of the next state are written beside those that stand, under a
name that tells the hash of the manifest that they wait for, and take their places once it stands. So a process that ends
in between leaves the old state or the new one. Who reads more than one file may see a writer commit in between, and reads again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, TypeVar

from lorary.bank.files import MANIFEST, BankError, write_aside, writing
from lorary.bank.manifest import hash_of_manifest
from lorary.errors import LoraryError

_NEXT = ".next-"
_TRIES = 10
"""How often files are read while writers commit one state after the other, before those must wait."""
T = TypeVar("T")


def write_companions(folder: Path, contents: Mapping[str, bytes], manifest: str) -> None:
    """Writes files, by name, that count as soon as the manifest of this hash stands."""
    for name, content in contents.items():
        write_aside(folder / f"{name}{_NEXT}{manifest}", content)


def settle(folder: Path) -> None:
    """Puts committed companions in their places, and takes away those that were never committed."""
    state = hash_of_manifest(folder)
    for file in folder.glob(f"*{_NEXT}*"):
        name, _, waits_for = file.name.rpartition(_NEXT)
        if waits_for == state:
            os.replace(file, folder / name)
        else:
            file.unlink(missing_ok=True)


def companion(folder: Path, name: str) -> Path:
    """The file that stands for `name` in the bank's present state, whether there is one or not."""
    committed = folder / f"{name}{_NEXT}{hash_of_manifest(folder)}"
    return committed if committed.is_file() else folder / name


def read_companion(folder: Path, name: str, read: Callable[[Path], T]) -> T:
    """What `read` makes of the file that stands for `name`; of its new place, where a writer has just put it there."""
    file = companion(folder, name)
    try:
        return read(file)
    except Exception:  # libraries tell a missing file in ways of their own
        if file.exists():
            raise
        return read(companion(folder, name))


def at_one_state(folder: Path, read: Callable[[], T]) -> T:
    """What `read` gives of the files of a bank and its companions, all of one state: it is done again where a writer committed
    another meanwhile, and at last while writers wait.

    Raises:
        LoraryError, OSError: what `read` raises of a state that stood all the time.
    """
    for _ in range(_TRIES):
        commit = _commit(folder)
        try:
            made = read()
        except (LoraryError, OSError):
            if _commit(folder) == commit:
                raise
            continue
        if _commit(folder) == commit:
            return made
    with ExitStack() as held:
        with suppress(BankError):  # it cannot be written, or a writer holds it for long
            held.enter_context(writing(folder))
        return read()


def _commit(folder: Path) -> tuple[Any, ...]:
    """What tells one commit of a bank from another, also from one of the same content before the last."""
    try:
        file = (folder / MANIFEST).stat()
    except OSError:
        return (None,)
    return hash_of_manifest(folder), file.st_ino, file.st_mtime_ns


def has_companion(folder: Path, name: str) -> bool:
    """Whether a file stands for `name`, also while a writer puts it in its place."""
    return companion(folder, name).is_file() or (folder / name).is_file()
