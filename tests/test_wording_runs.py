"""Runs of the study of wordings on a pico base: whole, by two processes, stopped and gone on, and refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from test_wordings import FACTS, SMALL

from lorary.__main__ import main
from lorary.memories import groups
from lorary.memories.writing import write
from lorary.research import wording_study as study_of
from lorary.research.wording_results import read_wordings, tell_wordings
from lorary.research.wording_study import measure_wordings
from lorary.resume import ResumeError


@pytest.fixture
def folder(tmp_path):
    lines = "".join(json.dumps(fact.to_json()) + "\n" for fact in FACTS)
    (tmp_path / "stations.jsonl").write_text(lines)
    return tmp_path


def test_a_whole_run_goes_on_row_by_row(base, folder, monkeypatch, capsys):
    out = folder / "study"
    arguments = [
        "research",
        "wordings",
        "--out",
        str(out),
        "--facts",
        str(folder / "stations.jsonl"),
        "--base",
        base.name,
    ]
    arguments += ["--texts", "3", "--exposures", "8", "--facts-a-topic", "2", "--processes", "1", "--quiet"]
    assert main([*arguments, "--counts", "1", "2", "--seeds", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads((out / "results.json").read_text())
    assert (told["schema"], told["study"], told["partial"], told["seeds"]) == (2, "wordings", False, [0])
    assert len(told["rows"]) == len(told["settings"]) == 12
    assert told["questions"] == [fact.question for fact in FACTS[:2]]
    assert set(told["written"]) == set(told["questions"])
    for row in told["rows"]:
        assert len(row["facts"]) == 2
        assert row["unseen"] == pytest.approx(sum(row["facts"]) / 2)
        assert (row["trained"] is None) == (row["setting"] == "statement alone")
        assert (row["exchanged"] is None) == (row["setting"] in ("statement alone", "cloze alone"))
    gains = {summary["setting"]["name"]: summary["gain"] for summary in told["summary"]}
    assert gains.pop("3 wordings") is None
    assert all(gain["low"] <= gain["value"] <= gain["high"] for gain in gains.values())
    assert (out / "recall.png").read_bytes().startswith(b"\x89PNG")

    written = []
    monkeypatch.setattr(groups, "write", lambda *given: written.append(given[2]) or write(*given))
    monkeypatch.setattr(study_of, "reword", lambda *_: pytest.fail("the base's wordings stand"))
    assert main([*arguments, "--counts", "1", "2", "4", "--seeds", "2"]) == 0
    assert sorted(recipe.seed for recipe in written) == [0, *[1] * 13], "what stands is not measured again"
    assert {recipe.visits * recipe.max_epochs for recipe in written} == {8}
    shown = capsys.readouterr().out
    assert "| 4 wordings | 4.0 |" in shown
    assert "the reference" in shown
    assert "| 4 wordings | 4.0 |" in (out / "report.md").read_text()

    before = (out / "results.json").read_bytes()
    assert main([*arguments, "--counts", "1", "--exposures", "12"]) == 2
    assert "holds a run with exposures 8, not 12" in capsys.readouterr().err
    assert main([*arguments, "--counts", "1", "--texts", "2"]) == 2
    assert "holds a run with reference '3 wordings', not '2 wordings'" in capsys.readouterr().err
    assert main(["research", "capacity", "--out", str(out), "--base", base.name, "--quiet"]) == 2
    assert "holds results of 'wordings', not of 'capacity'" in capsys.readouterr().err
    assert (out / "results.json").read_bytes() == before


def test_two_processes_measure_what_one_measures(base, folder):
    def told(processes):
        design = replace(SMALL, parts=("number", "format"), seeds=1)
        out, facts = folder / str(processes), [folder / "stations.jsonl"]
        study = measure_wordings(out, facts=facts, design=design, base=base.name, processes=processes, quiet=True)
        return [replace(row, seconds=0.0, processor_seconds=0.0) for row in study.rows]

    assert told(1) == told(2)


def test_a_stopped_run_is_partial_and_keeps_its_rows(base, folder, monkeypatch):
    count = iter(range(2))

    def stops(*given):
        if next(count, None) is None:
            raise KeyboardInterrupt
        return write(*given)

    monkeypatch.setattr(groups, "write", stops)
    with pytest.raises(KeyboardInterrupt):
        measure_wordings(
            folder / "out", facts=[folder], design=replace(SMALL, parts=("number",)), base=base, quiet=True
        )
    study = read_wordings(folder / "out")
    assert study.partial
    assert [row.setting for row in study.rows] == ["1 wording", "2 wordings"]
    assert [summary.gain for summary in study.summaries()] == [None, None], "the reference is not measured yet"
    assert "**Partial**" in (folder / "out" / "report.md").read_text()
    study.rows = [replace(row, validation=None) for row in study.rows]
    assert [summary.validation for summary in study.summaries()] == [None, None], "what was not asked has no figure"
    assert "| 1 wording | 1.0 | 0.000 | – | 0.000 (" in tell_wordings(study)
    other = replace(study.settings[0], thinned=1)
    with pytest.raises(ResumeError, match="give another folder, or the same settings"):
        study.add_settings([other], "here")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--parts", "number", "size"], "parts must be some of ['number', 'format', 'generator', 'rules']"),
        (["--exposures", "10"], "exposures must be a multiple of 4, 10 given"),
        (["--texts", "1"], "texts must be 2 or more"),
        (["--counts", "1", "5", "--texts", "2"], "has 6; give --counts and --texts up to 4, or more wordings"),
    ],
)
def test_bad_settings_are_told_before_anything_is_loaded(given, says, folder, capsys):
    out = folder / "out"
    facts = str(folder / "stations.jsonl")
    assert main(["research", "wordings", "--out", str(out), "--base", "no-such-base", "--facts", facts, *given]) == 2
    assert says in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("lacks", "says"),
    [({"held_out": []}, "has no held-out wording"), ({"statement": None}, "has no statement that tells its answer")],
)
def test_facts_that_lack_what_a_setting_needs_are_told(lacks, says, folder, capsys):
    given = {**FACTS[0].to_json(), **lacks}
    (folder / "stations.jsonl").write_text(json.dumps({k: v for k, v in given.items() if v}))
    arguments = ["research", "wordings", "--out", str(folder / "out"), "--facts", str(folder / "stations.jsonl")]
    assert main([*arguments, "--base", "no-such-base", "--counts", "1", "--texts", "2"]) == 2
    assert says in capsys.readouterr().err
