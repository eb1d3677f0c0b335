"""A loaded composite stays true where a file of it is damaged, where threads ask at once, and where the program is ending."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import ask, save_adapter
from safetensors.torch import load_file, save_file

from lorary.bank.bank import MemoryBank
from lorary.bank.facts import Fact
from lorary.bank.files import BankError, hash_of_file
from lorary.errors import LoraryError
from lorary.model.composite import load_composite
from lorary.routing.index import FactIndex

QUESTION = ["Who cooks at Ormen station?"]
ENDING = """
import sys, threading, time
from lorary.model.beside import beside
def serve():
    while threading.main_thread().is_alive():
        time.sleep(0.01)
    time.sleep(0.2)
    print(beside(lambda: "worked")())
threading.Thread(target=serve).start()
"""


@pytest.fixture
def folder(composite, tmp_path):
    composite.save_pretrained(tmp_path / "composite")
    return tmp_path / "composite"


@pytest.fixture
def load(base, folder):
    return lambda: load_composite(folder, base=base.name, dtype=torch.float32)


def facts_of(folder, name):
    return folder / MemoryBank.load(folder).versions[name][1].folder / "facts.jsonl"


def with_later_memories(folder, base, encoder, tmp_path):
    with MemoryBank.change(folder) as bank:
        for number in range(2):
            fact = Fact("l", f"Who is Zanzibar{number} Klopf?", "Lark", (f"Name Zanzibar{number}'s Klopf.",))
            adapter = save_adapter(base.model, tmp_path / f"late{number}", 20 + number, target_modules=["up_proj"])
            bank.add(adapter, name=f"late{number}", facts=[fact], encoder=encoder, same_base=True)


def test_a_damaged_memory_can_leave_and_the_others_answer_as_before(folder, load, tokenizer):
    model, inputs = load(), ask(tokenizer, *QUESTION)
    model.router.features(QUESTION)
    with torch.no_grad():
        before = model(**inputs, adapter_names=["velka"]).logits
        facts_of(folder, "ormen").unlink()
        model.remove_memory("ormen")
        assert model.memories == [memory.name for memory in model.factors.memories] == ["velka", "lamps"]
        assert torch.equal(model(**inputs, adapter_names=["velka"]).logits, before)
    assert len(model.gate.keys) == 2
    assert model.router.features(QUESTION).votes.shape == (1, 2)


def test_a_memory_joins_beside_a_damaged_one(folder, load, base, encoder, tmp_path):
    model = load()
    model.router.features(QUESTION)
    kept = facts_of(folder, "ormen").read_bytes()
    facts_of(folder, "ormen").write_text("x")
    fact = Fact(
        "late", "who cooks ormen quillon velka station", "Lark", ("tell me of the ormen and the velka station",)
    )
    adapter = save_adapter(base.model, tmp_path / "late", 9, target_modules=["up_proj"])
    model.add_memory(adapter, name="late", facts=[fact], encoder=encoder, same_base=True)
    assert len(model.gate.keys) == len(model.memories) == len(model.factors.memories) == 4
    facts_of(folder, "ormen").write_bytes(kept)
    assert model.router.features(QUESTION).votes.shape == (1, 4)


def test_memories_that_joined_later_are_told_until_they_can_be_read(folder, load, base, encoder, tmp_path):
    with_later_memories(folder, base, encoder, tmp_path)
    load().save_pretrained(folder)  # with their keys; what is kept goes on without them
    asked = ["Who is Zanzibar1 Klopf?"]
    expected, model, file = load().router.features(asked).votes, load(), facts_of(folder, "late0")
    kept = file.read_bytes()
    file.write_text("x")
    for _ in range(2):
        with pytest.raises(BankError, match="is damaged"):
            model.router.features(asked)
    file.write_bytes(kept)
    assert torch.equal(model.router.features(asked).votes, expected)


def test_threads_that_ask_first_wait_for_one_of_them(folder, load, base, encoder, tmp_path):
    with_later_memories(folder, base, encoder, tmp_path)
    asked = ["Who is Zanzibar1 Klopf?"]
    expected = load().router.features(asked).votes
    for _ in range(6):
        model, together, votes = load(), threading.Barrier(4), list[torch.Tensor]()

        def first(model=model, together=together, votes=votes):
            together.wait()
            votes.append(model.router.features(asked).votes)

        threads = [threading.Thread(target=first) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(votes) == 4
        assert all(torch.equal(own, expected) for own in votes)


def test_memories_of_the_same_tensors_keep_their_own_scaling(bank, base, encoder, tokenizer):
    from lorary.model.composite import assemble

    own = bank["ormen"]
    config = {**own.adapter_config, "lora_alpha": 4 * own.adapter_config["lora_alpha"]}
    bank.add(replace(own, name="strong", adapter_config=config))
    model, inputs = assemble(bank, base, encoder=encoder), ask(tokenizer, *QUESTION)
    with torch.no_grad():
        plain = model(**inputs, adapter_names=["ormen"]).logits
        assert not torch.allclose(model(**inputs, adapter_names=["strong"]).logits, plain)


def test_what_is_kept_and_does_not_fit_is_made_anew(folder, load):
    file, seal = folder / "contents.safetensors", folder / "contents.json"
    expected, whole, before = load().router.features(QUESTION).votes, load_file(file), hash_of_file(file)
    for name in [name for name in whole if name.endswith(("vectors", "ids"))]:
        save_file({**whole, name: whole[name][:-1].clone()}, file)
        seal.write_text(seal.read_text().replace(before, hash_of_file(file)))
        before = hash_of_file(file)
        assert torch.equal(load().router.features(QUESTION).votes, expected), name


def test_an_index_reads_nothing_outside_what_it_was_given():
    index = FactIndex(4)
    stored = {
        "vectors": np.eye(2, 4, dtype=np.float32), "ids": np.arange(2), "lists": np.zeros(2, dtype=np.int64),
        "centroids": np.eye(1, 4, dtype=np.float32),
    }  # fmt: skip
    assert len(FactIndex.of_stored(4, stored, ["a"])) == 2
    for name, wrong in (("lists", stored["lists"] + 1), ("ids", stored["ids"] - 1), ("ids", stored["ids"][:1])):
        with pytest.raises(LoraryError, match="does not fit together"):
            index.of_stored(4, {**stored, name: wrong}, ["a"])
    with pytest.raises(LoraryError, match="does not fit together"):
        index.of_stored(5, stored, ["a"])


def test_a_request_is_routed_after_the_main_thread_has_ended():
    ran = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "worked", ran.stderr


@pytest.mark.parametrize("change", ["refreshed", "leaves"])
def test_a_folder_that_changed_says_so_and_the_composite_loads_again(change, folder, load, encoder):
    """What a composite has not read yet is gone then, and nothing is wrong with the bank."""
    model = load()
    other = load()
    if change == "refreshed":
        fewer = replace(other.router.bank["velka"], facts=other.router.bank["velka"].facts[:1])
        other.add_memory(fewer.with_keys(encoder), replace_existing=True)
    else:
        other.remove_memory("velka")
    other.save_pretrained(folder)
    ids = torch.arange(5, 15)[None]
    for read in (lambda: model(ids, adapter_names=["velka"]), lambda: model.router.bank["velka"].facts):
        with pytest.raises(
            BankError, match=r"the bank in .*composite was changed after it was loaded.*; load it again"
        ):
            read()
    assert model(ids, adapter_names=["ormen"]).routes[0].memories == ("ormen",)
    again = load()
    facts_of(folder, "ormen").unlink()
    with pytest.raises(BankError, match=r"facts.jsonl is missing; restore it"):
        again.router.bank["ormen"].facts  # noqa: B018
