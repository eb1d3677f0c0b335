"""What starts imports no more than it needs; and the bench of starts tells what a process takes, and its error."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lorary.__main__ import main
from lorary.research import start_bench as bench
from lorary.research.settings import StudyError


def test_a_process_is_measured_by_the_processor_and_by_the_clock():
    processor, clock = bench.seconds_of([sys.executable, "-c", "import time; time.sleep(0.5)"])
    assert 0 < processor < 0.5 <= clock
    busy, _ = bench.seconds_of([sys.executable, "-c", "import time\nwhile time.process_time() < 0.5: pass"])
    assert busy >= 0.5
    with pytest.raises(StudyError, match="ended with 1: KeyError: 'lamp'; run it by itself"):
        bench.seconds_of([sys.executable, "-c", "{}['lamp']"])


def test_a_table_compares_within_a_round():
    rounds = [{bench.PEER: [1.0, 2.0], "lorary ask": [4.0, 5.0]}, {bench.PEER: [2.0, 2.0], "lorary ask": [4.5, 9.0]}]
    rounds = [{**{cell: [0.5, 0.5] for cell in bench.PYTHON}, **taken} for taken in rounds]
    row = bench.table_of(rounds)["lorary ask"]
    assert row == {"processor": [4.25, 4.0, 4.5], "clock": [7.0, 5.0, 9.0], "beyond": [2.75, 2.5, 3.0]}


def test_a_run_goes_on_and_names_a_cell_that_fails(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "PYTHON", {bench.PEER: "pass", bench.FIRST: "pass"})
    monkeypatch.setattr(bench, "_LOAD", "pass")
    ran, measure = [], bench.seconds_of
    monkeypatch.setattr(bench, "seconds_of", lambda own, *more: ran.append(own[-1]) or measure(own, *more))
    cells = {"lorary --help": ["--help"], "lorary list": ["list", str(tmp_path / "nothing")]}
    monkeypatch.setattr(bench, "commands", lambda *_: cells)
    command = ["research", "start-bench", "composite", "--out", str(tmp_path / "run"), "--quiet", "--json", "--repeats"]
    assert main([*command, "1"]) == 2
    assert "nothing" in capsys.readouterr().err
    del cells["lorary list"]
    assert main([*command, "1"]) == 0
    ran.clear()
    [first] = json.loads((tmp_path / "run" / "results.json").read_text())["rounds"]
    assert main([*command, "3"]) == 0
    rounds = json.loads((tmp_path / "run" / "results.json").read_text())["rounds"]
    assert rounds[0] == first
    assert ran == ["pass", "--help", "pass", "pass", "pass", "pass", "--help"], "first unpacked, then back and forth"
    assert "3 rounds" in (tmp_path / "run" / "report.md").read_text()


@pytest.mark.parametrize(
    ("command", "heavy"),
    [
        (["--help"], ["torch", "transformers", "numpy"]),
        (["ask", "--help"], ["torch", "transformers"]),
        (["list", "bank"], ["transformers", "faiss", "sentence_transformers"]),
        (["plan", "facts"], ["transformers.modeling_utils", "peft", "lightning", "sentence_transformers"]),
    ],
)
def test_a_command_imports_no_more_than_it_needs(command, heavy, tmp_path):
    (tmp_path / "bank").symlink_to(Path(__file__).parent / "golden" / "bank")
    (tmp_path / "facts").mkdir()
    (tmp_path / "facts" / "boat.jsonl").write_text('{"question": "Who mends the boat?", "answer": "Tilde"}\n')
    code = f"import sys; from lorary.__main__ import main; print(main({command}), {{*{heavy}}} & {{*sys.modules}})"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert said.stdout.splitlines()[-1] == "0 set()", said
