"""Twelve or so facts of three wordings, as a small firm would write them: four invented sets, in other words. Slow: `real`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lorary.answering.lookup import same
from lorary.memories.building import build
from lorary.router_training import train_router

pytestmark = pytest.mark.real
SETS = Path(__file__).parent / "newcomers"


@pytest.mark.parametrize("name", ["boatyard", "practice", "school", "bikes"])
def test_few_facts_of_three_wordings_are_answered_in_other_words(name, tmp_path):
    bank = build([SETS / name], out=tmp_path / "bank", quiet=True)
    for memory in bank:
        assert not any(fact.validation for fact in memory.facts), "none is spared of three wordings"
        assert memory.card["certificate"]["recall_trained_wordings"] == 1.0
    model = train_router(tmp_path / "bank", out=tmp_path / "composite", quiet=True)
    asked = [json.loads(line) for line in (SETS / f"{name}-questions.jsonl").read_text().splitlines()]
    known = [question for question in asked if question["answer"]]
    right = [same(model.ask(question["question"]).text, question["answer"]) for question in known]
    assert sum(right) >= 7, [question["question"] for question, well in zip(known, right, strict=True) if not well]
    unknown = [question["question"] for question in asked if not question["answer"]]
    routed = [question for question in unknown if model.ask(question).route.outcome != "base"]
    assert len(routed) <= 2, routed
