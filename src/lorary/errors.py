"""The base classes of all errors that a user can cause and of all warnings, and how errors of libraries become ours."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike


class LoraryError(ValueError):
    """Something that was given cannot be used: says what was given, what is allowed, and what to do."""


class UsageError(LoraryError):
    """A command line that cannot be run: an unknown option, a missing argument, a package that is not installed."""


class LoraryWarning(UserWarning):
    """Something works less well than it could: says what, and what to do. The base of every warning of ours."""


@contextmanager
def reading(file: str | PathLike[str], remedy: str) -> Iterator[None]:
    """Turns whatever is raised while `file` is read and taken apart into one LoraryError that names it.

    What a file holds is not ours to trust: libraries raise KeyError, TypeError, RecursionError and errors of their own
    about wrong JSON, tensors or tokenizers. Each means the same to the user: this file cannot be used.

    Args:
        remedy: what to do, after a semicolon.
    """
    try:
        yield
    except LoraryError:
        raise
    except Exception as error:
        raise LoraryError(f"{file} cannot be used: {one_line(error)}; {remedy}") from error


def one_line(error: BaseException) -> str:
    """What an exception says, on one line, without what only a programmer needs."""
    if isinstance(error, OSError) and error.strerror:
        reasons = {
            errno.EISDIR: "it is a folder; give a file",
            errno.ENOTDIR: "a part of the path is a file; give a folder",
            errno.ENOENT: "no such file or folder",
            errno.ENOSPC: "the disk is full; make room and run the same command again",
            errno.EDQUOT: "your disk quota is used up; make room and run the same command again",
            errno.EFBIG: "the file would be larger than the system allows here; raise the limit, or use another disk",
            errno.EROFS: "the disk is read-only; give a folder that can be written",
            errno.EACCES: "permission denied",
        }
        reason = reasons.get(error.errno or 0, error.strerror.lower())
        return f"{error.filename}: {reason}" if error.filename else reason
    if isinstance(error, KeyError):
        return f"{error.args[0]!r} is missing" if error.args else "a key is missing"
    said = " ".join(str(error).split())
    known = isinstance(error, (ValueError, OSError)) and said
    return said if known else f"{type(error).__name__}: {said}".removesuffix(": ")
