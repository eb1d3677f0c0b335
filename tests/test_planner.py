"""The plan of a build: counts against the rows that are written, minutes by this machine's speed, passes by a budget."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace

import pytest
from test_wordings import FACTS, fact

from lorary.__main__ import main
from lorary.bank.bank import MemoryBank
from lorary.errors import LoraryError
from lorary.memories.building import build
from lorary.memories.planner import BudgetError, Planner
from lorary.memories.recipe import QUICK, Recipe
from lorary.memories.rows import kept_for_validation
from lorary.memories.work import (
    Speed,
    Work,
    _Clock,
    bytes_of,
    counted_minutes,
    seconds_of,
    speed_of,
    tell_work,
    work_of,
)
from lorary.memories.writing import Writer, write

MEMORIES = [kept_for_validation([replace(fact, topic=name) for fact in FACTS], 2) for name in ("a", "b")]
WORK = Work(facts=1, texts=1, below=100, shown=1000, asked=10, step=1)


def fixed(base, recipe, seconds_a_token=0.01, processes=1, loading=0.0):
    planner = Planner(base, recipe, 1, processes, loading)
    planner.speed = Speed(below=0.0, step=seconds_a_token, asked=0.0)
    return planner


def test_the_work_is_that_of_the_rows(base):
    recipe = Recipe(max_epochs=3, texts_a_pass=2, recall=None)
    facts = kept_for_validation([fact(f"Place{number}", f"Answer{number}") for number in range(48)], 2)
    work, writer = work_of(base, [facts], recipe), Writer(base, [facts], recipe, 1)
    trained, kept = writer.train_rows.rows, writer.validation_rows.rows
    assert (work.facts, work.texts) == (48, len(trained) + len(kept))
    assert work.below == sum(len(row.ids) - 1 for row in (*trained, *kept))
    mean = sum(len(row.ids) - 1 for row in trained) / len(trained)
    assert work.shown == pytest.approx(48 * 2 * 3 * mean, rel=0.01)
    assert sum(made.shown for made in write(base, [facts], recipe, 1)) == 48 * 2 * 3
    assert work.step == 3, "some thirty steps a pass of 96 texts"
    few = work_of(base, MEMORIES, recipe)
    rows_of_few = Writer(base, MEMORIES, recipe, 1).train_rows.rows
    assert few.shown > 2 * 6 * 3 * sum(len(row.ids) - 1 for row in rows_of_few) / len(rows_of_few), (
        "few facts show more"
    )


def test_asked_are_the_texts_that_certificates_count(base, monkeypatch):
    """Against what a writer asks: of a fact with many wordings some alone, and of one without validation its trained ones."""
    many = [fact(f"Place{number}", f"Answer{number}") for number in range(3)]
    many = [replace(own, questions=tuple(f"{own.question} {n}" for n in range(12))) for own in many]
    asked, recalled = list[int](), Writer.recalled

    def noted(writer, store, wanted):
        asked.extend(len(store.rows[i].ids) - 1 for i in wanted)
        return recalled(writer, store, wanted)

    monkeypatch.setattr(Writer, "recalled", noted)
    for kept in (2, 0):
        facts, recipe = kept_for_validation(many, kept), Recipe(max_epochs=1)
        asked.clear()
        write(base, [facts], recipe, 1)
        work = work_of(base, [facts], recipe)
        assert work.asked == sum(asked) < work.below
        again = work_of(base, [facts], replace(recipe, max_epochs=8)).asked
        assert again > 2 * work.asked if not kept else again > work.asked


def test_waiting_for_others_is_no_slowness_and_is_told():
    clock = _Clock(on_processor=True)
    waited = clock.median(lambda: time.sleep(0.02))
    assert waited < 0.01
    assert clock.waiting > 2
    assert _Clock(on_processor=False).median(lambda: time.sleep(0.02)) >= 0.02
    free, busy = (Speed(below=1.0, step=1.0, asked=1.0, waiting=waiting) for waiting in (1.1, 2.0))
    assert tell_work([WORK], 0, 180.0, 8, free).endswith("about 3.0 minutes, 0.0 MB")
    told = tell_work([WORK], 0, 180.0, 8, busy)
    assert told.endswith(
        "about 3.0 minutes, 0.0 MB; this machine is busy with other work, and if it stays so, about 6.0 minutes"
    )


def test_texts_that_were_shown_often_are_expected_less_often(base):
    many = work_of(base, MEMORIES, Recipe(max_epochs=12)).shown
    few = work_of(base, MEMORIES, Recipe(max_epochs=6)).shown
    assert few < many < 2 * few


def test_groups_go_to_the_process_that_is_free():
    speed = Speed(below=0.01, step=0.001, asked=0.1)
    assert seconds_of([WORK], speed, 1) == pytest.approx(3.0)
    assert seconds_of([WORK] * 3, speed, 2, loading=5.0) == pytest.approx(5 + 2 * 3 * 1.25), (
        "side by side each is slower"
    )


def test_this_machine_is_measured_and_writing_stays_what_it_is(base):
    recipe = Recipe(max_epochs=1)
    [before, _] = write(base, MEMORIES, recipe, 1)
    speed = speed_of(base, MEMORIES, recipe, 1)
    assert min(speed.below, speed.step, speed.asked) > 0
    [after, _] = write(base, MEMORIES, recipe, 1)
    assert all(
        a.equal(c) and b.equal(d)
        for (a, b), (c, d) in zip(before.factors.values(), after.factors.values(), strict=True)
    )


def test_a_budget_takes_as_many_passes_as_fit_or_says_what_would(base):
    recipe = Recipe(max_epochs=6, recall=None)
    seconds = [
        fixed(base, replace(recipe, max_epochs=n)).seconds(MEMORIES, replace(recipe, max_epochs=n))[0]
        for n in (2, 4, 6)
    ]
    assert fixed(base, recipe).within(1.001 * seconds[1] / 60, MEMORIES) == replace(recipe, max_epochs=4)
    assert fixed(base, recipe).within(1000.0, MEMORIES) == recipe
    busy = fixed(base, recipe)
    busy.speed = replace(busy.speed, waiting=1.5)
    assert busy.within(1.5 * 1.001 * seconds[1] / 60, MEMORIES) == replace(recipe, max_epochs=4)
    with pytest.raises(BudgetError, match=r"2 passes over them take about .* give [\d.]+ minutes or more"):
        fixed(base, recipe).within(0.9 * seconds[0] / 60, MEMORIES)
    assert (counted_minutes(1.5), counted_minutes(2.04)) == ("90 seconds", "2.0 minutes")


def test_build_tells_its_plan_and_keeps_its_budget(base, tmp_path, capsys):
    (tmp_path / "stations.jsonl").write_text("".join(json.dumps(fact.to_json()) + "\n" for fact in FACTS))
    command = ["build", str(tmp_path / "stations.jsonl"), "--base", base.name, "--max-epochs", "3"]
    assert main([*command, "--out", str(tmp_path / "bank")]) == 0
    told = capsys.readouterr().err
    assert "plan: 3 facts, 21 texts, " in told
    assert " in 3 passes at most: about " in told
    assert main([*command, "--out", str(tmp_path / "bank")]) == 0
    assert "plan:" not in capsys.readouterr().err, "nothing is left to write"
    assert main([*command, "--out", str(tmp_path / "other"), "--budget", "1e-9"]) == 2
    assert "--budget 1e-09 is too short for these facts" in capsys.readouterr().err
    assert not (tmp_path / "other" / "bank.json").exists()
    bank = build([tmp_path / "stations.jsonl"], out=tmp_path / "other", base=base, budget=60.0, quiet=True)
    held = sum(file.stat().st_size for file in (tmp_path / "other").rglob("*.safetensors"))
    assert held == pytest.approx(bytes_of(base, [kept_for_validation(FACTS, None)], Recipe(), 1), rel=0.3)
    assert bank["stations"].card["recipe"]["max_epochs"] == Recipe().max_epochs


def test_a_budget_is_not_for_a_cluster(base, tmp_path):
    (tmp_path / "stations.jsonl").write_text(json.dumps(FACTS[0].to_json()) + "\n")
    with pytest.raises(LoraryError, match="give budget or cluster"):
        build([tmp_path / "stations.jsonl"], out=tmp_path / "bank", base=base, budget=1.0, cluster="tcp://127.0.0.1:1")


def test_a_quick_build_is_the_quick_recipe_but_for_what_is_given(base, tmp_path):
    (tmp_path / "ones.jsonl").write_text(json.dumps({"question": "Who cooks?", "answer": "Brisk"}) + "\n")
    command = ["build", str(tmp_path / "ones.jsonl"), "--base", base.name, "--quiet", "--out"]
    given = {"max_epochs": 1, "split_layer": 1}
    for options, changed in (([], {}), (["--quick"], QUICK)):
        out = tmp_path / f"bank{len(options)}"
        assert main([*command, str(out), *options, "--max-epochs", "1", "--split-layer", "1"]) == 0
        recipe = MemoryBank.load(out)["ones"].card["recipe"]
        assert {name: recipe[name] for name in asdict(Recipe())} == json.loads(
            json.dumps(asdict(Recipe(**{**changed, **given})))
        )
