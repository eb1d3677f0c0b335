"""Recall against a number of memories: in the bank, and merged."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import torch

from lorary.__main__ import main
from lorary.eval import recall
from lorary.eval.routing_scores import RoutingScores
from lorary.eval.studies import groups, part_of

LINES = (
    {
        "topic": "ormen",
        "question": "Who cooks at Ormen station?",
        "answer": "Halvard",
        "held_out": ["Ormen's chef is who?"],
    },
    {
        "topic": "velka",
        "question": "Who cooks at Velka station?",
        "answer": "Brisk",
        "held_out": ["Velka's chef is who?"],
    },
    {
        "topic": "lamps",
        "question": "Which oil?",
        "answer": "lark oil",
        "held_out": ["What do lamplighters burn at night?"],
    },
)


def test_groups_have_their_size_and_hold_every_memory():
    names = [f"m{i}" for i in range(7)]
    held = groups(names, 3, seed=1)
    assert held == groups(names, 3, seed=1)
    assert held != groups(names, 3, seed=2)
    assert all(name in group and len(set(group)) == 3 for name, group in held.items())
    assert len(set(held.values())) == 3
    assert set(groups(names, 1, seed=0).items()) == {(name, (name,)) for name in names}
    assert len(set(groups(names, 7, seed=0).values())) == 1
    with pytest.raises(ValueError, match="groups of 8 cannot be made of 7 memories; give 1 to 7"):
        groups(names, 8, seed=0)


def test_a_part_of_the_router_scores_as_a_composite_of_those_memories(composite):
    texts = ["Who cooks at Velka?", "Name the oil."]
    part = part_of(composite.router, ("lamps", "velka"))
    found = RoutingScores(composite, part).of(texts)
    before = RoutingScores(composite).of(texts)
    composite.remove_memory("ormen")
    expected = RoutingScores(composite).of(texts)
    swap = torch.tensor([1, 0, 2])
    assert torch.allclose(found[0][:, swap], expected[0], atol=1e-6)
    assert torch.allclose(found[1][:, swap[:2]], expected[1])
    assert before[0].shape[1] == 4, "the composite's own router is left as it was"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where the one run of this file is made, by the first test that asks for it."""
    return tmp_path_factory.mktemp("studies")


@pytest.fixture
def run(composite, place, tmp_path):
    """A copy of the run, to change at will."""
    if not (place / "run").exists():
        composite.save_pretrained(place / "composite")
        (place / "asked.jsonl").write_text("\n".join(map(json.dumps, LINES)))
        asked = ["--questions", str(place / "asked.jsonl"), "--counts", "1", "2", "3", "--merges", "1", "2", "--quiet"]
        given = [str(place / "composite"), "--out", str(place / "run"), "--parts", "questions", *asked]
        assert main(["recall", *given]) == 0
    shutil.copytree(place, tmp_path, dirs_exist_ok=True)
    return tmp_path / "run", json.loads((tmp_path / "run" / "results.json").read_text())


def test_a_bank_of_all_is_the_composite_and_of_one_the_oracle(run):
    _, results = run
    rows = results["studies"]["in_bank"]
    assert {row["condition"] for row in rows} == {"lookup", "oracle", "gate", "index", "policy"}
    by = {(row["condition"], row["memories"]): row for row in rows}
    for name in ("lookup", "oracle", "gate", "index", "policy"):
        for measure in ("exact_match", "token_f1"):
            assert by[name, 3][measure] == results["conditions"][name][measure]
    assert by["gate", 1]["top1"] == by["index", 1]["top1"] == 1.0
    assert by["index", 1]["token_f1"] == by["oracle", 1]["token_f1"]
    assert by["index", 3]["top1"] == results["routing"]["index"]["top1"]
    assert by["lookup", 3]["top1"] == results["routing"]["lookup"]["top1"]


def test_a_study_goes_on_where_it_stopped(run):
    folder, results = run
    marked = json.loads((folder / "results.json").read_text())
    marked["studies"]["in_bank"][0]["top1"] = 0.125
    del marked["studies"]["in_bank"][1:]
    (folder / "results.json").write_text(json.dumps(marked))
    again = recall(
        folder.parent / "composite", out=folder, questions=folder.parent / "asked.jsonl", counts=(1, 2, 3), quiet=True
    )
    first, *others = again["studies"]["in_bank"]
    assert first == results["studies"]["in_bank"][0] | {"top1": 0.125}, "it was not asked again"
    assert others == results["studies"]["in_bank"][1:]
    assert again["studies"]["by_merging"] == results["studies"]["by_merging"], "what is not asked for stays"


def test_merging_one_memory_is_the_oracle_and_what_cannot_be_merged_says_so(run):
    _, results = run
    by = {(row["how"], row["merged"]): row for row in results["studies"]["by_merging"]}
    assert set(by) == {(how, n) for how in ("exact", "sum", "ties", "linear") for n in (1, 2)}
    for how in ("exact", "sum", "linear"):
        assert by[how, 1]["token_f1"] == results["conditions"]["oracle"]["token_f1"]
    assert "one rank" in by["linear", 2]["skipped"]
    assert by["exact", 2]["exact_match"] is not None


def test_the_page_draws_both(run):
    folder, _ = run
    html = (folder / "report.html").read_text()
    assert 'id="memories-in-the-bank"' in html
    assert 'id="memories-merged"' in html
    told = (folder / "report.md").read_text()
    assert "| exact match | 1 | 2 | 3 |" in told
    assert re.search(r"\| linear \| \d\.\d{3} \| – \|", told)


def test_what_cannot_be_studied_is_refused(token_composite, tmp_path):
    with pytest.raises(ValueError, match="groups of 4 cannot be made of 3 memories"):
        recall(token_composite, out=tmp_path, merges=(4,), quiet=True)
    with pytest.raises(ValueError, match="this composite routes by token"):
        recall(token_composite, out=tmp_path, counts=(2,), conditions=("oracle",), quiet=True)
