"""The bench of a bank of many memories: a run over a pico base, gone on with, and its table."""

from __future__ import annotations

import json

from lorary.__main__ import main
from lorary.bank.bank import MemoryBank
from lorary.research.bank_bench import AIMS, table_of, tell_bank
from lorary.research.bank_steps import STEPS


def test_every_step_is_measured_and_a_run_goes_on(base, tmp_path, capsys):
    command = ["research", "bank-bench", "--out", str(tmp_path), "--base", base.name, "--memories", "6", "--quiet"]
    assert main([*command, "--repeats", "1", "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert {*AIMS} <= {*table} == {*STEPS}
    first = json.loads((tmp_path / "results.json").read_text())["rounds"]
    assert len(MemoryBank.load(tmp_path / "composite")) == 6, "the memory that left has joined again"
    assert main([*command, "--repeats", "2"]) == 0
    assert "| the first question is routed |" in capsys.readouterr().out
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["rounds"][:1] == first
    assert len(results["rounds"]) == 2
    assert main([*command[:-3], "--memories", "7", "--quiet"]) == 2
    assert "holds a run with memories 6, not 7" in capsys.readouterr().err
    assert main([*command, "--repeats", "0"]) == 2


def test_the_table_tells_medians_and_what_missed_its_aim():
    rounds = [{step: [seconds, 2 * seconds, 10.0] for step in STEPS} for seconds in (0.04, 0.06, 0.3)]
    assert table_of(rounds)["joins"]["processor"] == [0.06, 0.04, 0.3]
    machine = {"cpu": "x", "cores": 2, "threads": "1"}
    told = tell_bank(
        {"rounds": rounds, "machine": machine, "made": "", "versions": {}, "settings": {"memories": 3, "base": "b"}}
    )
    assert (
        "| a memory with facts joins | 0.060 (0.040 to 0.300) | 0.120 (0.080 to 0.600) | 0.05 (missed) | 10 |" in told
    )
    assert "| the first question is routed | 0.060 (0.040 to 0.300) | 0.120 (0.080 to 0.600) | 0.5 | 10 |" in told


def test_a_composite_of_somebody_else_is_not_measured(tmp_path):
    (tmp_path / "composite").mkdir()
    assert main(["research", "bank-bench", "--out", str(tmp_path), "--memories", "2", "--quiet"]) == 2
