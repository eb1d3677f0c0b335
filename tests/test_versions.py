"""Versions of memories on disk: each change is a new one, nothing else changes, and what is old stays until it is asked to go."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from conftest import FACTS, pico_model
from peft import PeftModel
from test_golden import GOLDEN

from lorary.__main__ import main
from lorary.bank.bank import MemoryBank
from lorary.bank.documents import Passage
from lorary.bank.facts import Fact
from lorary.bank.files import BankError
from lorary.bank.upkeep import collect_garbage, history, roll_back, verify
from lorary.bank.versions import Difference, difference
from lorary.model.composite import assemble


@pytest.fixture
def stored(bank, tmp_path):
    return bank.save(tmp_path / "bank")


def contents(folder):
    """Path → bytes of every file below a folder but the lock."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".bank.lock"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def corrected(memory, answer="Tilde"):
    """The memory with another answer to its first fact, and other factors, as if it had been written again."""
    facts = (replace(memory.facts[0], answer=answer), *memory.facts[1:])
    return replace(memory, facts=facts, tensors={name: tensor + 1 for name, tensor in memory.tensors.items()})


def change(folder, name="ormen", answer="Tilde"):
    with MemoryBank.change(folder, note="update") as bank:
        bank.memories[name] = corrected(bank[name], answer)
        return bank[name]


def test_a_change_is_a_new_version_and_every_other_file_stays(stored):
    before = contents(stored)
    changed = change(stored)
    after = contents(stored)
    assert {path for path in before if after[path] != before[path]} == {"bank.json"}
    places = {path.rpartition("/")[0] for path in after.keys() - before.keys()}
    assert len(places) == 1
    assert places.pop().startswith("memories/ormen+")
    assert MemoryBank.load(stored)["ormen"].facts == changed.facts
    first, second = history(stored, "ormen")
    assert (first.number, first.note, first.difference) == (1, "add", Difference(added=2))
    assert (second.number, second.note, second.difference) == (2, "update", Difference(updated=1))
    assert [version.number for version in history(stored, "velka")] == [1]
    for version in (first, second):
        alone = PeftModel.from_pretrained(pico_model(), stored / version.folder)
        assert "lora" in str(alone)


def test_saving_what_has_not_changed_writes_nothing(stored):
    before = (stored / "bank.json").stat().st_mtime_ns, contents(stored)
    with MemoryBank.change(stored):
        pass
    assert ((stored / "bank.json").stat().st_mtime_ns, contents(stored)) == before


def test_a_bank_of_the_format_before_versions_opens_as_version_one(tmp_path):
    folder = shutil.copytree(GOLDEN / "bank", tmp_path / "bank")
    before = contents(folder)
    name = MemoryBank.load(folder).names[0]
    (only,) = history(folder, name)
    assert (only.number, only.date, only.note, only.facts) == (1, None, None, len(MemoryBank.load(folder)[name].facts))
    with MemoryBank.change(folder):
        pass
    verify(folder)
    assert collect_garbage(folder).bytes == 0
    assert contents(folder) == before, "nothing is rewritten until it changes"
    change(folder, name)
    assert json.loads((folder / "bank.json").read_bytes())["format_version"] == 2
    assert [version.number for version in history(folder, name)] == [1, 2]
    assert {path: value for path, value in contents(folder).items() if path in before and path != "bank.json"} == {
        path: value for path, value in before.items() if path != "bank.json"
    }


def test_a_newer_format_is_refused(stored):
    file = stored / "bank.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format_version": 3}))
    for act in (MemoryBank.load, verify, collect_garbage):
        with pytest.raises(BankError, match="has format 3, this version reads 1 and 2; install the version of lorary"):
            act(stored)


def test_a_rollback_is_a_new_version_that_equals_the_old_one(stored, base, encoder):
    ids = torch.arange(4, 24).unsqueeze(0)

    def logits():
        return assemble(MemoryBank.load(stored), base, encoder=encoder)(input_ids=ids, adapter_names=["ormen"]).logits

    first = logits()
    change(stored)
    assert not torch.equal(logits(), first)
    before = contents(stored)
    version = roll_back(stored, "ormen", 1)
    assert (version.number, version.note, version.difference) == (3, "rollback to version 1", Difference(updated=1))
    assert torch.equal(logits(), first)
    assert {path for path, value in contents(stored).items() if before.get(path) != value} == {"bank.json"}
    assert roll_back(stored, "ormen", 1) == version, "what it holds already is no new version"
    assert [v.number for v in history(stored, "ormen")] == [1, 2, 3]
    change(stored, answer="Quill")
    assert MemoryBank.load(stored)["ormen"].facts[0].answer == "Quill"
    roll_back(stored, "ormen", 2)
    assert MemoryBank.load(stored)["ormen"].facts[0].answer == "Tilde"
    assert [v.number for v in history(stored, "ormen")] == [1, 2, 3, 4, 5]
    with pytest.raises(BankError, match=r"'ormen' has no version 6; it has \[1, 2, 3, 4, 5\]"):
        roll_back(stored, "ormen", 6)
    with pytest.raises(BankError, match=r"'paris' has no memory; the bank holds \['ormen'"):
        history(stored, "paris")


def test_a_damaged_version_is_left_by_a_rollback_and_a_damaged_one_is_not_taken(stored):
    change(stored)
    file = stored / history(stored, "ormen")[1].folder / "facts.jsonl"
    file.write_bytes(file.read_bytes()[:-9])
    assert [*verify(stored).faults] == [file.relative_to(stored).as_posix()]
    assert roll_back(stored, "ormen", 1).difference is None
    assert MemoryBank.load(stored)["ormen"].facts == FACTS["ormen"]
    with pytest.raises(BankError, match=r"facts\.jsonl is damaged"):
        roll_back(stored, "ormen", 2)


def test_verify_reads_every_file_that_the_bank_vouches_for(stored):
    change(stored)
    whole = verify(stored)
    assert (whole.faults, whole.orphans, whole.files) == ({}, [], 20)
    assert whole.bytes == sum(len(value) for path, value in contents(stored).items() if path != "bank.json")
    for path, value in contents(stored).items():
        if path == "bank.json":
            continue
        (stored / path).write_bytes(value[:-1] + bytes([value[-1] ^ 1]))
        assert [*verify(stored).faults] == [path]
        assert verify(stored).faults[path].startswith("is damaged")
        (stored / path).unlink()
        assert verify(stored).faults == {path: "is missing"}
        (stored / path).write_bytes(value)
    assert verify(stored) == whole


def test_garbage_is_what_no_current_version_needs(stored):
    change(stored)
    roll_back(stored, "ormen", 1)
    change(stored, "velka")
    current = MemoryBank.load(stored)
    orphan = shutil.copytree(stored / "memories" / "lamps", stored / "memories" / "lamps+0123abcd")
    parts = [stored / f"{name}.{'0' * 32}.part" for name in ("bank.json", "memories/lamps/facts.jsonl")]
    for part in parts:
        part.write_bytes(b"half")
    (stored / "memories" / "notes.txt").write_text("a file of somebody's own")
    (stored / "memories" / "lamps" / "notes.txt").write_text("another")
    assert {*verify(stored).orphans} == {path.relative_to(stored).as_posix() for path in (orphan, *parts)}
    before = contents(stored)
    freed = collect_garbage(stored)
    after = contents(stored)
    gone = {path: value for path, value in before.items() if path not in after}
    assert (freed.versions, freed.bytes) == (2, sum(map(len, gone.values())))
    assert not orphan.exists()
    assert not any(part.exists() for part in parts)
    assert {
        path.partition("+")[0].removesuffix(f".{'0' * 32}.part") for path in gone if "+" in path or "part" in path
    } == {*("bank.json", "memories/lamps", "memories/lamps/facts.jsonl", "memories/ormen")}
    assert {path for path in gone if path.startswith("memories/velka/")}, "version 1 lay there"
    again = MemoryBank.load(stored)
    assert again.names == current.names
    assert all(again[name].facts == current[name].facts for name in again.names)
    assert [(v.number, v.folder is not None) for v in history(stored, "ormen")] == [(1, True), (2, False), (3, True)]
    with pytest.raises(BankError, match=r"version 2 of 'ormen' was dropped by `lorary gc`; of it .* keeps \[1, 3\]"):
        roll_back(stored, "ormen", 2)
    assert collect_garbage(stored).bytes == 0


def test_a_composite_holds_the_current_versions_alone(stored, base, encoder, tmp_path):
    change(stored)
    place = tmp_path / "composite"
    assemble(MemoryBank.load(stored), base, encoder=encoder).save_pretrained(place)
    (version,) = history(place, "ormen")
    assert (version.number, version.difference) == (2, Difference(updated=1)), "as the bank has it"
    change(place, answer="Quill")
    (version,) = history(place, "ormen")
    assert version.number == 3
    assert len([*(place / "memories").glob("ormen*")]) == 1
    assert len(history(stored, "ormen")) == 2


def test_documents_are_a_version_too(stored, encoder):
    with MemoryBank.change(stored) as bank:
        bank.add(name="ormen", documents=[Passage("Halvard cooks at Ormen.", "book.md")], encoder=encoder)
    assert [v.difference for v in history(stored, "ormen")] == [Difference(added=2), Difference()]


def test_a_memory_that_leaves_takes_its_versions_along(stored):
    change(stored)
    with MemoryBank.change(stored) as bank:
        bank.remove("ormen")
    assert not [*(stored / "memories").glob("ormen*")]


def test_differences():
    cook, code, oil = (
        Fact("t", "Who cooks?", "Halvard", ("Name the cook.",)),
        Fact("t", "Which code?", "4173"),
        Fact("t", "Which oil?", "lark oil"),
    )
    assert difference([cook, code], [cook, code]) == Difference()
    assert difference([cook], [replace(cook, answer="Brisk"), oil]) == Difference(added=1, updated=1)
    assert difference([cook, code], [Fact("t", "name the  COOK.", "Brisk")]) == Difference(updated=1, removed=1)
    assert str(Difference(added=1, removed=2)) == "1 added, 2 removed"


def test_the_commands_tell_of_versions(stored, capsys, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    change(stored)

    def told(*command, status=0):
        assert main([*command]) == status
        return capsys.readouterr()

    lines = told("history", str(stored), "ormen").out.splitlines()
    assert lines[-1].split() == [
        *("2", "1970-01-01", "00:00:00Z", "update", "1", "updated", "2", "not", "measured", "current")
    ]
    versions = json.loads(told("history", str(stored), "ormen", "--json").out)["versions"]
    assert [version["number"] for version in versions] == [1, 2]
    assert told("verify", str(stored)).out.startswith("20 files, ")
    assert told("rollback", str(stored), "ormen", "1").out == "ormen: version 3 is what version 1 was\n"
    assert told("gc", str(stored)).out.startswith("1 earlier version dropped, ")
    assert told("rollback", str(stored), "ormen", "2", status=2).err.startswith(
        "lorary: error: version 2 of 'ormen' was"
    )
    assert "no, dropped by gc" in told("history", str(stored), "ormen").out
    (stored / "memories" / "velka" / "facts.jsonl").unlink()
    failed = told("verify", str(stored), status=2)
    assert failed.out.splitlines()[-1] == "memories/velka/facts.jsonl: is missing"
    assert "1 file of" in failed.err
