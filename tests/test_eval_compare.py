"""Runs side by side."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lorary.__main__ import main
from lorary.eval.comparison import CompareError, compare, within
from lorary.eval.results import SCHEMA, read
from lorary.eval.scoring import TEXT_MEASURES


def make_run(folder, right, *, questions=60, condition="policy", schema=SCHEMA):
    """A run's files, of so many right answers among questions on as many facts."""
    folder.mkdir()
    share = right / questions
    score = {"value": share, "low": share - 0.1, "high": share + 0.1}
    scores = {"meaning": "", **dict.fromkeys(TEXT_MEASURES, score)}
    results = {"study": "recall", "schema": schema, "partial": False, "conditions": {condition: scores}}
    lines = [
        {"condition": condition, "question": f"Who is {i}?", "answer": f"a{i}", "fact": f"f{i}", "scored": True}
        | dict.fromkeys(TEXT_MEASURES, float(i < right))
        for i in range(questions)
    ]
    lines.append({**lines[0], "question": "unscored", "scored": False, **dict.fromkeys(TEXT_MEASURES)})
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "predictions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return str(folder)


@pytest.fixture
def runs(tmp_path):
    return [make_run(tmp_path / f"right{right}", right) for right in (30, 40, 31)]


def test_only_what_is_more_than_chance_is_marked(runs):
    told = compare(runs)
    assert [d["exact_match"]["differs"] for d in told["differences"]] == [True, False]
    assert told["differences"][0]["exact_match"]["value"] == pytest.approx(10 / 60)
    assert told["differences"][0]["against"] == runs[0]
    assert (told["questions"], told["facts"]) == (60, 60)


def test_conditions_of_one_run_are_compared_on_the_same_questions(runs):
    held = [read(Path(run))[1]["policy"] for run in runs]
    told = within(dict(zip(("oracle", "policy", "index"), held, strict=True)), seed=0)
    assert told.against == "policy"
    assert {name: scores["exact_match"].differs for name, scores in told.conditions.items()} == {
        "oracle": True,
        "index": True,
    }
    assert told.conditions["index"]["contains"].value == pytest.approx(-9 / 60)
    assert within({"policy": held[0]}, seed=0) is None, "one condition has nothing to be compared with"


def test_the_command_prints_a_table_or_json(runs, capsys):
    assert main(["compare", *runs]) == 0
    table = capsys.readouterr().out
    assert "**+0.167" in table
    assert "+0.017" in table
    assert "**+0.017" not in table
    assert main(["compare", *runs, "--json", "--condition", "policy"]) == 0
    assert json.loads(capsys.readouterr().out) == compare(runs)


def test_what_cannot_be_compared_is_refused(runs, tmp_path, capsys):
    fewer = make_run(tmp_path / "fewer", 10, questions=50)
    with pytest.raises(CompareError, match=r"asked different questions \(60 and 50 scored; 'Who is 50\?'"):
        compare([runs[0], fewer])
    with pytest.raises(CompareError, match="no condition 'oracle'; it has"):
        compare(runs, condition="oracle")
    with pytest.raises(CompareError, match="one run cannot be compared"):
        compare(runs[:1])
    with pytest.raises(CompareError, match="given twice"):
        compare([runs[0], runs[0]])
    old = make_run(tmp_path / "old", 10, schema=2)
    assert main(["compare", runs[0], old]) == 2
    assert f"has schema 2 and this version reads {SCHEMA}" in capsys.readouterr().err
