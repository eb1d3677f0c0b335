"""`lorary forget` shows what it found, wants a yes, and exits by its proof."""

from __future__ import annotations

import json
from dataclasses import replace

from stations import FACTS, IDS

from lorary.__main__ import main
from lorary.bank.bank import MemoryBank
from lorary.memories.forgotten import FORGET
from lorary.routing.encoder import load_encoder
from lorary.tables import counted


def test_the_command_shows_what_it_found_and_wants_a_yes(stations, capsys):
    bank = str(stations[0])
    before = (stations[0] / "bank.json").read_bytes()
    assert main(["forget", bank, "ormen", "--about", "the airlock code", "--quiet"]) == 2
    told = capsys.readouterr().err
    assert "4173" in told
    assert "--yes" in told
    assert (stations[0] / "bank.json").read_bytes() == before
    assert main(["forget", bank, "ormen", "--about", "tax law of Brazil", "--yes", "--quiet"]) == 2
    assert "no fact of 'ormen' is about" in capsys.readouterr().err
    assert main(["forget", bank, "ormen", "--facts", "00000000", "--quiet"]) == 2
    assert "holds no fact '00000000'" in capsys.readouterr().err
    assert main(["forget", str(stations[1]), "ormen", "--quiet"]) == 2
    assert "forget in its bank" in capsys.readouterr().err
    assert main(["list", bank, "--facts"]) == 0
    assert f"ormen   {IDS[0]}  Who cooks at Ormen?" in capsys.readouterr().out


def test_the_command_tells_the_proof_and_exits_by_it(stations, capsys):
    bank = str(stations[0])
    assert main(["forget", bank, "ormen", "--facts", *IDS, "--quiet"]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[0] == "ormen: 2 facts forgotten"
    assert printed.count("  forgotten") == 2
    assert f"lorary gc {bank}" in printed
    # What another memory still tells is not forgotten.
    with MemoryBank.change(bank) as changed:
        encoder = load_encoder(changed.encoder)
        velka = changed["velka"]
        same = replace(FACTS["tresk"][0], topic="velka", question="At Tresk, who cooks?", questions=(), held_out=())
        changed.memories["velka"] = replace(velka, facts=(*velka.facts, same)).with_keys(encoder)
    assert main(["forget", bank, "tresk", "--facts", FACTS["tresk"][0].id, "--quiet"]) == 2
    captured = capsys.readouterr()
    assert "still told by velka: At Tresk, who cooks?" in captured.out
    assert f"the bank still tells {FACTS['tresk'][0].id}" in captured.err


def test_a_damaged_earlier_version_keeps_no_fact_from_being_forgotten(stations, capsys):
    bank, _ = stations
    with MemoryBank.change(bank, note=FORGET) as opened:
        opened.memories["ormen"] = replace(opened["ormen"], card={**opened["ormen"].card, "forgotten": {}})
    (bank / "memories" / "ormen" / "facts.jsonl").write_text("{}")
    assert main(["forget", str(bank), "ormen", "--about", "the airlock code", "--yes", "--quiet"]) == 2
    assert f"restore it, or drop earlier versions by `lorary gc {bank}`" in capsys.readouterr().err
    assert main(["forget", str(bank), "ormen", "--facts", *IDS, "--quiet"]) == 0
    assert not {fact.id for fact in MemoryBank.load(bank)["ormen"].facts} & {*IDS}
    capsys.readouterr()


def test_the_command_run_again_proves_again_and_changes_nothing(stations, capsys):
    """As after a kill behind the commit, of which the caller saw nothing."""
    bank = str(stations[0])
    forgetting = "forget", bank, "ormen", "--about", "the airlock code", "--yes", "--quiet", "--json"
    assert main([*forgetting]) == 0
    first, manifest = json.loads(capsys.readouterr().out), (stations[0] / "bank.json").read_bytes()
    assert main([*forgetting]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again == first | {"before": True}
    assert again["proof"]["facts"]
    assert (stations[0] / "bank.json").read_bytes() == manifest
    ids = [fact["id"] for fact in first["facts"]]
    assert main(["forget", bank, "ormen", "--facts", *ids, "--quiet"]) == 0
    assert capsys.readouterr().out.startswith(f"ormen: {counted(len(ids), 'fact')} forgotten before; this is the proof")
    # One that was forgotten and one that is held: the one goes, and both are proved.
    mixed = [ids[0], next(fact.id for fact in MemoryBank.load(bank)["ormen"].facts)]
    assert main(["forget", bank, "ormen", "--facts", *mixed, "--quiet", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert ([fact["id"] for fact in told["facts"]], told["before"]) == (mixed, False)
    assert len(told["proof"]["facts"]) == 2
    assert main(["gc", bank]) == 0
    capsys.readouterr()
    assert main(["forget", bank, "ormen", "--facts", *ids, "--quiet"]) == 2
    assert "lorary verify BANK --forgotten FACTS` proves again" in capsys.readouterr().err
