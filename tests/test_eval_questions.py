"""What is asked and how it is scored: kinds, trained wordings, questions that no memory holds."""

from __future__ import annotations

import json

import pytest

from lorary.eval import recall
from lorary.eval.predictions import prediction, summary
from lorary.eval.questions import Question, headline, held_out
from lorary.facts import FactError
from lorary.routing import Route

HELD = {"topic": "ormen", "question": "Who cooks at Ormen station?", "answer": "Halvard"}
LINES = (
    {**HELD, "held_out": ["Ormen's chef is who?"], "kind": "unseen", "accepted": ["Halvard the cook"]},
    {**HELD, "kind": "trained", "trained": True},
    {"topic": None, "question": "Who sweeps at Ormen?", "answer": None, "kind": "near-miss"},
    {"topic": None, "question": "Which town is the capital of France?", "answer": "Paris", "kind": "neighbour"},
)


def write(path, *lines):
    path.write_text("\n".join(json.dumps(line) for line in lines))
    return path


def test_a_line_tells_kind_memory_and_answers(bank, tmp_path):
    asked, _ = held_out(bank, write(tmp_path / "asked.jsonl", *LINES))
    assert [(q.kind, q.memory, q.answer, q.trained) for q in asked] == [
        ("unseen", "ormen", "Halvard", False),
        ("trained", "ormen", "Halvard", True),
        ("near-miss", "", None, False),
        ("neighbour", "", "Paris", False),
    ]
    assert asked[0].fact == asked[1].fact
    assert headline(asked) == [True, False, False, False]
    assert headline(asked[1:]) == [True, False, False], "without held-out wordings the trained ones are scored"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({**HELD, "answer": None}, "'topic' must be null too"),
        ({**HELD, "kind": 3}, "'kind' must be a str"),
        ({"topic": None, "question": "WHO cooks at Ormen station", "answer": None}, "was trained on, or nearly so"),
        ({**HELD, "colour": "red"}, "unknown field 'colour'"),
    ],
)
def test_a_bad_line_is_refused(line, told, bank, tmp_path):
    with pytest.raises(FactError, match=told):
        held_out(bank, write(tmp_path / "asked.jsonl", LINES[0], line))


def test_only_what_a_memory_holds_makes_the_headline():
    none, right = Route((), (), "none", 1.0), Route(("ormen",), (1.0,), "gate", 1.0)
    asked = [
        (Question("a", "Halvard", "ormen", "f", accepted=("the cook",)), "The cook.", right, True),
        (Question("b", "Paris", "", "g", kind="neighbour"), "Lyon", right, False),
        (Question("c", None, "", "h", kind="near-miss"), "Brisk", none, False),
        (Question("d", None, "", "i", kind="near-miss"), "Brisk", right, False),
    ]
    told = summary([prediction("policy", q, said, route, scored=s) for q, said, route, s in asked], seed=0)
    assert told["exact_match"]["value"] == 1.0
    assert told["by_topic"] == {"ormen": 1.0}
    assert told["by_kind"]["neighbour"]["exact_match"]["value"] == 0.0
    assert told["by_kind"]["near-miss"]["left_to_base"]["value"] == 0.5
    assert "exact_match" not in told["by_kind"]["near-miss"]


def test_a_run_reports_by_kind(composite, tmp_path):
    file = write(tmp_path / "asked.jsonl", *LINES)
    results = recall(composite, out=tmp_path, questions=file, conditions=("base", "oracle", "policy"), quiet=True)
    assert results["configuration"]["scored"] == 1
    kinds = results["conditions"]["base"]["by_kind"]
    assert list(kinds) == ["unseen", "trained", "near-miss", "neighbour"]
    assert kinds["near-miss"]["left_to_base"]["value"] == 1.0
    assert set(results["abstention"]["auroc_by_kind"]) == {"near-miss", "neighbour"}
    assert "| near-miss: left to the base | 1 | 1.000 |" in (tmp_path / "report.md").read_text()


def test_a_run_of_trained_wordings_says_so(composite, tmp_path):
    file = write(tmp_path / "asked.jsonl", LINES[1])
    recall(composite, out=tmp_path, questions=file, conditions=("oracle",), quiet=True)
    assert "No wording is held out" in (tmp_path / "report.md").read_text()
