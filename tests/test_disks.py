"""Commands that change a bank meet a disk that is full, or a folder that may not be written: one clear error, nothing lost."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
from pathlib import Path

import pytest
from bank_commands import COMMANDS, prepared, state
from stops import command, full_from, in_a_process
from test_versions import contents

from lorary.bank.upkeep import verify
from lorary.base.loading import Base


@pytest.fixture
def place(base, tmp_path):
    return prepared(tmp_path, base)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_is_one_clear_error_and_nothing_is_lost(name, place):
    kept = place / "kept"
    shutil.copytree(place / "bank", kept)
    files = contents(kept)
    assert in_a_process(command(*COMMANDS[name](place)))[0] == 0
    after = state(place / "bank")
    for stop in range(1, 200):
        shutil.rmtree(place / "bank")
        shutil.copytree(kept, place / "bank")
        status, said = in_a_process(full_from(stop, command(*COMMANDS[name](place))))
        if status == 0:
            break
        assert status == 2, said
        (line,) = [line for line in said.splitlines() if "warning" not in line]
        assert "the disk is full; make room and run the same command again" in line
        if contents(place / "bank") != files:
            assert name == "build" or state(place / "bank") == after, "committed, and only what is old could not go"
        assert verify(place / "bank").orphans == []
    assert in_a_process(command(*COMMANDS[name](place)))[0] == 0
    assert state(place / "bank") == after


def test_a_file_that_may_not_grow_is_one_clear_error(place):
    """By the operating system's own limit on the size of a file, not by a patch."""
    before = contents(place / "bank")

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))
        return command(*COMMANDS["update"](place))()

    status, said = in_a_process(limited)
    assert status == 2, said
    assert "the file would be larger than the system allows here" in said
    assert contents(place / "bank") == before


@pytest.fixture
def open_place(base):
    """A folder that any user may read, with a base of its own there."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        place.chmod(0o755)
        shutil.copytree(base.name, place / "base")
        for path in [place / "base", *(place / "base").iterdir()]:
            path.chmod(0o755)
        prepared(place, Base(str(place / "base"), None, base.model, base.tokenizer))
        yield place


@pytest.mark.parametrize("name", COMMANDS)
def test_a_folder_that_may_not_be_written_is_one_clear_error(name, open_place):
    command(
        *COMMANDS[name](_copied(open_place, "other"))
    )()  # imports all that it needs, which may lie in a closed home
    before = contents(open_place / "bank")
    for path in [open_place / "bank", *(open_place / "bank").rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)

    def as_nobody():
        if os.geteuid() == 0:  # who may write anything
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        return command(*COMMANDS[name](open_place))()

    status, said = in_a_process(as_nobody)
    assert status == 2, said
    (line,) = [line for line in said.splitlines() if "warning" not in line]
    assert "cannot be written (Permission denied); give another folder" in line
    assert contents(open_place / "bank") == before

    def reads():
        if os.geteuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        return command("history", open_place / "bank", "ormen")() or command("verify", open_place / "bank")()

    assert in_a_process(reads) == (0, "")


def _copied(place, name):
    """The place with another bank of the same content."""
    other = place / name
    other.mkdir()
    for part in ("bank", "news", "more", "adapter"):
        shutil.copytree(place / part, other / part)
    return other
