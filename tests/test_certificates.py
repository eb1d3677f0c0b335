"""A certificate tells what was measured: no figure without a fact that it could be measured of."""

from __future__ import annotations

import json

import pytest

from lorary.__main__ import main
from lorary.memories.building import build
from lorary.memories.recipe import Recipe
from lorary.memories.topics import WordingWarning
from lorary.memories.writing import write

RECIPE = Recipe(max_epochs=2, r=2, validation_wordings=2)
ONE = {"question": "Who cooks at Ormen?", "answer": "Halvard"}
TWO = {"question": "Who keeps the lamp?", "answer": "Brisk", "questions": ["Name the keeper of the lamp."]}
AGAIN = {"question": "Who sweeps?", "answer": "Quill", "questions": ["WHO  sweeps?"]}


def bank_of(base, folder, recipe=RECIPE, **topics):
    for topic, facts in topics.items():
        (folder / f"{topic}.jsonl").write_text("".join(json.dumps(fact) + "\n" for fact in facts))
    bank = build([folder], out=folder / "bank", base=base, recipe=recipe, quiet=True)
    return {memory.name: memory.card["certificate"] for memory in bank}


def test_what_was_not_measured_is_null_and_what_was_says_of_how_many(base, tmp_path):
    with pytest.warns(WordingWarning, match=r"4 of 6 facts have one wording, 2 of them in 'ones'.*by rule") as caught:
        cards = bank_of(base, tmp_path, ones=[ONE, AGAIN], mixed=[ONE, TWO], twos=[TWO], again=[AGAIN])
    assert len([w for w in caught if w.category is WordingWarning]) == 1
    told = {name: card["recall_validation_wordings"] for name, card in cards.items()}
    assert told["ones"] is told["again"] is None
    assert told["mixed"] is not None
    assert told["twos"] is not None
    assert {name: card["facts_with_validation"] for name, card in cards.items()} == {
        "again": 0,
        "mixed": 1,
        "ones": 0,
        "twos": 1,
    }
    assert all(card["recall_trained_wordings"] is not None for card in cards.values())
    judged_by = {name: card["judged_by"].split()[0] for name, card in cards.items()}
    assert judged_by == {"ones": "trained", "again": "trained", "mixed": "validation", "twos": "validation"}


def test_a_memory_of_texts_alone_has_no_recall_of_trained_wordings(base, tmp_path):
    facts = [{**TWO, "statement": "Brisk keeps the lamp."}]
    recipe = Recipe(max_epochs=1, r=2, formats=("text",), validation_wordings=2)
    card = bank_of(base, tmp_path, recipe, lamps=facts)["lamps"]
    assert card["recall_trained_wordings"] is None
    assert card["recall_validation_wordings"] is not None


def test_a_report_of_progress_tells_only_what_is_measured(base):
    from conftest import FACTS

    from lorary.memories.rows import with_validation

    kept = [with_validation(fact, 1) for fact in FACTS["ormen"]]
    seen = []
    write(base, [FACTS["velka"], kept], RECIPE, 1, report=lambda passes, recall: seen.append(tuple(recall)))
    assert all(first != first and 0 <= second <= 1 for first, second in seen), "NaN, and a share"


def test_the_command_says_that_it_was_not_measured(base, tmp_path, capsys):
    (tmp_path / "ones.jsonl").write_text(json.dumps(ONE) + "\n")
    command = ["build", str(tmp_path / "ones.jsonl"), "--out", str(tmp_path / "bank"), "--base", base.name, "--quiet"]
    assert main([*command, "--max-epochs", "1", "--r", "2"]) == 0
    printed = capsys.readouterr()
    assert "ones: 1 fact, recall not measured" in printed.out
    assert printed.err.startswith("lorary: warning: 1 of 1 fact has one wording, 1 of them in 'ones': ")
    assert printed.err.count("\n") == 1, "one line, without a place in the code"
