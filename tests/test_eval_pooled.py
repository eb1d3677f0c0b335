"""Runs that are seeds of one experiment, pooled: means, spread, intervals over runs and facts."""

from __future__ import annotations

import json
import random
import statistics
from pathlib import Path

import pytest

from lorary.__main__ import main
from lorary.eval import recall
from lorary.eval.comparison import CompareError
from lorary.eval.pooled import pool
from lorary.eval.results import SCHEMA, read
from lorary.eval.scoring import TEXT_MEASURES
from lorary.statistics import cluster_mean, interval

FACTS = 80


def make_run(folder, shares, *, questions=FACTS, seed=0, **configuration):
    """A run's files: by condition, which share of the questions (two wordings a fact) is right."""
    folder.mkdir()
    drawn = random.Random(f"{folder.name}{seed}")
    lines = [
        {"condition": name, "question": f"Who is {i}?", "answer": "a", "fact": f"f{i // 2}", "scored": True}
        | dict.fromkeys(TEXT_MEASURES, float(drawn.random() < share))
        for name, share in shares.items()
        for i in range(questions)
    ]
    settings = {"scored_wordings": "held-out", "passages": 3, "free_tokens": 32, "source_sha256": folder.name}
    told = {"study": "recall", "schema": SCHEMA, "partial": False, "configuration": settings | configuration}
    told["conditions"] = {name: {"meaning": ""} for name in shares}
    (folder / "results.json").write_text(json.dumps(told))
    (folder / "predictions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return str(folder)


def read_condition(run, name):
    return read(Path(run))[1][name]


@pytest.fixture
def runs(tmp_path):
    """Three seeds: the policy is good in all, and much better than the base, while the gate depends on its seed."""
    gate = (0.95, 0.5, 0.65)
    return [make_run(tmp_path / f"s{i}", {"base": 0.1, "gate": g, "policy": 0.8}) for i, g in enumerate(gate)]


def test_a_condition_is_the_mean_of_its_runs_with_their_spread(runs):
    told = pool(runs)
    each = [statistics.mean(p.exact_match for p in read_condition(run, "gate")) for run in runs]
    score = told["conditions"]["gate"]["exact_match"]
    assert score["runs"] == pytest.approx(each, abs=1e-4)
    assert score["value"] == pytest.approx(statistics.mean(each), abs=1e-4)
    assert score["deviation"] == pytest.approx(statistics.stdev(each), abs=1e-4)
    assert (told["questions"], told["facts"], told["against"]) == (FACTS, FACTS // 2, "policy")
    gain = told["differences"]["gate"]["exact_match"]
    policy = told["conditions"]["policy"]["exact_match"]["runs"]
    assert gain["runs"] == pytest.approx([a - b for a, b in zip(each, policy, strict=True)], abs=2e-4)


def test_an_interval_covers_seeds_too(runs):
    told = pool(runs)
    gate, policy = (told["conditions"][name]["exact_match"] for name in ("gate", "policy"))
    assert gate["high"] - gate["low"] > 2 * (policy["high"] - policy["low"]), "runs that differ are less sure"
    assert told["differences"]["base"]["exact_match"]["differs"]
    assert not told["differences"]["gate"]["exact_match"]["differs"], "one lucky seed is no finding"
    assert pool(runs) == told, "the same seed draws the same"


def test_runs_that_are_all_alike_have_the_interval_of_one(tmp_path, runs):
    copies = [make_run(tmp_path / f"copy{i}", {"policy": 0.8}) for i in range(3)]
    kept = (tmp_path / "copy0" / "predictions.jsonl").read_text()
    for i in (1, 2):
        (tmp_path / f"copy{i}" / "predictions.jsonl").write_text(kept)
    found = pool(copies)["conditions"]["policy"]["exact_match"]
    held = read_condition(copies[0], "policy")
    one = interval(cluster_mean([p.exact_match for p in held], [p.fact for p in held], seed=0))
    assert found["deviation"] == 0.0
    assert (found["value"], found["low"], found["high"]) == pytest.approx(tuple(one.values()), abs=0.015)


def test_the_command_prints_tables_or_json(runs, capsys):
    assert main(["compare", *runs, "--pool"]) == 0
    table = capsys.readouterr().out
    assert "## exact match" in table
    assert "| condition | mean (95 %) | each run | deviation | less policy (95 %) |" in table
    assert "3 runs as seeds of one experiment" in table
    assert main(["compare", *runs, "--pool", "--condition", "gate", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == pool(runs, against="gate")


def test_what_is_no_set_of_seeds_is_refused(runs, tmp_path):
    first = runs[0]
    full = {"base": 0.1, "gate": 0.5, "policy": 0.8}
    with pytest.raises(CompareError, match="asked different questions"):
        pool([first, make_run(tmp_path / "fewer", full, questions=10)])
    with pytest.raises(CompareError, match=r"lesser lacks condition 'gate', which .*s0 has"):
        pool([first, make_run(tmp_path / "lesser", {"base": 0.1, "policy": 0.8})])
    with pytest.raises(CompareError, match=r"s0 and .*twin are of the same composite, so they are no two seeds"):
        pool([first, make_run(tmp_path / "twin", full, source_sha256="s0")])
    with pytest.raises(CompareError, match=r"asked otherwise \(passages 3 and 5\)"):
        pool([first, make_run(tmp_path / "more", full, passages=5)])
    with pytest.raises(CompareError, match="no condition 'oracle'; they have"):
        pool(runs, against="oracle")
    with pytest.raises(CompareError, match="one run cannot be compared"):
        pool([first])


def test_what_recall_writes_is_pooled(composite, tmp_path):
    folders = []
    for seed in range(2):
        composite.gate.none.data.fill_(float(seed))
        composite.save_pretrained(tmp_path / f"composite{seed}")
        folders.append(tmp_path / f"run{seed}")
        asked = {"conditions": ("base", "oracle", "policy"), "parts": ("questions",)}
        recall(tmp_path / f"composite{seed}", out=folders[-1], **asked, quiet=True)
    told = pool(folders)
    assert list(told["conditions"]) == ["base", "oracle", "policy"]
    one, two = (json.loads((f / "results.json").read_text())["conditions"]["oracle"]["token_f1"] for f in folders)
    assert told["conditions"]["oracle"]["token_f1"]["runs"] == pytest.approx([one["value"], two["value"]], abs=1e-4)
