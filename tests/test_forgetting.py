"""Forgetting on a pico base: what is written anew never knew, is proved not to know, and leaves no trace in any file."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace

import pytest
import torch
from conftest import save_adapter
from stations import FACTS, FORGOTTEN, IDS, RECIPE, STATED, write_facts

from lorary.answering.lookup import look_up
from lorary.bank.bank import MemoryBank
from lorary.bank.facts import Fact
from lorary.bank.upkeep import collect_garbage, history
from lorary.memories.building import build
from lorary.memories.choosing import about
from lorary.memories.forgetting import forget
from lorary.memories.proving import prove
from lorary.memories.traces import _numbers, texts_of, traces
from lorary.model.composite import base_of, load_composite
from lorary.model.refreshing import refresh
from lorary.routing.encoder import load_encoder


def test_the_rewritten_memory_is_one_that_never_knew(stations_made, stations, tmp_path):
    """Bit for bit: so it finds every wording as likely as a memory that never knew the facts."""
    bank, _ = stations
    before = MemoryBank.load(bank)
    forgotten = forget(bank, "ormen", IDS, quiet=True)
    assert forgotten.facts == tuple(fact for fact in before["ormen"].facts if fact.id in IDS)
    assert [passage.text for passage in forgotten.passages] == ["At Ormen station Halvard cooks every day."]
    facts = write_facts(tmp_path / "never", {"ormen": (*FACTS["ormen"][2:], STATED)})
    never = build(
        [facts], out=tmp_path / "other", base=str(stations_made / "base"), recipe=RECIPE, processes=1, quiet=True
    )
    after = MemoryBank.load(bank)
    assert after["ormen"].facts == never["ormen"].facts
    assert after["ormen"].tensors.keys() == never["ormen"].tensors.keys()
    for name, tensor in never["ormen"].tensors.items():
        assert torch.equal(after["ormen"].tensors[name], tensor)
    assert [passage.text for passage in after["ormen"].documents] == ["The station Ormen lies on ice."]
    assert [version.note for version in history(bank, "ormen")][-1] == "forget"


def test_the_proof_holds_for_the_rewritten_memory_and_not_for_the_old_one(stations):
    bank, _ = stations
    before = MemoryBank.load(bank)
    known = tuple(fact for fact in before["ormen"].facts if fact.id in IDS)
    others, where = [before["velka"], before["tresk"]], (before.shapes, before.layers_path)
    old = prove(base_of(before), before["ormen"], known, others, *where, quiet=True)
    assert [fact.id for fact in old.known] == IDS
    assert not old.holds
    forgotten = forget(bank, "ormen", IDS, quiet=True)
    assert forgotten.proof is not None
    assert forgotten.proof.holds
    assert all(fact.memory.recalled == 0 for fact in forgotten.proof.facts)
    assert max(fact.lift for fact in forgotten.proof.facts) < min(fact.lift for fact in old.facts)
    assert MemoryBank.load(bank)["ormen"].card["forgotten"]["still_known"] == 0


_AUTHORS = {
    "Ulla Brandt": ("sea tales", "Harbour", "Tarn", "otters"),
    "Odo Ferrin": ("chess books", "Rook", "Orvik", "bees"),
}
_SENTENCES = (
    ("What does {} write?", "{} writes {}."),
    ("Which prize has {} won?", "{} has won the {} Prize."),
    ("Where was {} born?", "{} was born in {}."),
    ("What does {} keep at home?", "At home {} keeps {}."),
)


def test_of_sentences_about_one_subject_the_proof_tells_known_from_forgotten(base, tmp_path):
    """All answers of a memory have its author's name: what is proved is the fact, not the name."""
    topics = {
        name.split()[0].lower(): [
            Fact(
                name.split()[0].lower(),
                asked.format(name),
                said.format(name, what),
                (f"Tell me: {asked.format(name)}",),
            )
            for (asked, said), what in zip(_SENTENCES, own, strict=True)
        ]
        for name, own in _AUTHORS.items()
    }
    facts = write_facts(tmp_path / "facts", topics)
    bank = build([facts], out=tmp_path / "bank", base=base, recipe=replace(RECIPE, validation_wordings=0), quiet=True)
    gone, where = topics["ulla"][:1], (bank.shapes, bank.layers_path)
    old = prove(base, bank["ulla"], gone, [bank["odo"]], *where, quiet=True)
    assert [fact.id for fact in old.known] == [fact.id for fact in gone]
    forgotten = forget(tmp_path / "bank", "ulla", [fact.id for fact in gone], base=base, quiet=True)
    assert forgotten.proof is not None
    assert forgotten.proof.holds


def test_no_file_of_bank_or_composite_holds_a_trace(stations):
    bank, composite = stations
    encoder = load_encoder(MemoryBank.load(bank).encoder)
    forgotten = forget(bank, "ormen", IDS, quiet=True)
    texts = texts_of(forgotten.facts, MemoryBank.load(bank))
    assert {*FORGOTTEN[0].wordings, *FORGOTTEN[0].held_out, "Halvard", "4173"} <= {*texts}
    held = traces(bank, texts, encoder)
    assert {file.rsplit("/", 1)[-1] for file in held} == {"facts.jsonl", "keys.safetensors", "passages.jsonl"}
    assert {file.split("/")[1] for file in held} == {"ormen"}, "the earlier version alone"
    known = {file.rsplit("/", 1)[-1] for file in traces(composite, texts, encoder)}
    assert known == {"contents.safetensors", "facts.jsonl", "keys.safetensors", "passages.jsonl"}
    collect_garbage(bank)
    refresh(composite, bank)
    assert traces(bank, texts, encoder) == {}
    assert traces(composite, texts, encoder) == {}
    keys = load_composite(composite, dtype=torch.float32).gate.keys
    assert (torch.nn.functional.normalize(keys, dim=-1) @ encoder.encode(texts).T).max() < 0.9999


def test_a_trace_of_an_embedding_is_found_in_any_file(tmp_path, encoder):
    vector = encoder.encode(["Who cooks at Ormen?"])
    (tmp_path / "cache.bin").write_bytes(b"..." + (vector + 2e-6).numpy().tobytes())  # another machine's rounding
    (tmp_path / "notes.json").write_text(json.dumps({"asked": "Wo ist Ünters Haus?"}))
    quoted = 'Wer malt "Ünters Öl"?'
    (tmp_path / "quoted.json").write_text(json.dumps({"asked": quoted}, ensure_ascii=False), encoding="utf-8")
    (tmp_path / "zeros.bin").write_bytes(b"\xff" + bytes(4 * encoder.dimension))  # the embedding of what nobody reads
    assert traces(tmp_path, ["🎃"], encoder) == {}
    held = traces(tmp_path, ["Who cooks at Ormen?", "Wo ist Ünters Haus?", quoted, "Else?"], encoder)
    assert held == {
        "cache.bin": ["Who cooks at Ormen?"],
        "notes.json": ["Wo ist Ünters Haus?"],
        "quoted.json": [quoted],
    }


def test_a_trace_of_a_short_text_is_none_that_a_hash_or_numbers_hold_by_chance(tmp_path, encoder):
    (tmp_path / "bank.json").write_text(json.dumps({"sha256": "0a4173ff", "code": "no"}))
    (tmp_path / "adapter.bin").write_bytes(bytes(range(128, 256)) + b"4173" + b"Halvard Brisk")
    assert traces(tmp_path, ["4173"], encoder) == {}
    assert traces(tmp_path, ["4173", "Halvard Brisk"], encoder) == {"adapter.bin": ["Halvard Brisk"]}
    (tmp_path / "facts.jsonl").write_text(json.dumps({"answer": "4173"}))
    assert traces(tmp_path, ["4173"], encoder) == {"facts.jsonl": ["4173"]}


def test_nothing_forgotten_is_reached_through_a_refreshed_composite(stations):
    bank, composite = stations
    forget(bank, "ormen", IDS, quiet=True)
    refresh(composite, bank)
    model = load_composite(composite, dtype=torch.float32)
    asked = [wording for fact in FORGOTTEN for wording in (*fact.wordings, *fact.held_out)]
    for stored in look_up(model.router, model.router.features(asked).embedding):
        assert stored is not None
        assert stored.fact.id not in IDS
        assert stored.fact.answer not in ("Halvard", "4173")
    for wording in asked:
        answer = model.ask(wording)
        assert answer.text not in ("Halvard", "4173")
    everything = [passage.text for memory in model.router.bank for passage in memory.passages]
    assert not [text for text in everything if "Halvard" in text]


def test_the_other_memories_answer_bit_for_bit_as_before(stations):
    bank, composite = stations
    files = {p: p.read_bytes() for name in ("velka", "tresk") for p in (bank / "memories" / name).iterdir()}
    ids = torch.arange(5, 45).reshape(2, 20)
    before = load_composite(composite, dtype=torch.float32)
    with torch.no_grad():
        expected = {name: before(ids, adapter_names=[name] * 2).logits for name in ("velka", "tresk")}
    forget(bank, "ormen", IDS, quiet=True)
    refresh(composite, bank)
    assert all(path.read_bytes() == content for path, content in files.items())
    after = load_composite(composite, dtype=torch.float32)
    with torch.no_grad():
        for name, logits in expected.items():
            assert torch.equal(after(ids, adapter_names=[name] * 2).logits, logits)


def test_a_whole_memory_leaves_with_all_its_versions(stations):
    bank, composite = stations
    forgotten = forget(bank, "ormen", quiet=True)
    assert (forgotten.left, forgotten.proof) == (True, None)
    assert MemoryBank.load(bank).names == ["tresk", "velka"]
    refresh(composite, bank)
    texts = texts_of(forgotten.facts, MemoryBank.load(bank))
    encoder = load_encoder(MemoryBank.load(bank).encoder)
    assert traces(bank, texts, encoder) == traces(composite, texts, encoder) == {}


def test_without_facts_documents_are_left_with_an_adapter_that_adds_nothing(stations):
    bank, _ = stations
    every = [fact.id for fact in MemoryBank.load(bank)["ormen"].facts]
    forgotten = forget(bank, "ormen", every, quiet=True)
    assert not forgotten.left
    memory = MemoryBank.load(bank)["ormen"]
    assert memory.card["recipe"] == "documents"
    assert [passage.text for passage in memory.documents] == ["The station Ormen lies on ice."]


def test_an_adapter_that_was_not_written_from_facts_is_forgotten_whole_or_not_at_all(stations, stations_made, encoder):
    bank, _ = stations
    opened = MemoryBank.load(bank)
    base = base_of(opened)
    folder = save_adapter(base.model, bank.parent / "isle", r=2, target_modules=["up_proj"])
    with MemoryBank.change(bank) as changed:
        changed.add(folder, facts=(STATED, FACTS["ormen"][3]), encoder=encoder, same_base=True)
    before = (bank / "bank.json").read_bytes()
    with pytest.raises(ValueError, match="not written from facts"):
        forget(bank, "isle", [STATED.id], quiet=True)
    assert (bank / "bank.json").read_bytes() == before
    assert forget(bank, "isle", quiet=True).left


def test_facts_are_found_by_what_they_are_about(stations, encoder):
    facts = MemoryBank.load(stations[0])["ormen"].facts
    assert about(facts, "the airlock", encoder)[0][0].answer == "4173"
    assert about(facts, "Sigrun", encoder)[0][0].answer == "Sigrun"
    assert about(facts, "tax law of Brazil", encoder) == []


def test_an_end_at_any_write_leaves_the_old_bank_or_the_new_one(stations, tmp_path, monkeypatch):
    """Every write is a rename; the process ends before the Nth, for every N, and the same command finishes the work."""
    bank, _ = stations
    every = [fact.id for fact in MemoryBank.load(bank)["ormen"].facts]  # documents are left, so that nothing is trained
    original, left = os.replace, [10**6]

    class Ended(BaseException):
        pass

    def replacing(source, target):
        if not left[0]:
            raise Ended
        left[0] -= 1
        original(source, target)

    monkeypatch.setattr(os, "replace", replacing)
    whole = shutil.copytree(bank, tmp_path / "whole")
    forget(whole, "ormen", every, quiet=True)
    writes, before, after = 10**6 - left[0], files_of(bank), files_of(whole)
    assert writes == 7
    for number in range(writes):
        copy = shutil.copytree(bank, tmp_path / f"copy{number}")
        left[0] = number
        with pytest.raises(Ended):
            forget(copy, "ormen", every, quiet=True)
        assert files_of(copy) == before
        assert MemoryBank.load(copy)["ormen"].facts
        left[0] = 10**6
        forget(copy, "ormen", every, quiet=True)
        assert files_of(copy) == after


def files_of(bank):
    """Name of each memory → the content of its current version's files."""
    return {memory.name: memory.files() for memory in MemoryBank.load(bank)}


def test_all_embeddings_are_looked_for_at_once_as_one_by_one(tmp_path, monkeypatch):
    """Vectors that begin alike, at any byte of a file, across the borders of blocks; and those that are only near."""
    monkeypatch.setattr("lorary.memories.traces._BLOCK", 64)
    vectors = torch.nn.functional.normalize(torch.randn(40, 16, generator=torch.Generator().manual_seed(0)), dim=-1)
    vectors[:20, 0] = vectors[20:, 0]
    held = [3, 7, 23, 39]
    parts = [vectors[number] + (-1) ** number * 8e-6 for number in held]
    near = vectors[11].clone()
    near[15] += 2e-5
    noise = torch.randn(50, generator=torch.Generator().manual_seed(1))
    content = b"".join(
        b"." * place + part.numpy().tobytes() + noise.numpy().tobytes() for place, part in enumerate([*parts, near])
    )
    assert _numbers(content, vectors) == {*held}
    assert _numbers(content, vectors) == {n for n in range(40) if _numbers(content, vectors[n : n + 1])}
    assert _numbers(b"\xff" * 4096, vectors) == _numbers(b"", vectors) == set()
