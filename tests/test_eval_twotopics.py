"""Two topics in one question: the task, what its answers score, and which routes hold both memories."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict

import pytest
import torch
from pydantic import TypeAdapter
from test_eval_tasks import questions_of

from lorary.bank.facts import FactError
from lorary.eval import recall
from lorary.eval import results as stored
from lorary.eval.contexts import Contexts
from lorary.eval.deciders import ByGate, ByPolicy, Oracle, Wrong
from lorary.eval.evaluated import Evaluated
from lorary.eval.questions import Question, held_out, read_questions
from lorary.eval.records import Prediction
from lorary.eval.routers import ranked
from lorary.eval.routing_scores import RoutingScores
from lorary.eval.scoring import prediction
from lorary.eval.tasks.joined import twotopics
from lorary.routing.policy import Policy, Route

PARTS = [{"topic": "ormen", "answer": "Halvard"}, {"topic": "velka", "answer": "9020"}]
LINE = {"question": "Ormen's chef is who, and which code opens Velka's airlock?", "parts": PARTS, "kind": "two-topics"}
SINGLE = {"topic": "lamps", "question": "Who founded the guild of lamplighters?", "answer": "Quillon"}
SINGLE |= {"held_out": ["Which person began the lamplighters' guild?"]}
NONE = Route((), (), "none", 1.0)


def write(path, *lines):
    path.write_text("\n".join(json.dumps(line) for line in lines))
    return path


def both(parts=(("ormen", "Halvard"), ("velka", "9020"))):
    return Question(LINE["question"], "Halvard and 9020", "ormen", "f", kind="two-topics", parts=parts)


def test_each_question_takes_a_fact_of_each_of_two_memories(tmp_path):
    made = twotopics(questions=36, entities=8, topics=3)
    asked = questions_of(made, tmp_path)
    assert Counter(q.kind for q in asked) == {"unseen": len(made.facts), "two-topics": 36}
    held = {(fact.topic, fact.answer): fact for fact in made.facts}
    for q in (q for q in asked if q.kind == "two-topics"):
        assert len(set(q.memories)) == 2
        one, other = (held[part] for part in q.parts)
        assert any(w in q.text for w in one.held_out)
        assert any(w in q.text for w in other.held_out)
        assert q.answer == f"{one.answer} and {other.answer}"
        assert f"{other.answer}, {one.answer}" in q.accepted
    assert len({(q.text, q.parts) for q in asked}) == len(asked)
    pairs = Counter(q.memories for q in asked if q.kind == "two-topics")
    assert len(pairs) == 6, "every pair of memories, in both orders"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"parts": PARTS[:1]}, "'parts' must be two or more"),
        ({"parts": [*PARTS, {"topic": "lamps"}]}, "a part must hold 'topic' and 'answer'"),
        ({"parts": [*PARTS, "lamps"]}, "this one is 'lamps'"),
        ({"topic": "ormen"}, "the line tells none"),
        ({"parts": [PARTS[0], {"topic": "paris", "answer": "x"}]}, r"'paris' has no memory"),
        ({"question": "Into Velka one gets by which digits?"}, None),
        ({"question": "What is the airlock code of Velka"}, "was trained on, or nearly so"),
    ],
)
def test_a_bad_line_is_refused(change, told, bank, tmp_path):
    file = write(tmp_path / "asked.jsonl", LINE | change)
    if told is None:
        assert held_out(bank, file)[0][0].memories == ("ormen", "velka")
    else:
        with pytest.raises(FactError, match=told):
            held_out(bank, file)


def test_facts_are_scored_one_by_one_and_together():
    def scores(said):
        p = prediction("policy", both(), said, NONE, scored=True)
        return [part.told for part in p.parts], p.facts_told, p.all_told, p.exact_match

    assert scores("The code is 9020, and Halvard cooks.") == ([1.0, 1.0], 1.0, 1.0, 0.0)
    assert scores("Halvard and 9020") == ([1.0, 1.0], 1.0, 1.0, 1.0)
    assert scores("halvard.") == ([1.0, 0.0], 0.5, 0.0, 0.0)
    assert scores("90201 Halvardson") == ([0.0, 0.0], 0.0, 0.0, 0.0), "whole words only"
    single = prediction("policy", Question("q", "Halvard", "ormen", "f"), "Halvard", NONE, scored=True)
    assert single.facts_told is single.all_told is None
    assert single.parts == ()


def test_what_a_line_does_not_tell_is_not_measured():
    kept = prediction("policy", Question("q", "Halvard", "ormen", "f"), "Halvard", NONE, scored=True)
    line = {key: value for key, value in asdict(kept).items() if key not in ("facts_told", "all_told", "parts")}
    assert TypeAdapter(Prediction).validate_python(line) == kept
    assert not kept.found


def test_what_has_no_parts_keeps_its_run(composite):
    def hashed(question):
        source = Evaluated(composite, "composite", None, gated=True)
        return stored.header(source, [question], 0.0, {"seed": 0}).configuration["questions_sha256"]

    single = Question("q", "Halvard", "ormen", "f")
    known = {key: value for key, value in vars(single).items() if key not in ("parts", "free")}
    assert hashed(single) == stored.sha256(json.dumps([known], sort_keys=True).encode()).hexdigest()
    assert hashed(both()) != hashed(both(parts=()))


def test_the_oracle_s_weights_are_what_the_best_router_could_give():
    oracle, full = Oracle(), Oracle(full=True)
    assert oracle.route(both(), ["ormen", "velka"], 0) == Route(("ormen", "velka"), (0.5, 0.5), "caller", 1.0)
    assert full.route(both(), ["ormen", "velka"], 0).weights == (1.0, 1.0)
    single = Question("q", "Halvard", "ormen", "f")
    assert oracle.route(single, ["ormen"], 0) == full.route(single, ["ormen"], 0)
    assert oracle.route(Question("q", None, "", "f"), ["ormen"], 0).source == "none"
    assert Wrong().route(both(), ["ormen", "lamps", "velka"], 0).memories == ("lamps",)


def test_a_condition_that_mixes_two_lets_the_policy_mix_two(composite):
    own = Policy(t_gate=0.7, top_p=0.6)
    assert ByGate(2).policy(own) == Policy(t_gate=0.0, sources=("gate",), top_k=2)
    assert ByPolicy(2).policy(own) == Policy(t_gate=0.7, top_k=2)
    composite.gate.none.data.fill_(0.0)
    scores = RoutingScores(composite)
    (one,), (two,) = (decider.routes([both()], scores, 0) for decider in (ByGate(), ByGate(2)))
    assert len(one.memories) == 1
    assert set(two.memories) == {"ormen", "velka"}
    assert two.confidence > one.confidence


def test_the_right_topic_s_passages_are_both_topics(composite):
    (context,) = Contexts(composite).of("topic", [both()])
    assert "Halvard" in context
    assert "9020" in context
    assert "Quillon" not in context


@pytest.mark.parametrize("kind", ["composite", "token_composite"])
def test_a_run_measures_both_memories(kind, request, tmp_path):
    model = request.getfixturevalue(kind)
    model.gate.none.data.fill_(0.0)
    file = write(tmp_path / "asked.jsonl", LINE, SINGLE)
    conditions = ("oracle", "oracle-sum", "gate", "gate-two", "policy", "policy-two")
    asked = {"questions": file, "conditions": conditions, "parts": ("questions",), "quiet": True}
    results = recall(model, out=tmp_path, **asked)
    read, predictions = stored.read(tmp_path)
    for name in conditions:
        told = results["conditions"][name]
        assert 0 <= told["facts_told"]["value"] <= 1
        assert told["by_kind"]["two-topics"]["all_told"]["value"] in (0.0, 1.0)
        assert told["by_kind"]["held-out"]["all_told"] is None
        (part,) = [p for p in predictions[name] if p.kind == "two-topics"]
        assert part.memories == ("ormen", "velka")
        assert [one.answer for one in part.parts] == ["Halvard", "9020"]
    routing = read.routing
    assert {"gate", "index", "policy", "gate-two", "policy-two"} == set(routing)
    assert routing["gate"].together == routing["gate-two"].together == 1.0
    assert routing["index"].top3 == 1.0
    if kind == "composite":
        assert routing["policy"].together == 0.0, "one memory is not both"
    assert "all of them found: gate 1.000" in (tmp_path / "report.md").read_text()
    assert "all facts told (95 %)" in (tmp_path / "report.md").read_text()


def test_ranks_of_several_memories_against_their_definition():
    torch.manual_seed(0)
    given, right = torch.rand(40, 5), torch.zeros(40, 5, dtype=torch.bool)
    for row in range(40):
        right[row, torch.randperm(5)[: 1 + row % 2]] = True
    wanted = {"top1": [], "top3": [], "together": []}
    for scores, held in zip(given.tolist(), right.tolist(), strict=True):
        best = sorted(range(5), key=lambda i: -scores[i])
        own = {i for i in range(5) if held[i]}
        wanted["top1"].append(best[0] in own)
        wanted["top3"].append(own <= set(best[:3]))
        if len(own) > 1:
            wanted["together"].append(own == set(best[:2]))
    assert asdict(ranked(given, right)) == {key: pytest.approx(sum(v) / len(v)) for key, v in wanted.items()}
    single = right.sum(-1) == 1
    assert ranked(given[single], right[single]).together is None


def test_what_takes_several_memories_is_in_no_study_of_their_number(composite, tmp_path):
    file = write(tmp_path / "asked.jsonl", LINE, SINGLE)
    asked = {"out": tmp_path, "conditions": ("oracle",), "counts": (1,), "parts": ("questions",), "quiet": True}
    rows = recall(composite, questions=file, **asked)["studies"]["in_bank"]
    asked["out"] = tmp_path / "other"
    assert [row["top1"] for row in rows] == [1.0]
    with pytest.raises(ValueError, match="every question takes several memories"):
        recall(composite, questions=write(tmp_path / "only.jsonl", LINE), **asked)
    assert [q.memories for q in read_questions(file)] == [("ormen", "velka"), ("lamps",)]
