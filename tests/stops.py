"""Commands in a process of their own that ends, or meets a full disk, at the Nth time that it writes."""

from __future__ import annotations

import errno
import io
import os
import pathlib
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import torch

from lorary.__main__ import main

STOPPED = 99
"""The exit status of a process that was ended at a write."""
WRITES = ("replace", "fsync", "mkdir")
REMOVALS = ("unlink", "rmdir")


def in_a_process(act: Callable[[], int]) -> tuple[int, str]:
    """(exit status, standard error) of a child of this process, which starts with all that is loaded here."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status, told = 1, io.StringIO()
        try:
            torch.set_num_threads(1)  # torch makes a forked pool anew, and not safely where several threads ask at once
            with redirect_stderr(told), redirect_stdout(io.StringIO()):
                status = act()
        except BaseException:
            told.write(traceback.format_exc())
        os.write(writing, told.getvalue().encode()[:30_000])
        os._exit(status)
    os.close(writing)
    with open(reading, encoding="utf-8") as pipe:
        told = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), told


def command(*arguments: str | Path) -> Callable[[], int]:
    return lambda: main([*map(str, arguments)])


def ending_at(number: int, act: Callable[[], int]) -> Callable[[], int]:
    """The process ends, as if its power were cut, before its Nth write or removal, or in the middle of writing a file."""

    def end(name: str, half: Callable[[], None]) -> None:
        half()
        os._exit(STOPPED)

    return _counted(number, act, (*WRITES, *REMOVALS), end, once=True)


def full_from(number: int, act: Callable[[], int]) -> Callable[[], int]:
    """The disk is full from its Nth write on; what can be removed still can."""

    def fail(name: str, half: Callable[[], None]) -> None:
        half()
        raise OSError(errno.ENOSPC, "No space left on device")

    return _counted(number, act, WRITES, fail, once=False)


def _counted(
    number: int,
    act: Callable[[], int],
    names: tuple[str, ...],
    at: Callable[[str, Callable[[], None]], None],
    once: bool,
) -> Callable[[], int]:
    def run() -> int:
        steps = 0

        def step(name: str, half: Callable[[], None] = lambda: None) -> None:
            nonlocal steps
            steps += 1
            if steps == number or (steps > number and not once):
                at(name, half)

        for name in names:
            own = getattr(os, name)

            def counted(*args, own=own, name=name, **options):
                step(name)
                return own(*args, **options)

            setattr(os, name, counted)
        opened = pathlib.Path.open

        def open_counted(path, mode="r", *args, **options):
            file = opened(path, mode, *args, **options)
            return _Halfway(file, step) if mode == "xb" else file

        pathlib.Path.open = open_counted
        return act()

    return run


class _Halfway:
    """A file that is stopped when half of its content is written."""

    def __init__(self, file, step) -> None:
        self.file, self.step = file, step

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        self.file.close()

    def write(self, content: bytes) -> None:
        def half() -> None:
            self.file.write(content[: len(content) // 2])
            self.file.flush()

        self.step("write", half)
        self.file.write(content)

    def __getattr__(self, name):
        return getattr(self.file, name)
