"""Commands that change a bank are stopped at each of their writes: the bank is as before or as after, and they go on."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from bank_commands import COMMANDS, prepared, state
from peft import PeftModel
from stops import STOPPED, command, ending_at, in_a_process
from test_versions import contents

from lorary.bank.bank import MemoryBank
from lorary.bank.upkeep import collect_garbage, history, verify
from lorary.model.composite import assemble, base_of
from lorary.model.refreshing import CHECKPOINTS
from lorary.routing.encoder import load_encoder

IDS = torch.arange(4, 24).unsqueeze(0)


@pytest.fixture
def place(base, tmp_path):
    return prepared(tmp_path, base)


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
