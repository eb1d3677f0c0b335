"""Opening a bank reads what protects it and little else; what is damaged is found when it is first used, and told as ever."""

from __future__ import annotations

import pickle
import shutil
from dataclasses import replace

import pytest
import torch
from conftest import FACTS
from safetensors.torch import load_file, save_file

from lorary.bank import parts
from lorary.bank import stored as stored_module
from lorary.bank.adapters import CONFIG, PREFIX, WEIGHTS, AdapterError
from lorary.bank.bank import MemoryBank
from lorary.bank.files import MANIFEST, BankError, hash_of_file
from lorary.bank.upkeep import verify
from lorary.model.composite import assemble

PARTS = {
    "facts.jsonl": ("facts", "keys"),
    "memory.json": ("card",),
    "keys.safetensors": ("keys", "key_facts", "passage_keys"),
    WEIGHTS: (),
}


@pytest.fixture
def folder(bank, tmp_path):
    return bank.save(tmp_path / "bank")


@pytest.fixture
def read(monkeypatch):
    """The files that are read whole and compared with their hash."""
    names = []
    fault_of = stored_module.fault_of
    monkeypatch.setattr(
        stored_module, "fault_of", lambda path, expected: names.append(path.name) or fault_of(path, expected)
    )
    return names


def test_opening_reads_no_adapter_and_no_fact(folder, read):
    bank = MemoryBank.load(folder)
    assert bank.names == ["ormen", "velka", "lamps"]
    assert bank.split_layer == 0
    assert read == []
    facts = bank["velka"].facts
    assert facts == FACTS["velka"]
    assert bank["velka"].facts is facts
    assert read == ["facts.jsonl"]


def test_adapters_of_one_kind_are_looked_at_once(alike):
    bank = MemoryBank.load(alike[0])
    assert len({id(memory.outline) for memory in bank}) == 1
    kept = {name: dict(memory.tensors.items()) for name, memory in ((m.name, m) for m in bank)}
    assert not torch.equal(*(next(iter(kept[name].values())) for name in ("ormen", "velka")))


def test_what_is_read_is_what_was_saved(bank, folder):
    loaded = MemoryBank.load(folder)
    for memory in bank:
        assert loaded[memory.name].files() == memory.files()
        assert loaded[memory.name].paths == memory.paths
    assert pickle.loads(pickle.dumps(loaded["velka"])).files() == bank["velka"].files()
    assert replace(loaded["velka"], card={}).facts == FACTS["velka"]


@pytest.mark.parametrize("file", PARTS)
def test_damage_is_found_when_a_part_is_first_used(file, folder, base, encoder):
    place = folder / "memories" / "velka" / file
    content = bytearray(place.read_bytes())
    content[-1] ^= 1
    place.write_bytes(content)
    bank = MemoryBank.load(folder)
    for part in PARTS[file]:
        with pytest.raises(BankError, match=rf"velka/{file} is damaged.*restore it"):
            getattr(bank["velka"], part)
    for method in (bank["velka"].files, lambda: bank["velka"].check(bank.shapes)):
        with pytest.raises(BankError, match=rf"velka/{file} is damaged"):
            method()
    bank["ormen"].check(bank.shapes)
    assert [*verify(folder).faults] == [f"memories/velka/{file}"]


def test_a_damaged_adapter_answers_nothing_and_the_others_go_on(folder, base, encoder):
    place = folder / "memories" / "velka" / WEIGHTS
    content = bytearray(place.read_bytes())
    content[-1] ^= 1
    place.write_bytes(content)
    shutil.copy(folder / "memories" / "ormen" / CONFIG, folder / "kept.json")
    model = assemble(MemoryBank.load(folder), base, encoder=encoder)
    ids = torch.arange(5, 15)[None]
    for _ in range(2):
        with pytest.raises(BankError, match=rf"velka/{WEIGHTS} is damaged"):
            model(ids, adapter_names=["velka"])
    assert model(ids, adapter_names=["ormen"]).routes[0].memories == ("ormen",)


@pytest.mark.parametrize("file", [*PARTS, CONFIG])
def test_a_missing_file_is_found_when_the_bank_is_opened(file, folder):
    (folder / "memories" / "velka" / file).unlink()
    with pytest.raises(BankError, match=rf"velka/{file} is missing"):
        MemoryBank.load(folder)


@pytest.mark.parametrize("left", [0, 5, 40, -1])
def test_a_cut_adapter_is_found_when_the_bank_is_opened(left, alike):
    folder = alike[0]
    place = folder / "memories" / "velka" / WEIGHTS
    place.write_bytes(place.read_bytes()[:left])
    with pytest.raises(BankError, match=rf"velka/{WEIGHTS} is damaged"):
        MemoryBank.load(folder)


def test_a_config_that_was_changed_is_found_when_the_bank_is_opened(folder):
    place = folder / "memories" / "velka" / CONFIG
    place.write_text(place.read_text() + " ")
    with pytest.raises(BankError, match=rf"velka/{CONFIG} is damaged"):
        MemoryBank.load(folder)


def test_what_was_touched_is_compared_again(folder):
    bank = MemoryBank.load(folder)
    place = folder / "memories" / "velka" / WEIGHTS
    before = dict(bank["velka"].tensors.items())
    content = bytearray(place.read_bytes())
    content[-1] ^= 1
    place.unlink()
    place.write_bytes(content)
    with pytest.raises(BankError, match="is damaged"):
        bank["velka"].tensors.items()
    assert all(bool(tensor.isfinite().all()) for tensor in before.values()), "what is in use stays"


def test_an_adapter_of_nan_is_refused_when_it_is_first_used(folder):
    place = folder / "memories" / "velka" / WEIGHTS
    tensors = load_file(place)
    name = next(iter(tensors))
    tensors[name][0, 0] = torch.nan
    save_file({k: t.clone() for k, t in tensors.items()}, place, metadata={"format": "pt"})
    manifest = folder / MANIFEST
    old = MemoryBank.load
    text = manifest.read_text()
    recorded = next(line.split('"')[3] for line in text.splitlines() if f"velka/{WEIGHTS}" in line)
    manifest.write_text(text.replace(recorded, hash_of_file(place)))
    bank = old(folder)
    with pytest.raises(AdapterError, match=rf"{PREFIX}.*holds NaN".replace(".model.", r"\.model\.")):
        bank["velka"].factors()
    assert "holds NaN" in verify(folder).faults["memories/velka"]


def test_a_memory_knows_no_other_parts(folder):
    memory = MemoryBank.load(folder)["velka"]
    with pytest.raises(AttributeError, match="a memory has no 'tensor'"):
        memory.tensor  # noqa: B018
    assert {*parts.READ} <= {*memory.__dataclass_fields__}
