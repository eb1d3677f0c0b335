"""A composite is loaded as one state of its folder, however often another process writes there meanwhile."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress

import pytest
from filelock import FileLock, Timeout

from lorary.bank.bank import MemoryBank
from lorary.bank.companions import at_one_state
from lorary.bank.files import LOCK, BankError, write_aside
from lorary.model.composite import load_composite, load_router

WRITE = """
import sys
from itertools import cycle
from lorary.model.refreshing import refresh
composite, *banks = sys.argv[1:]
for number, bank in enumerate(cycle(banks)):
    refresh(composite, bank)
    print(number, flush=True)
"""
LOADS = 40


@pytest.fixture
def writer(composite, tmp_path):
    """(the folder of a composite, a process that lets a memory leave and join there without a pause)."""
    folder, banks = tmp_path / "composite", [tmp_path / "fewer", tmp_path / "all"]
    composite.save_pretrained(folder)
    for place in banks:
        MemoryBank.load(folder).save(place)
    with MemoryBank.change(banks[0]) as fewer:
        fewer.remove(fewer.names[0])
    command = [sys.executable, "-c", WRITE, *map(str, (folder, *banks))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "0\n"
        yield folder, process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("load", [load_composite, lambda folder: load_router(folder)[0]], ids=["composite", "router"])
def test_a_composite_that_another_process_writes_is_loaded_whole(writer, load):
    folder, process = writer
    seen, until = set(), time.monotonic() + 60
    for number in range(10 * LOADS):
        loaded = load(folder)
        router = getattr(loaded, "router", loaded)
        assert len(router.gate.keys) == len(router.bank), "the gate is that of the bank"
        seen.add(router.bank.names[0])
        if (number >= LOADS and len(seen) == 2) or time.monotonic() > until:
            break
    assert process.poll() is None
    assert len(seen) == 2, "both states were read"


def test_what_does_not_fit_together_is_told_at_once(composite, tmp_path):
    composite.save_pretrained(tmp_path)
    asked = []

    def read():
        asked.append(None)
        raise BankError("damaged")

    with pytest.raises(BankError, match="damaged"):
        at_one_state(tmp_path, read)
    assert len(asked) == 1, "nobody wrote meanwhile"


def test_what_was_read_while_another_state_was_committed_is_read_again(composite, tmp_path):
    composite.save_pretrained(tmp_path)
    asked = []

    def read():
        asked.append(None)
        if len(asked) < 3:
            with MemoryBank.change(tmp_path / ".") as bank:
                bank.remove(bank.names[-1])
        return len(asked)

    assert at_one_state(tmp_path, read) == 3


def test_a_state_that_came_back_meanwhile_is_another_commit(composite, tmp_path):
    composite.save_pretrained(tmp_path)
    stood = (tmp_path / "bank.json").read_bytes()
    asked = []

    def read():
        asked.append(None)
        if len(asked) == 1:
            write_aside(tmp_path / "bank.json", stood)
            raise BankError("what was read is of two states")
        return len(asked)

    assert at_one_state(tmp_path, read) == 2


def test_writers_without_end_must_wait_at_last(composite, tmp_path):
    composite.save_pretrained(tmp_path)
    stood, asked = (tmp_path / "bank.json").read_bytes(), []

    def commit():
        lock = FileLock(tmp_path / LOCK)
        with suppress(Timeout), lock.acquire(timeout=0):
            write_aside(tmp_path / "bank.json", stood)
            return True
        return False

    def read():
        asked.append(commit())
        if asked[-1]:
            raise BankError("what was read is of two states")
        return "whole"

    assert at_one_state(tmp_path, read) == "whole"
    assert asked == [True] * 10 + [False]
