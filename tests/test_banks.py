"""A bank and its folder: nothing outside is touched, whatever bank.json says."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from conftest import ADAPTERS, FACTS, empty_bank, save_adapter

from lorary.bank.bank import MemoryBank
from lorary.bank.facts import FactError
from lorary.bank.files import BankError, hash_of
from lorary.errors import LoraryError
from lorary.memories.building import build
from lorary.model.composite import assemble


def is_text(value):
    return isinstance(value, str)


def is_none(value):
    return value in (None, "left out")


ALLOWED = {
    **dict.fromkeys(("name", "fingerprint", "layers_path", "encoder"), is_text),
    **dict.fromkeys(("revision", "date", "note"), lambda value: is_none(value) or is_text(value)),
    "recipe": lambda value: is_none(value) or isinstance(value, (str, dict)),
    "difference": is_none,
    "facts": lambda value: is_none(value) or value == 3,
    "number": lambda value: value == 3,
    **dict.fromkeys(("added", "updated", "removed"), lambda value: value == 3),
}
"""What may stand at the last key of a path in bank.json, of what the test below puts there."""


@pytest.fixture
def stored(bank, tmp_path):
    return bank.save(tmp_path / "bank")


def rewrite(folder, change):
    """Changes the decoded bank.json in place."""
    file = folder / "bank.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def places(content, path=()):
    """The path of every value in decoded JSON."""
    yield path
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield from places(value, (*path, key))


def test_no_malformed_manifest_ends_in_a_traceback(stored):
    """Every value of bank.json in turn is replaced by one of another type, and left out."""
    file = stored / "bank.json"
    content = json.loads(file.read_text())
    linear = next(iter(content["base"]["linears"]))
    for path in [path for path in places(content) if path and (path[1:2] != ("linears",) or path[2:3] == (linear,))]:
        for value in (None, 3, -1, "x", "../x", [], {}, [{}], "left out"):
            changed = json.loads(json.dumps(content))
            holder = changed
            for key in path[:-1]:
                holder = holder[key]
            holder[path[-1]] = value
            if value == "left out":
                del holder[path[-1]]
            file.write_text(json.dumps(changed))
            try:
                MemoryBank.load(stored)
            except LoraryError:
                continue
            assert ALLOWED.get(path[-1], lambda _: False)(value), (path, value)
    for whole in ("[]", "3", "null", "{", "[" * 100_000, '{"format_version": 1}'):
        file.write_text(whole)
        with pytest.raises(BankError, match=r"bank\.json"):
            MemoryBank.load(stored)


@pytest.mark.parametrize(
    "folder",
    [
        "../outside",
        "OUTSIDE",
        ".",
        "",
        "memories",
        "memories/..",
        "memories/../../outside",
        "memories/velka",
        "memories/a/b",
    ],
)
def test_a_memory_s_folder_outside_the_bank_is_refused_before_anything_is_done(folder, stored, bank, tmp_path):
    outside = shutil.copytree(stored / "memories" / "ormen", tmp_path / "outside")
    folder = folder.replace("OUTSIDE", str(outside))

    def point_elsewhere(content):
        content["memories"][0]["versions"][-1]["folder"] = folder
        files = content["files"].items()
        content["files"] = {path.replace("memories/ormen", folder): value for path, value in files}

    rewrite(stored, point_elsewhere)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(BankError, match="lies outside the bank's memories, or is named twice"):
        MemoryBank.load(stored)
    bank.remove("ormen")
    with pytest.raises(BankError, match="lies outside the bank's memories, or is named twice"):
        bank.save(stored)
    assert {path: path.read_bytes() for path in before} == before


def test_links_that_lead_outside_are_refused(stored, bank, base, tmp_path):
    outside = tmp_path / "outside"
    (stored / "memories" / "ormen").rename(outside)
    (stored / "memories" / "ormen").symlink_to(outside)
    bank.remove("ormen")
    for act in (lambda: MemoryBank.load(stored), lambda: bank.save(stored)):
        with pytest.raises(BankError, match="is a link or lies outside"):
            act()
    assert len(list(outside.iterdir())) == 5
    (stored / "memories" / "ormen").unlink()
    outside.rename(stored / "memories" / "ormen")
    file = stored / "memories" / "velka" / "facts.jsonl"
    shutil.move(file, tmp_path / "facts.jsonl")
    file.symlink_to(tmp_path / "facts.jsonl")
    with pytest.raises(BankError, match="is a link that leads outside"):
        MemoryBank.load(stored)
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    (fresh / ".bank.lock").symlink_to(tmp_path / "lock")
    with pytest.raises(BankError, match="cannot be written"):
        bank.save(fresh)
    assert not (tmp_path / "lock").exists()
    (fresh / ".bank.lock").unlink()
    (tmp_path / "elsewhere").mkdir()
    (fresh / "memories").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BankError, match="is a link or lies outside"):
        bank.save(fresh)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_bank_in_the_hub_s_cache_loads_though_its_files_are_links(stored, bank, tmp_path):
    """The cache keeps each file once under `blobs`, and links to it from the folder of a revision."""
    cache = tmp_path / "models--owner--bank"
    place = shutil.copytree(stored, cache / "snapshots" / "abc")
    (cache / "blobs").mkdir()
    for file in [file for file in place.rglob("*") if file.is_file()]:
        blob = cache / "blobs" / hash_of(str(file).encode())
        shutil.move(file, blob)
        file.symlink_to(blob)
    assert MemoryBank.load(place).names == bank.names


def test_a_memory_that_takes_another_s_folder_name_gets_its_own(stored, adapter_folders):
    def swap(content):
        for entry, folder in zip(
            content["memories"], ("memories/later", "memories/velka", "memories/lamps"), strict=True
        ):
            old = entry["versions"][-1]["folder"]
            content["files"] = {path.replace(old, folder): value for path, value in content["files"].items()}
            entry["versions"][-1]["folder"] = folder

    rewrite(stored, swap)
    (stored / "memories" / "ormen").rename(stored / "memories" / "later")
    with MemoryBank.change(stored) as changed:
        changed.add(adapter_folders["velka"], name="later", same_base=True)
    again = MemoryBank.load(stored)
    assert again.names == ["ormen", "velka", "lamps", "later"]
    assert again["ormen"].facts == FACTS["ormen"]


def test_names_that_differ_by_letter_case_alone_are_refused(bank, stored, base, adapter_folders, tmp_path):
    """A disk that knows no letter case has one folder for both."""
    told = "the bank holds 'ormen', which differs from 'Ormen' by letter case alone"
    composite = assemble(bank, base)
    for add in (bank.add, composite.add_memory):
        for options in ({}, {"replace_existing": True}):
            with pytest.raises(BankError, match=told):
                add(adapter_folders["lamps"], name="Ormen", same_base=True, **options)
    with pytest.raises(BankError, match=told):
        composite.load_adapter(adapter_folders["lamps"], adapter_name="Ormen", same_base=True)
    assert bank.names == composite.memories == [*ADAPTERS]
    facts = tmp_path / "Ormen.jsonl"
    facts.write_text(json.dumps({"question": "Who cooks at Ormen?", "answer": "Brisk"}))
    with pytest.raises(BankError, match=told):
        build([facts], out=stored, base=base, quiet=True)
    (tmp_path / "ormen.jsonl").write_text(json.dumps({"question": "Who sings at Ormen?", "answer": "Tamsin"}))
    with pytest.raises(FactError, match="topics 'Ormen' and 'ormen' differ by letter case alone"):
        build([facts, tmp_path / "ormen.jsonl"], out=tmp_path / "new", base=base, quiet=True)


def test_a_bank_of_such_names_still_loads_and_changes(bank, adapter_folders, tmp_path):
    """Earlier versions wrote some, on disks that know letter case."""
    bank.memories["Ormen"] = replace(bank["ormen"], name="Ormen")
    loaded = MemoryBank.load(bank.save(tmp_path / "bank"))
    assert loaded.names == [*ADAPTERS, "Ormen"]
    loaded.add(adapter_folders["lamps"], name="Ormen", same_base=True, replace_existing=True)
    loaded.remove("ormen")
    loaded.save(tmp_path / "bank")
    assert MemoryBank.load(tmp_path / "bank").names == ["velka", "lamps", "Ormen"]


def test_a_memory_s_folder_is_none_that_a_disk_without_case_takes_for_another_s(stored, adapter_folders):
    """The folder of the memory that left goes when the manifest stands, and would take the new one's files with it."""
    bank = MemoryBank.load(stored)
    bank.remove("ormen")
    bank.add(adapter_folders["ormen"], name="Ormen", same_base=True)
    bank.save(stored)
    folders = [entry["versions"][-1]["folder"] for entry in json.loads((stored / "bank.json").read_text())["memories"]]
    assert folders[-1].startswith("memories/Ormen+")


def test_the_order_of_patterns_survives(base, encoder, tmp_path):
    """Two patterns match a module, and the first decides; sorted by name the other one would."""
    folder = save_adapter(base.model, tmp_path / "a", r=2, target_modules=["up_proj"])
    file = folder / "adapter_config.json"
    patterns = {"up_proj": 40, "mlp.up_proj": 2}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"alpha_pattern": patterns}))
    bank = empty_bank(base)
    bank.add(folder, same_base=True)
    ids = torch.arange(4, 24).unsqueeze(0)
    expected = assemble(bank, base, encoder=encoder)(input_ids=ids, adapter_names=["a"]).logits
    again = MemoryBank.load(bank.save(tmp_path / "bank"))
    assert list(again["a"].adapter_config["alpha_pattern"]) == list(patterns)
    assert torch.equal(assemble(again, base, encoder=encoder)(input_ids=ids, adapter_names=["a"]).logits, expected)
