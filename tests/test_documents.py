"""Documents: how they are cut into passages, and how a memory holds, embeds and stores them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from conftest import FACTS
from safetensors.torch import load_file

from lorary.bank.bank import MemoryBank
from lorary.bank.documents import LONGEST, Passage, passages_of, width
from lorary.bank.files import BankError, hash_of
from lorary.errors import LoraryError

DOCUMENT = """# Station Ormen

## Kitchen

Mr. Brisk cooks at Ormen. He came on 3. October
1912.

- bread
- fish

Nobody keeps the lamp.
"""


def texts(document):
    return [passage.text for passage in passages_of(document, "x.md")]


def with_documents(memory, encoder, document=DOCUMENT, **changes):
    return replace(memory, documents=passages_of(document, "ormen.md"), **changes).with_keys(encoder)


def test_paragraphs_are_passages_and_headings_stay_with_what_follows():
    assert texts(DOCUMENT) == [
        "Station Ormen: Kitchen: Mr. Brisk cooks at Ormen. He came on 3. October 1912.",
        "- bread - fish",
        "Nobody keeps the lamp.",
    ]
    assert texts("Ormen\n=====\nHere it is.\n\nKitchen\n\nBread.\r\n\r\n***\r\n\r\n# End") == [
        "Ormen: Here it is.",
        "Kitchen: Bread.",
        "End",
    ]
    assert texts("| a | b |\n|---|---|\n| x | y |") == ["| a | b | | x | y |"]
    assert texts("") == texts(" \n\n***\n") == []


def test_a_comment_in_code_is_no_heading():
    document = "# Setup\n\n```sh\n# first this\nmake setup\n\nmake test\n```\n\nThen go on.\n\n~~~\n# open"
    assert texts(document) == ["Setup: # first this make setup", "make test", "Then go on.", "# open"]


@pytest.mark.parametrize(
    ("sentence", "space"),
    [
        ("Mr. Brisk came on 3. October 1912 from St. Petersburg.", " "),
        ('"Where is he?" she asked at 5 p.m. of that day.', " "),
        ("他在1912年来到这里，没有人知道他从哪里来。", ""),
        ("「彼はどこですか？」と彼女は聞いた。", ""),
        ("वह 1912 में ओर्मेन आया था।", " "),
        ("متى جاء هلفارد إلى المحطة؟", " "),
        ("Նա եկավ 1912 թվականին։", " "),
    ],
)
def test_passages_end_where_sentences_do(sentence, space):
    document = space.join([sentence] * 60)
    passages = texts(document)
    assert space.join(passages) == document, "nothing is lost"
    assert len(passages) > 2
    assert all(passage[-1] == sentence[-1] and width(passage) <= LONGEST for passage in passages)
    assert all(width(passage) > LONGEST / 2 for passage in passages[:-1]), "they are filled"


@pytest.mark.parametrize(
    ("document", "space"), [("word " * 300, " "), ("สถานีออร์เมน" * 100, ""), ("漢字" * 400, ""), ("x" * 1000, "")]
)
def test_a_sentence_that_is_too_long_is_cut_between_words_or_letters(document, space):
    passages = texts(document)
    assert space.join(passages) == document.strip()
    assert len(passages) > 2
    assert all(width(passage) <= LONGEST for passage in passages)


def test_lines_of_chinese_are_joined_without_a_space():
    assert texts("他在1912年来到\n这里。\nHe came\nhere.") == ["他在1912年来到这里。 He came here."]


def test_a_memory_s_passages_are_its_documents_and_the_statements_that_these_do_not_tell(bank, encoder):
    told = replace(FACTS["ormen"][0], statement="mr. brisk cooks  at ormen.")
    untold = replace(FACTS["ormen"][1], statement="The airlock code is\n4173.", source="handbook")
    memory = with_documents(bank["ormen"], encoder, facts=(told, untold, untold))
    assert memory.passages == (*memory.documents, Passage("The airlock code is 4173.", "handbook"))
    assert torch.equal(memory.passage_keys, encoder.encode([passage.text for passage in memory.passages]))
    twice = replace(memory, documents=(*memory.documents, Passage(memory.documents[0].text, "again")))
    assert twice.passages == memory.passages


def test_documents_are_saved_and_loaded(bank, encoder, tmp_path):
    bank.memories["ormen"] = memory = with_documents(bank["ormen"], encoder)
    place = bank.save(tmp_path / "bank") / "memories"
    again = MemoryBank.load(tmp_path / "bank")["ormen"]
    assert (again.documents, again.passages) == (memory.documents, memory.passages)
    assert torch.equal(again.passage_keys, memory.passage_keys)
    lines = (place / "ormen" / "passages.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[2]) == {"text": "Nobody keeps the lamp.", "source": "ormen.md"}
    assert not (place / "velka" / "passages.jsonl").exists()
    assert set(load_file(place / "velka" / "keys.safetensors")) == {"keys", "facts"}


def test_documents_that_left_are_not_read_again(bank, encoder, tmp_path):
    plain = bank["ormen"]
    bank.memories["ormen"] = with_documents(plain, encoder)
    folder = bank.save(tmp_path / "bank")
    bank.memories["ormen"] = plain
    bank.save(folder)
    assert MemoryBank.load(folder)["ormen"].documents == ()
    _, place = sorted((folder / "memories").glob("ormen*"))
    (place / "passages.jsonl").write_text('{"text": "of a crash", "source": ""}\n')
    assert MemoryBank.load(folder)["ormen"].documents == (), "the manifest does not name it"


def test_an_older_bank_has_no_passage_keys_until_they_are_made(bank, encoder, tmp_path):
    stated = tuple(replace(fact, statement=f"It is {fact.answer}.") for fact in FACTS["ormen"])
    bank.memories["ormen"] = replace(bank["ormen"], facts=stated)
    folder = bank.save(tmp_path / "bank")
    older = MemoryBank.load(folder)
    assert older["ormen"].passage_keys.shape == (0, 0)
    before = (folder / "bank.json").read_bytes()
    older.save(folder)
    assert (folder / "bank.json").read_bytes() == before
    assert len(older.with_encoder(encoder)["ormen"].passage_keys) == 2


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"text": "A."}', "passages.jsonl:1: a passage is an object with 'text' and 'source'"),
        ('{"text": " ", "source": "x"}', "'text' must be a string with letters"),
        ('{"text": "A.", "source": 3}', "'source' must be a string"),
        ('{"text": "A.", "source": "x"}', r"keys of shape \[3, 384\] do not stand for 1 passage"),
    ],
)
def test_stored_passages_are_checked(line, told, bank, encoder, tmp_path):
    bank.memories["ormen"] = with_documents(bank["ormen"], encoder)
    folder = bank.save(tmp_path / "bank")
    file, manifest = folder / "memories" / "ormen" / "passages.jsonl", folder / "bank.json"
    old = hash_of(file.read_bytes())
    file.write_text(line + "\n")
    opened = MemoryBank.load(folder)["ormen"]  # what it holds is read when it is first used
    with pytest.raises(BankError, match=r"passages\.jsonl is damaged"):
        _ = opened.passages
    manifest.write_text(manifest.read_text().replace(old, hash_of(file.read_bytes())))
    opened = MemoryBank.load(folder)["ormen"]
    with pytest.raises(LoraryError, match=told):
        _ = opened.documents, opened.passage_keys
