"""What refreshing costs in routing: a whole run on a few facts, and a table that says what its runs say."""

from __future__ import annotations

import json

import pytest

from lorary.__main__ import main
from lorary.research.refresh_bench import CHANGES, table_of


def test_a_whole_run_tells_both_gates_for_every_change(tmp_path, capsys):
    command = ["research", "refresh", "--sets", "separable", "--seeds", "1", "--facts-a-topic", "2", "--json"]
    command += ["--out", str(tmp_path / "refresh")]
    assert main(command) == 0
    table = json.loads(capsys.readouterr().out)
    assert [*table] == [f"separable: {change}" for change in CHANGES]
    for row in table.values():
        top1 = row["top1"]
        assert top1["difference"]["value"] == pytest.approx(top1["refreshed"]["value"] - top1["anew"]["value"])
        assert top1["anew"]["value"] > 0.5
    assert "8 topics join" in (tmp_path / "refresh" / "report.md").read_text()
    results = (tmp_path / "refresh" / "results.json").read_bytes()
    assert main(command) == 0
    assert (tmp_path / "refresh" / "results.json").read_bytes() == results, "what was measured is kept"


def test_the_table_pairs_the_same_questions():
    def run(right, routed):
        return {"facts": ["a/0", "a/0", "b/0"], "top1": right, "strangers": routed, "unrelated": [0], "seconds": 2.0}

    anew, refreshed = run([1, 1, 0], [1]), run([1, 0, 1], [0])
    runs = {"s/0": {change: {"anew": anew, "refreshed": refreshed, "reset": anew} for change in CHANGES}}
    row = table_of(runs)["s: 1 topic joins"]
    assert row["top1"]["anew"]["value"] == row["top1"]["refreshed"]["value"] == pytest.approx(2 / 3)
    assert row["top1"]["difference"]["value"] == pytest.approx(0)
    assert row["strangers"]["difference"]["value"] == -1
    assert row["seconds_refreshed"] == 2.0
