"""Index, lexicons and names are kept with a composite: what goes on from them routes as what is made anew."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from conftest import FACTS, save_adapter

from lorary.bank.bank import MemoryBank
from lorary.bank.facts import Fact
from lorary.model.composite import load_composite
from lorary.routing import contents as contents_module
from lorary.routing import index as index_module
from lorary.routing.index import FactIndex
from lorary.routing.names import Names

QUESTIONS = [
    "Who cooks at Ormen station?",
    "Is it lark oil that Quillon burns?",
    "velka airlock code 9020",
    "What is the capital of France?",
]
KEPT = ("contents.safetensors", "contents.json")
LATE = Fact("late", "Who is the Ormen of Quillon's Harbour?", "Lark", ("Name Quillon's Ormen.",))


@pytest.fixture
def saved(composite, tmp_path):
    composite.save_pretrained(tmp_path / "composite")
    return tmp_path / "composite"


@pytest.fixture
def loaded(base, encoder):
    def load(folder):
        return load_composite(folder, base=base.name, dtype=torch.float32)

    return load


def read(model):
    """All that the gate reads, and the names."""
    features = model.router.features(QUESTIONS)
    return {name: getattr(features, name) for name in ("embedding", "votes", "asked", "names", "contents")}


def assert_alike(one, other):
    assert all(torch.equal(read(one)[name], tensor) for name, tensor in read(other).items())
    assert one.router.names == other.router.names


def anew(folder, loaded, tmp_path):
    """The composite without what was kept."""
    shutil.copytree(folder, tmp_path / "anew")
    for name in KEPT:
        (tmp_path / "anew" / name).unlink(missing_ok=True)
    return loaded(tmp_path / "anew")


@pytest.fixture
def made(monkeypatch):
    """The memories whose wordings are counted, and the stores that are filled."""
    names = []
    of, fill = Names.of, dict(contents_module._FILL)
    monkeypatch.setattr(Names, "of", staticmethod(lambda memories: names.append("names") or of(memories)))
    for kind in fill:
        monkeypatch.setitem(
            contents_module._FILL,
            kind,
            lambda store, memory, kind=kind: names.append(kind) or fill[kind](store, memory),
        )
    return names


def test_what_is_kept_routes_as_what_is_made_anew(saved, loaded, composite, tmp_path, made):
    assert all((saved / name).is_file() for name in KEPT)
    other = anew(saved, loaded, tmp_path)
    read(other)
    assert {"names", "wordings", "document_grams"} <= {*made}
    made.clear()
    model = loaded(saved)
    read(model)
    assert made == []
    assert not {*model.router.bank["velka"].__dict__} & {"facts", "keys", "documents"}, "no fact was read"
    assert_alike(model, other)
    assert_alike(model, composite)


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("damage", ["missing", "cut", "flipped", "emptied", "older"])
def test_a_damaged_one_is_made_anew_silently(damage, name, saved, loaded, composite, recwarn):
    file, content = saved / name, (saved / name).read_bytes()
    if damage == "missing":
        file.unlink()
    elif damage == "older":
        seal = json.loads((saved / KEPT[1]).read_text())
        (saved / KEPT[1]).write_text(json.dumps(seal | {"format": 0}))
    else:
        flipped = content[:-2] + bytes([content[-2] ^ 1]) + content[-1:]
        file.write_bytes({"cut": content[: len(content) // 2], "flipped": flipped, "emptied": b""}[damage])
    assert_alike(loaded(saved), composite)
    assert not [w for w in recwarn if "contents" in str(w.message)]


def test_memories_that_join_and_leave_are_taken_in_and_let_go(saved, loaded, base, encoder, tmp_path):
    models = [loaded(saved), anew(saved, loaded, tmp_path)]
    folder = save_adapter(base.model, tmp_path / "late", 9, r=2, target_modules=["k_proj"])
    for model in models:
        model.router.features(QUESTIONS)
        model.add_memory(folder, facts=(LATE,), encoder=encoder, same_base=True)
        model.remove_memory("ormen")
    assert_alike(*models)
    assert "quillon" in models[0].router.names


def test_a_memory_that_joined_on_disk_leaves_what_is_kept_and_is_taken_in(saved, loaded, base, encoder, tmp_path, made):
    before = (saved / KEPT[0]).read_bytes()
    folder = save_adapter(base.model, tmp_path / "late", 9, r=2, target_modules=["k_proj"])
    with MemoryBank.change(saved) as bank:
        bank.add(folder, facts=(LATE,), encoder=encoder, same_base=True)
    assert (saved / KEPT[0]).read_bytes() == before
    model = loaded(saved)
    made.clear()
    read(model)
    assert {*made} == {"wordings", "passages", "wording_grams", "passage_grams", "document_grams"}
    assert len(made) == 5, "of the memory that joined alone"
    other = anew(saved, loaded, tmp_path)
    assert_alike(model, other)
    assert model.router.names_lexicon.votes(["quillon lark"], ["late"]).any()


@pytest.mark.parametrize("change", ["change", "leave"])
def test_what_a_bank_loses_is_gone_from_what_is_kept_when_it_commits(change, saved, loaded, composite, encoder):
    with MemoryBank.change(saved) as bank:
        if change == "leave":
            bank.remove("velka")
        else:
            facts = bank["velka"].facts[:1]
            bank.add(replace(bank["velka"], facts=facts).with_keys(encoder), replace_existing=True)
    assert not any((saved / name).exists() for name in KEPT)


def test_after_a_memory_left_what_is_kept_holds_nothing_of_it(saved, loaded, composite):
    key = composite.router.bank["velka"].keys[0].numpy().tobytes()
    assert key in (saved / KEPT[0]).read_bytes()
    model = loaded(saved)
    model.remove_memory("velka")
    model.save_pretrained(saved)
    content = (saved / KEPT[0]).read_bytes()
    assert key not in content
    assert b"velka" not in content.lower()
    assert b"velka" not in (saved / KEPT[1]).read_bytes()
    assert_alike(model, loaded(saved))


def test_saving_again_writes_nothing_of_it(saved, loaded):
    before = {name: (saved / name).stat().st_mtime_ns for name in KEPT}
    model = loaded(saved)
    model.save_pretrained(saved)
    assert {name: (saved / name).stat().st_mtime_ns for name in KEPT} == before
    assert model.router._contents is None, "nothing was made for it"


@pytest.mark.parametrize("exact_up_to", [1000, 50])
def test_an_index_goes_on_from_what_it_told(exact_up_to, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    keys = torch.nn.functional.normalize(torch.randn(400, 16, generator=generator), dim=-1)
    index, names = FactIndex(16, exact_up_to=exact_up_to, probes=100), [f"m{i}" for i in range(20)]
    for i, name in enumerate(names):
        index.add(name, keys[20 * i : 20 * i + 20], range(20))
    index.nearest(keys[:3], 4)
    index.remove("m3")
    stored, memories = index.stored()
    assert memories == [name for name in names if name != "m3"]
    assert index.kind == ("exact" if exact_up_to == 1000 else "ivf")
    monkeypatch.setattr(index_module, "_divided", None)
    other = FactIndex.of_stored(16, stored, memories)
    other.exact_up_to = exact_up_to
    if exact_up_to < 1000:
        other._vectors.nprobe = 100
    queries = torch.nn.functional.normalize(torch.randn(9, 16, generator=generator), dim=-1)
    assert other.kind == index.kind
    assert torch.equal(other.votes(queries, names), index.votes(queries, names)), "every list is probed"
    if other.kind == "ivf":
        told = stored["centroids"]
        for number in range(len(told)):
            own = stored["vectors"][stored["lists"] == number]
            assert not len(own) or abs(own.mean(0) - told[number]).max() < 1e-5
    assert len(FACTS) == 3


def test_saving_again_writes_a_damaged_one_anew(saved, loaded, composite, tmp_path):
    for damaged in (b"", None):
        whole = {name: (saved / name).read_bytes() for name in KEPT}
        model = loaded(saved)
        (saved / KEPT[0]).unlink() if damaged is None else (saved / KEPT[0]).write_bytes(damaged)
        model.save_pretrained(saved)
        assert {name: (saved / name).read_bytes() for name in KEPT} == whole
    assert_alike(loaded(saved), composite)


def test_a_divided_index_that_all_have_left_goes_on_from_what_it_told():
    keys = torch.nn.functional.normalize(torch.randn(40, 16, generator=torch.Generator().manual_seed(0)), dim=-1)
    index = FactIndex(16, exact_up_to=20)
    index.add("a", keys, range(40))
    index.votes(keys[:1], ["a"])
    assert index.kind == "ivf"
    index.remove("a")
    other = FactIndex.of_stored(16, *index.stored())
    assert len(other) == 0
    for each in (index, other):
        each.add("b", keys[:3], range(3))
        assert torch.allclose(each.votes(keys[:3], ["b"]), torch.ones(3, 1))
