"""Writers of one bank do not mix, lose nothing, and write only what changed."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import ADAPTERS, empty_bank, save_adapter

from lorary.bank.bank import MemoryBank
from lorary.bank.files import BankError, writing
from lorary.bank.memory import Memory

HOLD = """
import sys, time
from lorary.bank.files import writing
with writing(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def stored(bank, tmp_path):
    return bank.save(tmp_path / "bank")


def test_a_second_writer_waits_or_is_refused_until_the_first_ends(stored):
    first = subprocess.Popen([sys.executable, "-c", HOLD, str(stored)], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout.readline() == "held\n"
        with pytest.raises(BankError, match="another process is writing the bank"), writing(stored, wait=0.1):
            pass
        assert MemoryBank.load(stored).names, "reading needs no lock"
    finally:
        first.kill()
        first.wait()
    with writing(stored, wait=5.0), writing(stored, wait=0.1):
        pass  # the lock went with its process, and one writer may hold it twice


def test_writers_that_change_a_bank_at_once_lose_nothing(stored, bank, base, tmp_path):
    names = [f"more-{n}" for n in range(6)]
    folders = [save_adapter(base.model, tmp_path / name, n, **ADAPTERS["ormen"]) for n, name in enumerate(names)]

    def add(folder):
        with MemoryBank.change(stored) as changed:
            changed.add(folder, same_base=True)

    with ThreadPoolExecutor(len(folders)) as pool:
        list(pool.map(add, folders))
    assert {*MemoryBank.load(stored).names} == {*bank.names, *names}
    assert not list(stored.rglob("*.part"))


def test_a_bank_that_another_writer_changed_is_not_saved_over(stored, adapter_folders):
    first, second = MemoryBank.load(stored), MemoryBank.load(stored)
    first.add(adapter_folders["ormen"], name="first", same_base=True)
    first.save(stored)
    second.add(adapter_folders["ormen"], name="second", same_base=True)
    with pytest.raises(BankError, match="changed by another writer since it was loaded"):
        second.save(stored)
    first.remove("first")
    first.save(stored)
    assert MemoryBank.load(stored).names == ["ormen", "velka", "lamps"]


def test_a_change_that_fails_is_not_saved(stored, adapter_folders):
    def change():
        with MemoryBank.change(stored) as changed:
            changed.remove("ormen")
            changed.add(adapter_folders["velka"], same_base=True)

    with pytest.raises(BankError, match="already holds 'velka'"):
        change()
    assert MemoryBank.load(stored).names == ["ormen", "velka", "lamps"]


def test_another_bank_is_not_saved_over_unless_it_is_asked_for(stored, base, adapter_folders):
    other = empty_bank(base)
    other.add(adapter_folders["ormen"], name="other", same_base=True)
    with pytest.raises(BankError, match="holds another bank, with"):
        other.save(stored)
    other.save(stored, overwrite=True)
    assert MemoryBank.load(stored).names == ["other"]
    assert [folder.name for folder in (stored / "memories").iterdir()] == ["other"]


def test_unchanged_memories_are_not_written_or_hashed_again(stored, bank, adapter_folders, monkeypatch):
    written, files = [], Memory.files
    monkeypatch.setattr(Memory, "files", lambda self: written.append(self.name) or files(self))
    for known in (bank, MemoryBank.load(stored)):
        known.save(stored)
    assert written == []
    again = MemoryBank.load(stored)
    again.add(adapter_folders["ormen"], name="new", same_base=True)
    again.save(stored)
    again.save(stored)
    assert written == ["new"]
