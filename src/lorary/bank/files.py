"""A bank's files: written aside, synced and renamed, by one writer at a time, and never outside the bank."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock, Timeout

from lorary.errors import LoraryError

FORMAT = 2
OLDER = 1
"""A format that is read too: each memory in it has one version, of which nothing is told."""
MANIFEST = "bank.json"
LOCK = ".bank.lock"
WAIT = 30.0
"""The seconds that a second writer waits for the first."""


class BankError(LoraryError):
    """A bank that cannot be read, or a change that it does not allow."""


@contextmanager
def writing(folder: str | Path, wait: float = WAIT) -> Iterator[None]:
    """Holds the bank in `folder` for this writer alone; within it the same thread may hold it again.

    The operating system lets go of it when the process ends, however it ends.

    Raises:
        BankError: another writer holds it for longer than `wait` seconds, or the folder cannot be written.
    """
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
        lock = FileLock(place.resolve() / LOCK, is_singleton=True)
        lock.acquire(timeout=wait)
    except Timeout:
        raise BankError(
            f"another process is writing the bank in {folder}; wait until it ends, then try again"
        ) from None
    except OSError as error:
        raise BankError(f"{folder} cannot be written ({error.strerror}); give another folder") from error
    try:
        yield
    finally:
        lock.release()


def write_aside(path: Path, content: bytes) -> None:
    """Writes a file beside its place under a name of its own, syncs it and renames it there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{uuid4().hex}.part")
    try:
        with aside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def place_inside(folder: Path, path: str) -> Path:
    """`folder / path`, where no link on the way leads elsewhere. Raises BankError where one does."""
    place = folder / path
    if place.resolve() != folder.resolve() / path:
        raise BankError(f"{place} is a link or lies outside the bank in {folder}; a bank holds its own files alone")
    return place


def check_file_inside(folder: Path, path: str) -> Path:
    """`folder / path`, a file of the bank. Raises BankError where a link leads outside the bank.

    In the cache of a hub, every file of a downloaded bank is a link to the cache's own `blobs`, which is allowed.
    """
    place, root = folder / path, folder.resolve()
    allowed = [root, root.parent.parent / "blobs"] if root.parent.name == "snapshots" else [root]
    if not any(parent in place.resolve().parents for parent in allowed):
        raise BankError(f"{place} is a link that leads outside the bank; a bank holds its own files alone")
    return place


def to_json(value: Mapping[str, Any], *, sort_keys: bool = True) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, sort_keys=sort_keys, default=sorted) + "\n").encode()


def hash_of(content: bytes) -> str:
    return sha256(content).hexdigest()


def hash_of_file(path: Path) -> str:
    """The hash of a file's content, without holding all of it."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def fault_of(file: Path, expected: str) -> str | None:
    """What is wrong with a file of a bank that should have a hash; None if nothing is."""
    if not file.is_file():
        return "is missing"
    if hash_of_file(file) != expected:
        return f"is damaged (its sha256 is not the one in {MANIFEST})"
    return None
