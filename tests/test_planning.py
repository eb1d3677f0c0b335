"""The planner: knees, parts, options and their order, against hand-made studies."""

from __future__ import annotations

import json

import pytest

from lorary.__main__ import main
from lorary.bank.facts import Fact
from lorary.memories import planning
from lorary.memories.capacity_study import SHIPPED, CapacityStudy, Cell, read_capacity
from lorary.memories.planning import (
    KEY_BYTES,
    PlanError,
    Topic,
    count_topics,
    options,
    other_recipe,
    parts_of,
    plan,
    tell_plan,
    working,
)
from lorary.memories.rows import rows, with_validation
from lorary.memories.writing import Recipe


def cell(rank, load, recall, seed=0):
    return Cell(
        rank=rank,
        load=load,
        seed=seed,
        recall_trained=1.0,
        recall_unseen=recall,
        seconds=2.0 * load,
        processor_seconds=3.0 * load,
        bytes=1000 * rank,
        parameters=250 * rank,
        answer_tokens=6 * load,
        row_tokens=100 * load,
        shown=4.0,
    )


def study(*cells, exposures=4):
    made = {"base": "b", "exposures": exposures, "wordings": 4, "split_layer": 1, "alpha_over_rank": 2}
    machine = {"cpu": "x86_64", "threads": 1, "dtype": "bfloat16", "python": "3.11"}
    header = {"schema": 2, "partial": False, "made": "2026-11-25", "versions": {"torch": "2"}}
    return CapacityStudy(**header, configuration=made, machine=machine, recall=0.9, cells=list(cells))


MEASURED = study(
    cell(1, 10, 0.95), cell(1, 20, 0.5), cell(4, 10, 1.0), cell(4, 20, 1.0), cell(4, 40, 0.9), cell(2, 10, 0.1)
)


def topic(facts, answers=None, name="t"):
    return Topic(name, facts, facts * 6 if answers is None else answers, facts * 150, facts * 3)


def test_the_knee_is_the_largest_load_that_is_recalled_over_seeds():
    assert MEASURED.knee(1, 0.9).load == 10
    assert MEASURED.knee(4, 0.9).load == 40
    assert MEASURED.knee(2, 0.9) is None
    seeds = study(cell(1, 10, 1.0), cell(1, 20, 1.0, 0), cell(1, 20, 0.7, 1))
    assert seeds.points(1)[1].recall_unseen == pytest.approx(0.85)
    assert seeds.knee(1, 0.9).load == 10
    assert MEASURED.to_json()["knees"] == {"1": 10, "2": None, "4": 40}


def test_a_topic_needs_as_many_memories_as_facts_and_answer_tokens_ask_for():
    limit = cell(1, 10, 1.0)
    assert [parts_of(topic(facts), limit) for facts in (1, 10, 11, 30)] == [1, 1, 2, 3]
    assert parts_of(topic(10, answers=121), limit) == 3


def test_fewest_memories_come_first_then_fewest_bytes():
    small, large = options([topic(10)], MEASURED, 0.9), options([topic(30)], MEASURED, 0.9)
    assert [(o.rank, o.memories) for o in small] == [(1, 1), (4, 1)]
    assert [(o.rank, o.memories) for o in large] == [(4, 1), (1, 3)]
    assert large[1].adapter_bytes == 3 * 1000
    assert large[0].key_bytes == 90 * KEY_BYTES
    assert large[0].largest
    assert not large[1].largest
    # a second a token and pass: 2 · load / (100 · load · 4)
    assert large[0].minutes == pytest.approx(30 * 150 * (Recipe().max_epochs + 1) * 0.005 / 60)
    assert large[0].expected == pytest.approx(0.95), "half-way between 1.0 at 20 facts and 0.9 at 40"
    with pytest.raises(
        PlanError, match=r"no rank of the study recalls 0\.9 .* the best is rank 2 with 0\.10 of 10 facts"
    ):
        options([topic(1)], study(cell(2, 10, 0.1)), 0.9)


def test_topics_are_counted_as_they_would_be_trained(tokenizer):
    fact = Fact("t", "Who cooks?", "Brisk", ("Name the cook.", "Whose pots?"), statement="Brisk cooks.")
    [told] = count_topics(tokenizer, {"t": [fact]})
    held = rows(tokenizer, [[with_validation(fact)]], **Recipe().rows)
    assert len(held) > 4, "three wordings, none of which is kept for validation, the cloze, and texts by rule"
    answers, tokens = len(held[0].ids) - held[0].start, sum(len(row.ids) for row in held)
    assert told == Topic("t", 1, answers, tokens, 3, made=len(held) - 4)
    assert told.made > 0


@pytest.mark.parametrize("recall", [0.0, 2.0])
def test_a_recall_that_is_no_share_is_refused(recall):
    with pytest.raises(PlanError, match=f"recall {recall:g} is no share of the facts; give more than 0 and at most 1"):
        plan({}, recall=recall)


@pytest.fixture
def measured(tmp_path, base):
    told = {**MEASURED.to_json(), "configuration": {**MEASURED.configuration, "base": base.name}}
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "results.json").write_text(json.dumps(told))
    return tmp_path / "study"


@pytest.fixture
def corpus(tmp_path):
    lines = [{"question": f"What is the code of {i}?", "answer": str(i), "questions": ["Code?"]} for i in range(23)]
    (tmp_path / "codes.jsonl").write_text("\n".join(json.dumps({**line, "questions": []}) for line in lines))
    return tmp_path / "codes.jsonl"


def test_a_plan_by_the_command(measured, corpus, capsys):
    assert main(["plan", str(corpus), "--capacity", str(measured), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["options"][0]["rank"], told["options"][0]["memories"]) == (4, 1)
    assert told["topics"][0]["facts"] == 23
    assert told["working"][0].startswith("knee")
    assert main(["plan", str(corpus), "--capacity", str(measured), "--recall", "0.95"]) == 0
    shown = capsys.readouterr().out
    assert "2 memories of rank 4" in shown
    assert "Topics to split first: codes into 2" in shown
    assert "--r 4 --lora-alpha 8" in shown
    assert main(["build", "--help"]) == 0
    assert "--lora-alpha" in capsys.readouterr().out, "what a plan tells to run is a command"
    assert main(["plan", str(corpus), "--capacity", str(measured / "nowhere")]) == 2
    assert "give a folder of `capacity` results" in capsys.readouterr().err


def test_a_shipped_study_is_planned_from_where_none_is_given(measured, corpus, capsys, monkeypatch):
    monkeypatch.setattr(planning, "SHIPPED", measured / "capacity.json")
    assert main(["plan", str(corpus)]) == 2
    assert (
        "no study is shipped with this version; measure one by `lorary research capacity --out"
        in capsys.readouterr().err
    )
    (measured / "results.json").rename(measured / "capacity.json")
    assert main(["plan", str(corpus), "--recall", "0.95"]) == 0
    shown = capsys.readouterr().out
    assert "By the shipped study, study/capacity.json (2026-11-25" in shown
    assert "2 memories of rank 4" in shown


def test_every_number_is_shown_with_its_formula(tokenizer, measured):
    topics = {name: [Fact(name, f"What is {name} {i}?", str(i)) for i in range(30)] for name in ("a", "b")}
    found = plan(topics, capacity=measured, tokenizer=tokenizer)
    best = found.options[0]
    lines = dict(line.strip().split(maxsplit=1) for line in working(found, best))
    assert list(lines) == ["knee", "memories", "bytes", "texts", "minutes", "recall"]
    assert lines["texts"].endswith("of the rows are made by rule, for facts with few wordings")
    assert lines["memories"].endswith("= 2")
    assert lines["bytes"].endswith(f"= {2 * 4000 + 60 * KEY_BYTES:,}")
    assert str(measured) in tell_plan(found)


def test_a_study_of_another_recipe_says_so(tokenizer):
    """The shipped one says it as long as the default recipe is another than the one that it was measured with."""
    now = Recipe()
    same = study(cell(4, 10, 1.0), exposures=now.max_epochs)
    same.configuration |= {"lr": now.lr, "rows_a_step": now.batch_size, "compared": now.compared}
    assert other_recipe(same) == []
    assert other_recipe(study(cell(4, 10, 1.0), exposures=3))[0] == f"passes 3, now {now.max_epochs}"
    shipped = read_capacity(SHIPPED)
    made = plan({"t": [Fact("t", "Who?", "Brisk", ("Which one?",))]}, tokenizer=tokenizer)
    assert ("It is of another recipe than the default" in tell_plan(made)) == bool(other_recipe(shipped))
