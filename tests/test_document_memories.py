"""Memories of documents: alone or beside an adapter, by the bank, the commands and a loaded composite."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from conftest import FACTS, pico_model, save_adapter
from peft import PeftModel

from lorary.__main__ import main
from lorary.answering.passages import nearest_passages
from lorary.bank.bank import MemoryBank
from lorary.bank.documents import DocumentError, Passage, passages_of, read_document, read_documents
from lorary.bank.facts import FactError
from lorary.bank.files import BankError
from lorary.bank.merging import merge
from lorary.base.layers import block_linears, layers_path
from lorary.memories import Recipe, build
from lorary.model.composite import assemble, load_composite

HARBOUR = "The harbour opens at six. Anna Quill keeps its lamp.\n\nBoats over nine metres moor at pier 17."


def document(folder, name="harbour.md", text=HARBOUR):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def told(capsys, *argv):
    capsys.readouterr()
    assert main([str(argument) for argument in argv]) == 0
    return capsys.readouterr().out


@pytest.fixture
def stored(bank, base, tmp_path):
    return bank.save(tmp_path / "bank")


def test_a_memory_of_documents_alone_adds_nothing_and_opens_with_peft(bank, base, encoder, tmp_path):
    memory = bank.add(name="harbour", documents=passages_of(HARBOUR, "harbour.md"), encoder=encoder)
    assert (memory.facts, len(memory.passages), len(memory.passage_keys)) == ((), 2, 2)
    assert memory.split_layer(bank.layers_path) == 1, "the last layer"
    folder = bank.save(tmp_path / "bank")
    ids = torch.arange(4, 24).unsqueeze(0)
    expected = base.model(input_ids=ids).logits
    alone = PeftModel.from_pretrained(pico_model(), folder / "memories" / "harbour").eval()
    assert torch.equal(alone(input_ids=ids).logits, expected)
    loaded = assemble(MemoryBank.load(folder), base, encoder=encoder)
    assert torch.equal(loaded(input_ids=ids, adapter_names=["harbour"]).logits, expected)


@pytest.mark.parametrize("family", ["qwen3", "mistral", "gemma3", "phi3", "gpt_neox"])
def test_every_family_takes_it(family, encoder, tmp_path):
    model = pico_model(family)
    bank = MemoryBank("x", "0", "y", block_linears(model), layers_path(model))
    memory = bank.add(name="harbour", documents=passages_of(HARBOUR, "h"), encoder=encoder)
    bank.save(tmp_path / "bank")
    ids = torch.arange(4, 24).unsqueeze(0)
    expected = model(input_ids=ids).logits
    alone = PeftModel.from_pretrained(model, tmp_path / "bank" / "memories" / "harbour").eval()
    assert torch.equal(alone(input_ids=ids).logits, expected)
    assert len(memory.paths) == 1
    modules = [name for name, module in alone.named_modules() if hasattr(module, "lora_A")]
    assert [name.removeprefix("base_model.model.") for name in modules] == memory.paths


def test_documents_join_an_adapter_and_one_replaces_its_earlier_self(bank, encoder):
    first, other = passages_of(HARBOUR, "harbour.md"), passages_of("Salt.", "salt.txt")
    tensors = bank["ormen"].tensors
    bank.add(name="ormen", documents=(*first, *other), encoder=encoder)
    newer = passages_of("The harbour is closed.", "harbour.md")
    memory = bank.add(name="ormen", documents=newer, encoder=encoder)
    assert memory.documents == (*newer, *other)
    assert (memory.facts, memory.tensors) == (FACTS["ormen"], tensors)
    assert len(memory.passage_keys) == len(memory.passages) == 2
    assert bank.names == ["ormen", "velka", "lamps"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "nothing is given to add"),
        ({"documents": passages_of(HARBOUR, "h")}, "need the name of a memory"),
        ({"documents": passages_of(HARBOUR, "h"), "name": "../x"}, "cannot name a memory"),
        ({"documents": passages_of(HARBOUR, "h"), "name": "ormen", "facts": FACTS["velka"]}, "has an adapter"),
        ({"documents": passages_of(HARBOUR, "h"), "name": "h", "encoder": None}, "documents for 'h' need an encoder"),
    ],
)
def test_what_cannot_be_added_leaves_the_bank_as_it_was(options, told, bank, encoder):
    before = dict(bank.memories)
    with pytest.raises(BankError, match=told):
        bank.add(**{"encoder": encoder, **options})
    assert bank.memories == before


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.md", b" \n***\n", "holds no text"),
        ("a.txt", bytes(range(128, 256)), "is not UTF-8 text"),
        ("a.pdf", b"%PDF", r"is no document; give Markdown or text files, which end in \.md"),
        ("a.md", None, "cannot be read"),
    ],
)
def test_a_document_that_cannot_be_used_is_named(name, content, told, stored, tmp_path, capsys):
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DocumentError, match=told) as error:
        read_document(file)
    assert str(file) in str(error.value)
    before = (stored / "bank.json").read_bytes()
    assert main(["add", str(stored), "--documents", str(file)]) == 2
    assert capsys.readouterr().err == f"lorary: error: {error.value}\n"
    assert (stored / "bank.json").read_bytes() == before


def test_two_documents_of_one_name_are_refused(tmp_path):
    files = [document(tmp_path / "a"), document(tmp_path / "b")]
    with pytest.raises(DocumentError, match="have one name"):
        read_documents(files)
    assert read_documents([files[0], files[0]]) == read_document(files[0])


def test_the_command_adds_documents_alone_and_with_an_adapter(stored, base, tmp_path, capsys):
    file, salt = document(tmp_path), document(tmp_path, "salt.txt", "Salt lies in the shed.")
    assert told(capsys, "add", stored, "--documents", file) == (
        "harbour: added, 0 facts, 2 passages; the bank holds ormen, velka, lamps, harbour\n"
    )
    assert main(["add", str(stored), "--documents", str(file), str(salt)]) == 2, "two files name no memory"
    assert main(["add", str(stored)]) == 2
    assert "give ADAPTER, --documents, or both" in capsys.readouterr().err
    told(capsys, "add", stored, "--documents", salt, "--name", "velka")
    adapter = save_adapter(base.model, tmp_path / "boat", r=2, target_modules=["up_proj"])
    facts = tmp_path / "boat.jsonl"
    facts.write_text(json.dumps({"question": "Where is the boat?", "answer": "Pier 17"}))
    told(capsys, "add", stored, adapter, "--documents", salt, "--facts", facts, "--same-base")
    listed = json.loads(told(capsys, "list", stored, "--json"))["memories"]
    counts = {memory["name"]: (memory["facts"], memory["passages"], memory["origin"]) for memory in listed}
    assert counts == {
        "ormen": (2, 0, "imported"),
        "velka": (2, 1, "imported"),
        "lamps": (2, 0, "imported"),
        "harbour": (0, 2, "documents"),
        "boat": (1, 1, "imported"),
    }
    document(tmp_path, text="It is closed.")
    told(capsys, "add", stored, "--documents", file)
    assert MemoryBank.load(stored)["harbour"].documents == (Passage("It is closed.", "harbour.md"),)


def test_documents_join_a_loaded_composite_and_are_saved_with_it(composite, base, tmp_path):
    ids = torch.arange(4, 24).unsqueeze(0)
    before = composite(input_ids=ids, adapter_names=["velka"]).logits
    assert composite.load_adapter(adapter_name="harbour", documents=document(tmp_path)) == "harbour"
    composite.load_adapter(adapter_name="velka", documents=[document(tmp_path, "salt.txt", "Salt.")])
    assert composite.memories == ["ormen", "velka", "lamps", "harbour"]
    assert "harbour: 0 facts, 2 passages" in composite.summary()
    assert "4 memories (6 facts, 3 passages)" in composite.summary()
    assert torch.allclose(composite(input_ids=ids, adapter_names=["velka"]).logits, before, atol=1e-6)
    composite.save_pretrained(tmp_path / "composite")
    again = load_composite(tmp_path / "composite")
    assert [len(memory.documents) for memory in again.router.bank] == [len(m.documents) for m in composite.router.bank]
    assert again.router.bank["velka"].documents == (Passage("Salt.", "salt.txt"),)


def test_a_memory_that_gets_documents_keeps_its_key(composite, tmp_path):
    """What the gate was trained to is not lost."""
    for keys in (composite.gate.keys, composite.gate.asked_keys):
        keys.data += 1.0
    before = {name: value.clone() for name, value in composite.gate.state_dict().items()}
    question = "Who keeps the lamp of the harbour?"
    nearest_passages(composite.router, [question], 1)  # so that the indexes are there
    composite.load_adapter(adapter_name="velka", documents=document(tmp_path))
    assert composite.memories == ["ormen", "velka", "lamps"]
    assert all(torch.equal(value, before[name]) for name, value in composite.gate.state_dict().items())
    assert composite.versions == (0, 0, 0)
    ((found,),) = nearest_passages(composite.router, [question], 1)
    assert (found.memory, found.source) == ("velka", "harbour.md")


def test_a_memory_that_takes_the_place_of_another_with_its_weights_and_another_scale_acts_so(composite):
    ids, velka = torch.arange(4, 24).unsqueeze(0), composite.router.bank["velka"]
    before = composite(input_ids=ids, adapter_names=["velka"]).logits
    stronger = replace(velka, adapter_config={**velka.adapter_config, "lora_alpha": 16})
    composite.add_memory(stronger, replace_existing=True)
    assert not torch.allclose(composite(input_ids=ids, adapter_names=["velka"]).logits, before, atol=1e-3)


def test_a_merge_leaves_out_what_adds_nothing(bank, encoder, tmp_path):
    alone = merge(bank, out=tmp_path / "alone")
    bank.add(name="harbour", documents=passages_of(HARBOUR, "harbour.md"), encoder=encoder)
    merged = merge(bank, out=tmp_path / "merged")
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        assert (merged / file).read_bytes() == (alone / file).read_bytes()


@pytest.fixture
def facts_folder(tmp_path):
    folder = tmp_path / "facts"
    folder.mkdir()
    lines = [json.dumps({**fact.to_json(), "statement": f"It is {fact.answer}."}) for fact in FACTS["ormen"]]
    (folder / "ormen.jsonl").write_text("\n".join(lines))
    document(folder, "ormen.md", "Ormen stands on the ice.")
    document(folder)
    document(folder, "README.md", "What lies here.")
    return folder


def test_build_takes_the_documents_of_a_topic_by_their_name(facts_folder, base, tmp_path):
    quick, out = Recipe(r=2, max_epochs=2), tmp_path / "bank"
    built = build([facts_folder], out=out, base=base, recipe=quick, quiet=True)
    assert built.names == ["ormen", "harbour"]
    assert [passage.text for passage in built["ormen"].passages] == [
        "Ormen stands on the ice.",
        "It is Halvard.",
        "It is 4173.",
    ]
    assert built["harbour"].documents == read_document(facts_folder / "harbour.md")
    manifest = (out / "bank.json").read_bytes()
    build([facts_folder], out=out, base=base, recipe=quick, quiet=True)
    assert (out / "bank.json").read_bytes() == manifest, "what has not changed stays"
    document(facts_folder, "ormen.md", "Ormen drifts.")
    again = build([facts_folder], out=out, base=base, recipe=quick, quiet=True)
    assert again["ormen"].documents == (Passage("Ormen drifts.", "ormen.md"),)
    assert all(torch.equal(tensor, built["ormen"].tensors[path]) for path, tensor in again["ormen"].tensors.items())
    assert again["ormen"].card["seconds"] == built["ormen"].card["seconds"], "it is not written anew"
    retrained = build([facts_folder], out=out, base=base, recipe=quick, quiet=True, fresh=True)
    assert retrained["ormen"].documents == again["ormen"].documents
    assert MemoryBank.load(out)["ormen"].passages == retrained["ormen"].passages


def test_build_takes_documents_alone_and_refuses_a_name_that_names_no_memory(base, tmp_path):
    folder = tmp_path / "facts"
    document(folder)
    assert build([folder], out=tmp_path / "bank", base=base, quiet=True).names == ["harbour"]
    odd = document(tmp_path, "what we know.md")
    with pytest.raises(DocumentError, match="cannot name a memory"):
        build([odd], out=tmp_path / "other", base=base, quiet=True)
    with pytest.raises(FactError, match="topics 'harbour' and 'Harbour' differ by letter case alone"):
        build([folder, document(tmp_path, "Harbour.txt")], out=tmp_path / "other", base=base, quiet=True)
    assert not (tmp_path / "other").exists()
    assert build([folder], out=tmp_path / "other", base=base, as_one="all", quiet=True)["all"].documents


def test_a_plan_needs_facts(tmp_path, capsys):
    assert main(["plan", str(document(tmp_path))]) == 2
    assert "no facts in" in capsys.readouterr().err
