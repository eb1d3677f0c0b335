"""A composite takes up what has changed in its bank: as if the memories had joined and left one by one, all at once."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

import pytest
import torch
from conftest import FACTS, empty_bank, pico_model, save_adapter

from lorary.__main__ import main
from lorary.bank import companions
from lorary.bank.bank import MemoryBank
from lorary.bank.files import write_aside
from lorary.bank.upkeep import history, verify
from lorary.base.loading import Base
from lorary.model.composite import assemble, load_composite, load_router
from lorary.model.refreshing import CHECKPOINTS, refresh
from lorary.routing.starting import new_gate


@pytest.fixture
def places(kept_bank, base, encoder, tmp_path):
    """(a bank on disk, a composite of it)."""
    kept_bank.save(tmp_path / "bank")
    assemble(kept_bank, base, encoder=encoder).save_pretrained(tmp_path / "composite")
    return tmp_path / "bank", tmp_path / "composite"


def change(bank, encoder, base, tmp_path):
    """One memory more, which stands first, one with other facts, one less."""
    folder = save_adapter(base.model, tmp_path / "adapters" / "isle", 9, r=2, target_modules=["up_proj"])
    with MemoryBank.change(bank) as changed:
        changed.add(folder, facts=FACTS["lamps"][1:], encoder=encoder, same_base=True)
        changed.remove("lamps")
        facts = (replace(changed["ormen"].facts[0], answer="Sigrun"),)
        changed.memories["ormen"] = replace(changed["ormen"], facts=facts).with_keys(encoder)
        changed.memories = {name: changed.memories[name] for name in ("isle", "velka", "ormen")}


def state(folder):
    """All files of a composite but the lock, as they are read."""
    router, config = load_router(folder)
    files = {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted((folder / "memories").rglob("*")) if p.is_file()
    }
    tensors = {name: tensor.tolist() for name, tensor in router.gate.state_dict().items()}
    return router.bank.names, config.trained, tensors, files


def test_memories_join_change_and_leave_as_one_by_one(places, base, encoder, tmp_path):
    bank, composite = places
    before, _ = load_router(composite)
    change(bank, encoder, base, tmp_path)
    refreshed = refresh(composite, bank)
    assert (refreshed.added, refreshed.updated, refreshed.removed) == (("isle",), ("ormen",), ("lamps",))
    model = load_composite(composite, dtype=torch.float32)
    assert model.memories == ["isle", "velka", "ormen"]
    assert model.router.bank["ormen"].facts[0].answer == "Sigrun"
    source = MemoryBank.load(bank)
    after = load_router(composite)[0]
    assert torch.equal(after.gate.keys[1], before.gate.keys[1]), "a memory that stays keeps its key"
    one_by_one = before
    for name in ("ormen", "lamps"):
        number = one_by_one.bank.names.index(name)
        one_by_one.bank.remove(name)
        one_by_one.remove(name, number)
    for name in ("isle", "ormen"):
        one_by_one.bank.memories[name] = source[name]
        one_by_one.add(source[name])
    order = torch.tensor([1, 0, 2])
    assert torch.equal(after.gate.keys, one_by_one.gate.keys[order])
    assert torch.equal(after.gate.asked_keys, one_by_one.gate.asked_keys[order])
    ids, by_hand = torch.arange(5, 25).reshape(1, 20), assemble(source, base, encoder=encoder)
    with torch.no_grad():
        for name in by_hand.memories:
            assert torch.equal(model(ids, adapter_names=[name]).logits, by_hand(ids, adapter_names=[name]).logits)


def test_what_did_not_change_stays_byte_for_byte(places, base, encoder, tmp_path):
    bank, composite = places
    untouched = {p: p.read_bytes() for p in (composite / "memories" / "velka").iterdir()}
    policy, scales = load_router(composite)[0].policy, load_router(composite)[0].gate.scales
    change(bank, encoder, base, tmp_path)
    refresh(composite, bank)
    assert all(path.read_bytes() == content for path, content in untouched.items())
    router, config = load_router(composite)
    assert router.policy == policy
    assert all(torch.equal(router.gate.scales[name], scale) for name, scale in scales.items())
    assert config.auto_map["AutoConfig"].endswith("LoraryConfig")
    assert not (composite / "memories" / "lamps").exists()


def test_it_measures_the_validation_wordings_before_and_after(places, base, encoder, tmp_path):
    bank, composite = places
    nothing = refresh(composite, bank)
    assert not nothing.changed
    assert nothing.before == nothing.after
    assert nothing.after.wordings == 6
    change(bank, encoder, base, tmp_path)
    refreshed = refresh(composite, bank)
    assert refreshed.before == nothing.after
    assert refreshed.after.wordings == 3  # two of velka, one of ormen; what joined has none
    assert 0 <= refreshed.after.top1 <= 1


def test_the_command_tells_what_it_took_up(places, base, encoder, tmp_path, capsys):
    bank, composite = map(str, places)
    assert main(["refresh", composite, bank]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "nothing to take up"
    change(places[0], encoder, base, tmp_path)
    assert main(["refresh", composite, bank]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[:3] == ["added: isle", "updated: ormen", "removed: lamps"]
    assert "of 3 validation wordings reach their memory; before, " in printed[3]
    assert printed[4].endswith(f"lorary train-router {bank} --out {composite} trains it anew")
    assert main(["refresh", bank, composite]) == 2
    assert "holds a bank without a gate" in capsys.readouterr().err


def test_a_second_time_there_is_nothing_to_take_up(places, base, encoder, tmp_path):
    bank, composite = places
    change(bank, encoder, base, tmp_path)
    refresh(composite, bank)
    stands = state(composite)
    assert not refresh(composite, bank).changed
    assert state(composite) == stands


def test_a_reset_gate_is_one_that_nothing_taught_but_for_its_scales(places, base, encoder):
    bank, composite = places
    model = load_composite(composite, dtype=torch.float32)
    with torch.no_grad():
        model.gate.from_embedding.add_(0.1)
        model.gate.keys.add_(0.1)
        model.gate.log_gamma.fill_(0.5)
    model.save_pretrained(composite)
    fresh = new_gate(MemoryBank.load(bank), encoder, 0, tuple(model.gate.features)).state_dict()
    assert refresh(composite, bank, reset=True).after.wordings == 6
    gate = load_router(composite)[0].gate.state_dict()
    for name in ("from_embedding", "keys", "asked_keys"):
        assert torch.equal(gate[name], fresh[name])
    assert float(gate["log_gamma"]) == 0.5


def test_a_gate_that_reads_hidden_states_cannot_be_reset(token_composite, bank, tmp_path):
    token_composite.save_pretrained(tmp_path / "composite")
    bank.save(tmp_path / "bank")
    before = state(tmp_path / "composite")
    with pytest.raises(ValueError, match="cannot be reset"):
        refresh(tmp_path / "composite", tmp_path / "bank", reset=True)
    assert state(tmp_path / "composite") == before
    assert refresh(tmp_path / "composite", tmp_path / "bank").after.top1 is None


def test_versions_keep_the_numbers_of_the_bank(places, encoder):
    bank, composite = places
    for answer in ("Sigrun", "Torvald"):
        with MemoryBank.change(bank) as changed:
            facts = (replace(changed["ormen"].facts[0], answer=answer), *changed["ormen"].facts[1:])
            changed.memories["ormen"] = replace(changed["ormen"], facts=facts)
    assert [version.number for version in history(bank, "ormen")] == [1, 2, 3]
    refresh(composite, bank)
    for name, numbers in (("ormen", [3]), ("velka", [1])):
        assert [version.number for version in history(composite, name)] == numbers
    assert verify(composite).faults == {}
    assert verify(composite).orphans == []


def test_checkpoints_of_a_gate_that_knew_what_left_go(places, base, encoder, tmp_path):
    bank, composite = places
    (composite / CHECKPOINTS).mkdir(parents=True)
    (composite / CHECKPOINTS / "last.ckpt").write_bytes(b"keys")
    refresh(composite, bank)
    assert (composite / CHECKPOINTS / "last.ckpt").exists(), "nothing changed"
    change(bank, encoder, base, tmp_path)
    refresh(composite, bank)
    assert not (composite / CHECKPOINTS).exists()


def test_a_bank_over_another_base_is_refused(places, base, tokenizer, tmp_path):
    other = pico_model(seed=5)
    other.save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    empty_bank(Base(str(tmp_path / "other"), None, other, tokenizer)).save(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="give the bank that the composite was made from"):
        refresh(places[1], tmp_path / "elsewhere")


def test_an_end_at_any_write_leaves_the_old_composite_or_the_new_one(places, base, encoder, tmp_path, monkeypatch):
    """Every write is a rename; the process ends before the Nth, for every N, and the same command finishes the work."""
    bank, composite = places
    before = state(composite)
    change(bank, encoder, base, tmp_path)
    original, counter = os.replace, {"left": 10**6, "done": 0}

    class Ended(BaseException):
        pass

    def replacing(source, target):
        if counter["left"] == 0:
            raise Ended
        counter["left"] -= 1
        counter["done"] += 1
        original(source, target)

    monkeypatch.setattr(os, "replace", replacing)
    whole = tmp_path / "whole"
    shutil.copytree(composite, whole)
    refresh(whole, bank)
    after, writes = state(whole), counter["done"]
    assert writes >= 10
    for number in range(writes):
        copy = tmp_path / f"copy{number}"
        shutil.copytree(composite, copy)
        counter["left"] = number
        with pytest.raises(Ended):
            refresh(copy, bank)
        names, trained, gate, files = state(copy)
        assert (names, trained, gate) in (before[:3], after[:3])
        expected = before if names == before[0] else after
        assert all(files[path] == content for path, content in expected[3].items())
        counter["left"] = 10**6
        refresh(copy, bank)
        assert state(copy)[:3] == after[:3]
        assert not [path for path in copy.iterdir() if ".next-" in path.name]


def test_a_companion_that_was_never_committed_does_not_count(tmp_path):
    write_aside(tmp_path / "bank.json", b"{}")
    write_aside(tmp_path / "model.safetensors", b"old")
    companions.write_companions(tmp_path, {"model.safetensors": b"new"}, "0" * 64)
    assert companions.companion(tmp_path, "model.safetensors").read_bytes() == b"old"
    companions.settle(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bank.json", "model.safetensors"]
