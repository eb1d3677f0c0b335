"""Facts that are remembered, corrected and forgotten while a server runs: written in the bank, taken up by the composite."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from served import KEY, served
from stations import FACTS
from test_page import opened

from lorary.__main__ import main
from lorary.bank.bank import MemoryBank
from lorary.bank.files import BankError
from lorary.memories.updating import update
from lorary.model.composite import load_composite
from lorary.serving.keeping import Keeper

NEW = {
    "question": "Who paints the hull of Ormen?",
    "questions": ["Name the painter of Ormen's hull."],
    "answer": "Yrsa",
}


def ended(client, reply):
    assert reply.status_code == 202, reply.text
    job = reply.json()
    while job["state"] in ("waiting", "running"):
        time.sleep(0.2)
        job = client.get(f"/jobs/{job['id']}").json()
    return job


def questions_of(folder, name):
    return [fact.question for fact in MemoryBank.load(folder)[name].facts]


def test_a_fact_is_remembered_and_forgotten_while_it_serves(stations):
    bank, composite = stations
    model = load_composite(composite)
    with served(model, composite, key=KEY, bank=bank, seconds=200.0) as server, server.http() as client:
        job = ended(client, client.post("/memories/velka/facts", json={"facts": [NEW]}))
        assert job["state"] == "done", job
        told = client.get("/look/bank/velka").json()["facts"]
        [number] = [fact["id"] for fact in told if fact["question"] == NEW["question"]]
        stored = client.post("/look/route", json={"messages": [{"role": "user", "content": NEW["question"]}]}).json()
        assert stored["stored"]["answer"] == "Yrsa"
        for folder in (bank, composite):
            assert NEW["question"] in questions_of(folder, "velka")
        after = [
            memory["version"] for memory in client.get("/look/bank").json()["memories"] if memory["name"] == "velka"
        ]
        assert after == [2]
        job = ended(client, client.delete(f"/memories/velka/facts/{number}"))
        assert job["error"] is None or "not all is forgotten" in job["error"], "a pico base proves little"
        for folder in (bank, composite):
            assert NEW["question"] not in questions_of(folder, "velka")
        assert len(client.get("/look/bank/velka").json()["facts"]) == len(FACTS["velka"])
    assert load_composite(composite).memories == ["ormen", "tresk", "velka"]


def test_what_the_bank_learned_before_is_taken_up_at_the_start(stations, tmp_path):
    from lorary.memories.topics import read_topics

    bank, composite = stations
    (tmp_path / "new.jsonl").write_text('{"question": "Who rows at Tresk?", "answer": "Ulla"}\n')
    update(bank, read_topics([tmp_path / "new.jsonl"], "rowers"), quiet=True, processes=1)
    with MemoryBank.change(bank) as changed:
        changed.remove("velka")
    keeper = Keeper(load_composite(composite), composite)
    assert keeper.take_up(bank) == ["velka", "rowers"]
    assert keeper.take_up(bank) == []
    assert load_composite(composite).memories == ["ormen", "tresk", "rowers"]


def test_a_bank_over_another_base_is_not_taken_up(stations, model, tmp_path):
    bank, _ = stations
    keeper = Keeper(model, None)
    model.router.bank.fingerprint = "0" * 64
    before = list(model.memories)
    with pytest.raises(BankError, match="a composite over"):
        keeper.take_up(bank)
    assert model.memories == before


def test_who_may_not_change_facts_changes_nothing(model, stations):
    bank, _ = stations
    with served(model) as server, server.http() as client:
        assert client.post("/memories/velka/facts", json={"facts": [NEW]}).json()["error"]["code"] == "no_key"
    with served(model, key=KEY) as server, server.http() as client:
        assert client.post("/memories/velka/facts", json={"facts": [NEW]}).json()["error"]["code"] == "no_bank"
    with served(model, key=KEY, bank=bank) as server, server.http() as client:
        for name, facts in (("../velka", [NEW]), ("velka", []), ("velka", [{"question": "Who?"}]), ("velka", "no")):
            assert client.post(f"/memories/{name}/facts", json={"facts": facts}).status_code in (400, 404, 405)
        assert client.delete("/memories/velka/facts/--seed").status_code == 400
        assert client.get("/jobs/none").status_code == 404
        failed = ended(client, client.delete("/memories/velka/facts/abc"))
        assert failed["state"] == "failed"
        assert "abc" in failed["error"]


def test_the_page_remembers(stations):
    bank, composite = stations
    with served(load_composite(composite), composite, key=KEY, bank=bank) as server, opened(server) as page:
        page.fill("#key", KEY)
        page.keyboard.press("Tab")
        page.wait_for_selector("#remember:visible")
        page.fill("#fact-memory", "velka")
        page.fill("#fact-questions", "\n".join([NEW["question"], *NEW["questions"]]))
        page.fill("#fact-answer", NEW["answer"])
        page.click("#remember [type=submit]")
        page.wait_for_selector("#job.done", timeout=180_000)
        page.click("#memories button:text-is('velka')")
        page.wait_for_selector(f".fact:has-text('{NEW['question']}')")
    assert NEW["question"] in questions_of(composite, "velka")


def test_a_failed_change_takes_nothing_from_the_composite(stations):
    """A memory that stands in the composite alone stays there; and what a bank rules is changed in the bank alone."""
    bank, composite = stations
    model = load_composite(composite)
    model.add_memory(replace(model.router.bank["velka"], name="loner"))
    model.save_pretrained(composite)
    with served(model, composite, key=KEY, bank=bank) as server, server.http() as client:
        failed = ended(client, client.delete("/memories/loner/facts/abc"))
        assert failed["state"] == "failed"
        assert "loner" in model.memories
        for reply in (client.delete("/memories/loner"), client.post("/memories", json={"name": "new", "facts": [NEW]})):
            assert reply.status_code == 409
            assert reply.json()["error"]["code"] == "bank"
    assert "loner" in load_composite(composite).memories
    with pytest.raises(BankError, match=r"holds loner, and .* does not; `lorary refresh"):
        Keeper(load_composite(composite), composite).take_up(bank, removing=False)


def test_options_that_do_not_go_together_are_told(stations, capsys):
    bank, composite = map(str, stations)
    assert main(["serve", composite, "--bank", bank, "--base", "x"]) == 2
    assert "--base would not change" in capsys.readouterr().err
    assert main(["serve", bank, "--bank", bank]) == 2
    assert "--bank is the folder that is served" in capsys.readouterr().err
