"""Commands that change a bank are stopped at each of their writes: the bank is as before or as after, and they go on."""

from __future__ import annotations

import json
import os
import resource
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import save_adapter
from peft import PeftModel
from stops import STOPPED, command, ending_at, full_from, in_a_process
from test_updating import CODE, COOK, OIL, RECIPE, write
from test_versions import change, contents

from lorary.bank.bank import MemoryBank
from lorary.bank.upkeep import collect_garbage, history, verify
from lorary.base.loading import Base
from lorary.commands import remember
from lorary.intake.generators import generator_named
from lorary.intake.told import told
from lorary.memories.building import build
from lorary.memories.forgetting import forget
from lorary.memories.keeping import gc, rollback, update
from lorary.model.composite import assemble, base_of
from lorary.model.refreshing import CHECKPOINTS
from lorary.routing.encoder import load_encoder

pytestmark = pytest.mark.slow

LOADED = gc, rollback, update, remember, forget
"""So that the processes below start with what these need."""
QUIET = ("--quiet", "--processes", "1")
IDS = torch.arange(4, 24).unsqueeze(0)


def prepared(place, base):
    """A bank of two memories, one of them in two versions, and what the commands take."""
    facts = write(place / "facts", ormen=[COOK, CODE], lamps=[OIL])
    build([facts], out=place / "bank", base=base, recipe=RECIPE, quiet=True)
    change(place / "bank", "lamps")
    told(
        ["The cook at Ormen is Tilde Moor."], generator=generator_named("rules")
    )  # loads the grammar for all processes
    news = write(place / "news", ormen=[replace(COOK, answer="Brisk")])
    write(place / "more", harbour=[replace(OIL, topic="harbour", question="Who pilots?", questions=())])
    (news / "page.md").write_text("Brisk cooks at Ormen.")
    save_adapter(base.model, place / "adapter", r=2, target_modules=["up_proj"])
    return place


COMMANDS = {
    "update": lambda p: ("update", p / "bank", "ormen", p / "news", *QUIET),
    "remember": lambda p: ("remember", p / "bank", "The cook at Ormen is Tilde Moor.", "--quiet"),
    "add": lambda p: ("add", p / "bank", "--documents", p / "news" / "page.md", "--name", "ormen"),
    "rollback": lambda p: ("rollback", p / "bank", "lamps", "1"),
    "gc": lambda p: ("gc", p / "bank"),
    "forget": lambda p: ("forget", p / "bank", "ormen", "--facts", CODE.id, "--quiet"),
    "add an adapter": lambda p: (
        *("add", p / "bank", p / "adapter", "--name", "isle", "--same-base"),
        *("--facts", p / "more" / "harbour.jsonl"),
    ),
    "build": lambda p: (
        *("build", p / "more", "--out", p / "bank", "--base", str(MemoryBank.load(p / "bank").base)),
        *("--max-epochs", "1", "--r", "2", *QUIET),
    ),
}


@pytest.fixture
def place(base, tmp_path):
    return prepared(tmp_path, base)


def state(bank_folder):
    """What a bank answers from: the facts, documents and factors of its memories."""
    bank = MemoryBank.load(bank_folder)
    return {
        memory.name: (memory.facts, memory.documents, *(tensor.tolist() for tensor in memory.tensors.values()))
        for memory in bank
    }


def is_one_of(now, before, after):
    """Whether each memory is as it was or as it will be, and none is missing that both have."""
    return all(own in (before.get(name), after.get(name)) for name, own in now.items()) and set(before) <= set(now)


@pytest.mark.parametrize("name", COMMANDS)
def test_ended_at_any_write_a_command_leaves_a_bank_and_goes_on(name, place, base):
    kept = place / "kept"
    shutil.copytree(place / "bank", kept)
    before, files = state(kept), contents(kept)
    assert in_a_process(command(*COMMANDS[name](place)))[0] == 0
    after, numbers = state(place / "bank"), _numbers(place / "bank")
    for stop in range(1, 200):
        shutil.rmtree(place / "bank")
        shutil.copytree(kept, place / "bank")
        status, said = in_a_process(ending_at(stop, command(*COMMANDS[name](place))))
        if status == 0:
            break
        assert status == STOPPED, said
        assert is_one_of(state(place / "bank"), before, after)
        changed = {path for path, own in contents(place / "bank").items() if files.get(path, own) != own}
        assert changed <= {"bank.json"}, "what another version needs is never touched"
        manifest = json.loads((place / "bank" / "bank.json").read_bytes())
        for entry in manifest["memories"]:
            alone = PeftModel.from_pretrained(base.model, place / "bank" / entry["versions"][-1]["folder"])
            assert torch.isfinite(alone(input_ids=IDS).logits).all()
            alone.unload()
        status, said = in_a_process(command(*COMMANDS[name](place)))
        assert status == 0, said
        assert (state(place / "bank"), _numbers(place / "bank")) == (after, numbers)
        collect_garbage(place / "bank")
        found = verify(place / "bank")
        assert (found.faults, found.orphans) == ({}, [])
        assert state(place / "bank") == after
    assert stop > 2, "it was ended at least twice, and then there was nothing left to end at"


@pytest.mark.parametrize("name", ["forget", "remove"])
def test_ended_at_any_write_a_memory_that_leaves_has_left(name, place):
    """The same command ends well also where all that was left to do was to say so; no file of it stays."""
    kept, leaving = place / "kept", command(name, place / "bank", "lamps", *(["--quiet"] if name == "forget" else []))
    shutil.copytree(place / "bank", kept)
    for stop in range(1, 200):
        shutil.rmtree(place / "bank")
        shutil.copytree(kept, place / "bank")
        if in_a_process(ending_at(stop, leaving))[0] == 0:
            break
        status, said = in_a_process(leaving)
        assert status == 0, said
        assert MemoryBank.load(place / "bank").names == ["ormen"]
        if name == "forget":
            assert not [path for path in (place / "bank" / "memories").iterdir() if path.name.startswith("lamps")]
        collect_garbage(place / "bank")
        assert b"lamps" not in (place / "bank" / "bank.json").read_bytes()
        assert verify(place / "bank").orphans == []
    assert stop > 2
    assert in_a_process(command(name, place / "bank", "lamp"))[0] == 2, "a name that never was is told"


def test_ended_at_any_write_a_refresh_leaves_nothing_of_what_left_the_bank(place):
    """Neither files of old memories nor checkpoints of a gate that knew them, whatever the moment."""
    kept, composite = place / "kept", place / "composite"
    bank = MemoryBank.load(place / "bank")
    assemble(bank, base_of(bank), encoder=load_encoder(bank.encoder)).save_pretrained(kept)
    (kept / CHECKPOINTS).mkdir(parents=True)
    (kept / CHECKPOINTS / "last.ckpt").write_text("a gate that knew the lamps")
    with MemoryBank.change(place / "bank") as bank:
        bank.remove("lamps")
    refreshing = command("refresh", composite, place / "bank")
    for stop in range(1, 200):
        shutil.rmtree(composite, ignore_errors=True)
        shutil.copytree(kept, composite)
        if in_a_process(ending_at(stop, refreshing))[0] == 0:
            break
        status, said = in_a_process(refreshing)
        assert status == 0, said
        assert MemoryBank.load(composite).names == ["ormen"]
        assert not [path for path in composite.rglob("*") if "lamps" in path.name or path.suffix == ".ckpt"]
        assert verify(composite).orphans == []
    assert stop > 2


def test_ended_at_any_write_a_new_bank_is_started(base, tmp_path):
    starting = command("new", tmp_path / "bank", "--base", base.name)
    for stop in range(1, 200):
        shutil.rmtree(tmp_path / "bank", ignore_errors=True)
        if in_a_process(ending_at(stop, starting))[0] == 0:
            break
        assert in_a_process(starting) == (0, "")
        assert len(MemoryBank.load(tmp_path / "bank")) == 0
    assert stop > 2


def test_ended_at_any_write_a_bank_that_is_started_goes_on(base, tmp_path):
    """`remember` starts a bank where none stands: there is none yet, an empty one, or the whole."""
    place, remembering = tmp_path / "bank", command("remember", tmp_path / "bank", "Be kind.", "--base", base.name)
    assert in_a_process(remembering)[0] == 0
    after = state(place)
    for stop in range(1, 200):
        shutil.rmtree(place)
        status, said = in_a_process(ending_at(stop, remembering))
        if status == 0:
            break
        assert status == STOPPED, said
        assert not (place / "bank.json").exists() or state(place) in ({}, after)
        status, said = in_a_process(remembering)
        assert status == 0, said
        assert state(place) == after
    assert stop > 2


def _numbers(folder):
    return {name: [version.number for version in history(folder, name)] for name in MemoryBank.load(folder).names}


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
