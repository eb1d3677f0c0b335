"""A forgetting is proved again later: from a file of the facts, or from earlier versions while these are there."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from stations import FACTS, FORGOTTEN, IDS, write_facts
from test_versions import contents

from lorary.__main__ import main
from lorary.bank.bank import MemoryBank
from lorary.bank.upkeep import collect_garbage
from lorary.memories.auditing import audit
from lorary.memories.choosing import ForgettingError
from lorary.memories.forgetting import forget
from lorary.model.refreshing import refresh
from lorary.routing.encoder import load_encoder


@pytest.fixture
def kept(tmp_path):
    """The file of the facts that the user keeps."""
    return write_facts(tmp_path / "kept", {"ormen": FORGOTTEN}) / "ormen.jsonl"


def without(bank, name, ids, **changes):
    """A memory says that it holds some facts no more, and its adapter still knows them."""
    with MemoryBank.change(bank) as changed:
        memory = changed[name]
        left = tuple(fact for fact in memory.facts if fact.id not in ids)
        cheating = replace(memory, facts=left, documents=(), **changes)
        changed.memories[name] = cheating.with_keys(load_encoder(changed.encoder))


def verify(capsys, *arguments):
    code = main(["verify", *map(str, arguments), "--quiet"])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_after_gc_the_kept_file_proves_it_again_in_bank_and_composite(stations, kept, capsys):
    bank, composite = stations
    forget(bank, "ormen", IDS, quiet=True)
    code, out, err = verify(capsys, bank, "--forgotten", kept)
    assert code == 2
    assert f"earlier versions hold them until `lorary gc {bank}`" in err
    assert "still knows" not in err
    assert out.count("  forgotten") == 2
    collect_garbage(bank)
    code, _, err = verify(capsys, composite, "--forgotten", kept)
    assert code == 2, "the composite was not refreshed"
    assert "still knows" in err
    refresh(composite, bank)
    for folder in (bank, composite):
        before = contents(folder)
        code, out, err = verify(capsys, folder, "--forgotten", kept)
        assert (code, err) == (0, "")
        assert out.endswith("nothing knows, tells or holds them\n")
        assert contents(folder) == before, "nothing is changed"
    with pytest.raises(ForgettingError, match="give the facts as JSONL, since a bank keeps none"):
        audit(bank, quiet=True)


def test_while_an_earlier_version_is_there_no_file_is_needed(stations, capsys):
    bank, _ = stations
    forget(bank, "ormen", IDS, quiet=True)
    code, out, err = verify(capsys, bank, "--forgotten")
    assert (code, err) == (0, "")
    assert out.count("  forgotten") == 2
    assert f"earlier versions still hold them, until `lorary gc {bank}`" in out
    told = audit(bank, quiet=True)
    assert {fact.id for fact in told.facts} == {*IDS}
    with MemoryBank.change(bank) as changed:
        memory = changed["ormen"]
        changed.memories["ormen"] = replace(memory, facts=(*memory.facts, FORGOTTEN[0]))
    assert [fact.id for fact in audit(bank, quiet=True).facts] == IDS[1:], "what came back is not forgotten"


def test_an_adapter_that_still_knows_is_found_out(stations, kept, capsys):
    bank, _ = stations
    without(bank, "ormen", IDS)
    collect_garbage(bank)
    code, out, err = verify(capsys, bank, "--forgotten", kept)
    assert code == 2
    assert out.count("still known") == 2
    assert all(f"{fact.id} ({fact.question})" in err for fact in FORGOTTEN)
    code, out, _ = verify(capsys, bank, "--forgotten", kept, "--json")
    told = json.loads(out)["forgotten"]
    assert (code, told["holds"], told["files"], told["still_told"]) == (2, False, {}, [])
    assert [fact["forgotten"] for fact in told["proofs"]["ormen"]["facts"]] == [False, False]


def test_another_memory_that_knows_is_found_everywhere(stations, kept):
    bank, _ = stations
    knowing = MemoryBank.load(bank)["ormen"]
    forget(bank, "ormen", IDS, quiet=True)
    without(bank, "velka", [], adapter_config=knowing.adapter_config, tensors=knowing.tensors)
    collect_garbage(bank)
    assert audit(bank, FORGOTTEN, quiet=True).holds
    told = audit(bank, FORGOTTEN, everywhere=True, quiet=True)
    assert {name for name, proof in told.proofs.items() if not proof.holds} == {"velka"}


def test_what_left_the_bank_whole_is_searched_for(stations, kept, capsys):
    bank, _ = stations
    forget(bank, "ormen", quiet=True)
    code, out, _ = verify(capsys, bank, "--forgotten", kept)
    assert code == 0
    assert "ormen: left the bank" in out
    assert out.endswith("nothing tells or holds them; no memory was asked for 2 facts\n")
    code, out, _ = verify(capsys, bank, "--forgotten", kept, "--everywhere")
    assert code == 0
    assert "left the bank" not in out
    assert out.endswith("nothing knows, tells or holds them\n")
    (bank / "notes.txt").write_text(f"We asked: {FORGOTTEN[0].question}")
    same = replace(FACTS["ormen"][1], topic="velka", question="The airlock of Ormen has which code?")
    with MemoryBank.change(bank) as changed:
        velka = changed["velka"]
        facts = (*velka.facts, replace(same, questions=(), held_out=()))
        changed.memories["velka"] = replace(velka, facts=facts).with_keys(load_encoder(changed.encoder))
    code, out, err = verify(capsys, bank, "--forgotten", kept)
    assert code == 2
    assert f"still held by notes.txt: {FORGOTTEN[0].question}" in out
    assert f"the bank still tells {IDS[1]}" in err


def test_what_cannot_be_asked_is_told(stations, tmp_path, capsys):
    bank, _ = stations
    code, _, err = verify(capsys, bank, "--everywhere")
    assert code == 2
    assert "give --forgotten" in err
    (tmp_path / "none.jsonl").write_text("")
    code, _, err = verify(capsys, bank, "--forgotten", tmp_path / "none.jsonl")
    assert code == 2
    assert "no fact is given" in err
