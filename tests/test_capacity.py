"""The capacity study: its facts, its groups, and a whole run of two ranks on a pico base, stopped and gone on."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest
import torch

from lorary.__main__ import main
from lorary.bank.facts import group_by_topic
from lorary.base import rows as split_rows
from lorary.memories import groups, writing
from lorary.memories.capacity_study import read_capacity
from lorary.memories.rows import states_of
from lorary.memories.writing import Recipe, Written, write
from lorary.research.capacity import measure_capacity, packs, recipe_of, shown_again
from lorary.research.fact_sets import invented_facts
from lorary.research.settings import Grid
from lorary.resume import ResumeError

SMALL = Grid(ranks=(1, 4), loads=(2, 4), exposures=3, wordings=2)


def test_invented_facts_follow_from_their_seed_and_grow_by_the_end():
    facts = invented_facts(40, seed=3)
    assert facts == invented_facts(40, seed=3) != invented_facts(40, seed=4)
    assert facts[:10] == invented_facts(10, seed=3)
    group_by_topic(facts)  # which refuses one wording with two answers
    assert len({fact.answer for fact in facts}) == 40
    asked = [wording for fact in facts for wording in (*fact.trained, *fact.validation)]
    assert len(set(asked)) == len(asked) == 40 * 9, "no wording is trained on and unseen, or shared by two facts"
    assert {len(fact.trained) for fact in invented_facts(8, 0, wordings=3)} == {3}


def test_groups_hold_every_cell_once_and_as_many_facts_as_the_largest_load():
    grid = Grid(ranks=(2, 8), loads=(25, 50, 100, 200, 400), seeds=2)
    groups = packs(grid, set())
    cells = [cell for group in groups for cell in group]
    assert len(cells) == len(set(cells)) == 2 * 5 * 2
    for group in groups:
        assert len({rank for rank, _, _ in group}) == 1
        assert 350 <= sum(load for _, load, _ in group) <= 400
    stand = {cell for cell in cells if cell[1] != 100}
    assert packs(grid, stand) == [[(2, 100, 0), (2, 100, 1)], [(8, 100, 0), (8, 100, 1)]]
    assert packs(grid, set(cells)) == []


def test_a_study_makes_as_many_passes_whatever_the_load_and_tells_what_was_shown(base, monkeypatch):
    recipe = recipe_of(SMALL, 4)
    assert recipe.recall is None, "no memory stops early"
    assert recipe.lora_alpha / recipe.r == Recipe().lora_alpha / Recipe().r
    step = writing.step
    for load in (2, 8):
        for sure, least, most in ((0.0, 6, 6), (1.0, 2, 5)):  # two wordings in three passes; the first shows both
            shown = Counter()

            def counting(*given, shown=shown, sure=sure):
                shown.update(given[2])
                return dict.fromkeys(step(*given), sure)

            monkeypatch.setattr(writing, "step", counting)
            [made] = write(base, [invented_facts(load, 0, SMALL.wordings)], recipe, 1)
            assert (made.epochs, made.stopped) == (3, "cap")
            assert least * load <= made.shown == shown.total() <= most * load


def test_a_whole_run_goes_on_cell_by_cell(base, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "study"
    arguments = [
        "research",
        "capacity",
        "--out",
        str(folder),
        "--base",
        base.name,
        "--exposures",
        "3",
        "--wordings",
        "2",
        "--processes",
        "1",
        "--quiet",
    ]
    assert main([*arguments, "--ranks", "1", "--loads", "2", "4", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads((folder / "results.json").read_text())
    assert [(c["rank"], c["load"], c["seed"]) for c in told["cells"]] == [(1, 2, 0), (1, 4, 0)]
    assert (told["schema"], told["partial"], told["seeds"]) == (2, False, [0])
    assert told["configuration"]["exposures"] == 3

    written = []
    monkeypatch.setattr(groups, "write", lambda *given: written.append(given[1]) or write(*given))
    assert main([*arguments, "--ranks", "1", "4", "--loads", "2", "4"]) == 0
    assert [[len(facts) for facts in group] for group in written] == [[2], [4]], "what stands is not measured again"
    assert "| 4 | 4 |" in capsys.readouterr().out
    assert "| 4 | 4 |" in (folder / "report.md").read_text()
    assert (folder / "recall.png").read_bytes().startswith(b"\x89PNG")

    study = read_capacity(folder)
    one, four = study.points(1)[1], study.points(4)[1]
    assert four.parameters == 4 * one.parameters
    assert 4 * four.parameters < four.bytes < 4 * four.parameters + 4000, "fp32 and a header"
    assert (one.answer_tokens, one.row_tokens) == (four.answer_tokens, four.row_tokens)

    assert main([*arguments[:6], "--exposures", "5"]) == 2
    assert "holds a run with exposures 3, not 5" in capsys.readouterr().err


def test_two_processes_measure_what_one_measures(base, tmp_path):
    def told(processes):
        study = measure_capacity(tmp_path / str(processes), grid=SMALL, base=base.name, processes=processes, quiet=True)
        assert study.machine["processes"] == processes
        return [replace(cell, seconds=0.0, processor_seconds=0.0) for cell in study.cells]

    assert told(1) == told(2)


def test_a_stopped_run_is_partial_and_keeps_its_groups(base, tmp_path, monkeypatch):
    def stops(*given):
        if given[2].r == 4:
            raise KeyboardInterrupt
        return [Written({"layer": (torch_ones(1, 2), torch_ones(2, 1))}, 1.0, 0.5, 3, "cap") for _ in given[1]]

    torch_ones = torch.ones
    monkeypatch.setattr(groups, "write", stops)
    with pytest.raises(KeyboardInterrupt):
        measure_capacity(tmp_path, grid=SMALL, base=base, quiet=True)
    study = read_capacity(tmp_path)
    assert study.partial
    assert {cell.rank for cell in study.cells} == {1}
    assert "**Partial**" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--loads", "0", "5"], "loads must be positive"),
        (["--wordings", "9"], "wordings must be 1 to 8, 9 given"),
        (["--recall", "1.2"], "recall must be a share"),
    ],
)
def test_bad_settings_are_told(given, says, tmp_path, capsys):
    assert main(["research", "capacity", "--out", str(tmp_path), *given]) == 2
    assert says in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_lists_take_spaces(tmp_path, capsys):
    assert main(["research", "capacity", "--out", str(tmp_path), "--ranks", "2,4"]) == 2
    assert "argument --ranks: invalid int value: '2,4'" in capsys.readouterr().err


def test_a_report_of_somebody_else_is_not_overwritten(base, tmp_path):
    (tmp_path / "report.md").write_text("mine")
    with pytest.raises(ResumeError, match="would be overwritten"):
        measure_capacity(tmp_path, grid=SMALL, base=base, quiet=True)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("report.md", "mine")]


def test_what_is_no_study_is_refused(tmp_path):
    with pytest.raises(ResumeError, match="cannot be read"):
        read_capacity(tmp_path)
    for text, says in (
        ("{", "is not JSON"),
        ('{"study": "capacity", "schema": 9}', "has schema 9"),
        ('{"schema": 2}', "holds no results of this program"),
        ('{"schema": 2, "study": "capacity"}', "is not a whole capacity study"),
        ('{"schema": 2, "study": "wordings"}', "holds results of 'wordings', not of 'capacity'"),
    ):
        (tmp_path / "results.json").write_text(text)
        with pytest.raises(ResumeError, match=says):
            read_capacity(tmp_path)


def test_facts_that_groups_share_run_below_the_split_once(base, monkeypatch):
    facts = invented_facts(4, 0, SMALL.wordings)
    recipe = recipe_of(SMALL, 4)
    [plain] = write(base, [facts[:2]], recipe, 1)
    lower, ran = split_rows.lower, []
    monkeypatch.setattr(split_rows, "lower", lambda *given: (ran.append(len(given[2])), lower(*given))[1])
    known = states_of(base, facts, 1)
    rows_ = 4 * (SMALL.wordings + 1)  # and one that no fact trains on
    assert sum(ran) == len(known) == rows_
    [again] = write(base, [facts[:2]], recipe, 1, None, known)
    assert sum(ran) == rows_
    for path, pair in plain.factors.items():
        for one, other in zip(pair, again.factors[path], strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)
    assert shown_again(SMALL, packs(SMALL, set())) == invented_facts(4, 0, SMALL.wordings)
