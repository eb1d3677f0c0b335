"""Companions: files beside a bank that belong to one state of it, such as a composite's gate, and change when it does.

A bank has one commit point, `bank.json`. The companions of the next state are written beside those that stand, under a
name that tells the hash of the manifest that they wait for, and take their places once it stands. So a process that ends
in between leaves the old state or the new one. Who reads more than one file may see a writer commit in between, and reads again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from lorary.bank.files import write_aside
from lorary.bank.manifest import hash_of_manifest
from lorary.errors import LoraryError

_NEXT = ".next-"
_TRIES = 10
"""How often files are read, at most, while writers commit one state after the other."""
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
    another meanwhile.

    Raises:
        LoraryError, OSError: what `read` raises of a state that stood all the time.
    """
    tries = 0
    while True:
        state, tries = hash_of_manifest(folder), tries + 1
        try:
            made = read()
        except (LoraryError, OSError):
            if hash_of_manifest(folder) == state or tries == _TRIES:
                raise
            continue
        if hash_of_manifest(folder) == state or tries == _TRIES:
            return made


def has_companion(folder: Path, name: str) -> bool:
    """Whether a file stands for `name`, also while a writer puts it in its place."""
    return companion(folder, name).is_file() or (folder / name).is_file()
