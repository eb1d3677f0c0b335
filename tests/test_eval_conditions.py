"""The routers that a run compares with the gate: nearest centroid, BM25, and the mean of the three best memories."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from lorary.bank.bank import MemoryBank
from lorary.bank.facts import Fact
from lorary.bank.merging import merged
from lorary.base.prompts import longest_answer, prompt
from lorary.eval import recall
from lorary.eval import results as stored
from lorary.eval.conditions import choose
from lorary.eval.deciders import BestAlike, ByWords, Centroid, Lookup
from lorary.eval.evaluated import Evaluated
from lorary.eval.questions import Question, held_out
from lorary.eval.routing_scores import RoutingScores
from lorary.eval.run import bank_of, looked_up
from lorary.model.composite import assemble

NEW = ("centroid", "lexicon", "top-three")


@pytest.fixture
def asked(composite):
    return held_out(composite.router.bank)[0]


def test_the_nearest_centroid_is_that_of_the_facts_embeddings(composite, encoder, asked):
    bank = composite.router.bank
    means = functional.normalize(torch.stack([encoder.encode(memory.wordings).mean(0) for memory in bank]), dim=-1)
    best = (encoder.encode([q.text for q in asked]) @ means.T).argmax(-1)
    given = Centroid().routes(asked, RoutingScores(composite), 0)
    assert [route.memories for route in given] == [(bank.names[number],) for number in best]
    assert {(route.weights, route.source) for route in given} == {((1.0,), "caller")}


def test_bm25_finds_a_name_that_one_memory_holds(composite, asked):
    given = ByWords().routes(asked, RoutingScores(composite), 0)
    named = [(q.memory, route) for q, route in zip(asked, given, strict=True) if q.memory in q.text.lower()]
    assert named
    assert all(route.memories == (memory,) for memory, route in named)


@pytest.mark.parametrize("granularity", ["query", "token"])
def test_the_three_best_weigh_alike(granularity, request, asked):
    model = request.getfixturevalue("composite" if granularity == "query" else "token_composite")
    given = BestAlike(3).routes(asked, RoutingScores(model), 0)
    gate = RoutingScores(model).of([q.text for q in asked])[0][:, :-1]
    for route, own in zip(given, gate, strict=True):
        assert {*route.memories} == {model.memories[number] for number in own.topk(3).indices}
        assert route.weights == (1 / 3,) * 3


def test_the_three_best_are_merged_for_each_question(alike, base, encoder, tmp_path, tokenizer):
    model = assemble(MemoryBank.load(alike[0]), base, encoder=encoder)
    four = replace(
        model.router.bank["ormen"], name="ormen-again", facts=(Fact("x", "Who founded Velka station?", "Ada"),)
    )
    tensors = {key: 2 * tensor for key, tensor in four.tensors.items()}
    model.add_memory(replace(four, tensors=tensors).with_keys(encoder))
    results = recall(
        model, out=tmp_path, conditions=("merged-three-ties",), parts=("questions", "retention"), quiet=True
    )
    assert "merged-three-ties" not in results["retention"]["damage"]
    asked, (_, predictions) = held_out(model.router.bank)[0], stored.read(tmp_path)
    told = predictions["merged-three-ties"]
    best = [frozenset(route.memories) for route in BestAlike(3).routes(asked, RoutingScores(model), 0)]
    made = [p.route.memories[0] for p in told]
    assert [frozenset(name.split("+")) for name in made] == best, "each by its own three"
    asked_again = recall(
        model, out=tmp_path / "again", conditions=("merged-three-ties",), parts=("questions",), quiet=True
    )
    assert asked_again["conditions"].keys() == {"merged-three-ties"}
    own = merged("own", [model.router.bank[name] for name in sorted(best[0])], "ties")
    with model.with_bank(bank_of(model, [own])) as other:
        ids = tokenizer(prompt(tokenizer, asked[0].text), return_tensors="pt", add_special_tokens=False).input_ids
        new = longest_answer(tokenizer, [q.answer for q in asked]) + 1
        said = other.generate(ids, adapter_names=["own"], max_new_tokens=new, do_sample=False)
    assert tokenizer.decode(said[0, ids.shape[1] :], skip_special_tokens=True).strip() == told[0].said


def test_where_the_gate_is_sure_of_none_the_base_answers(alike, base, encoder, tmp_path):
    model = assemble(MemoryBank.load(alike[0]), base, encoder=encoder)
    model.gate.recognition[:, 0] = -1e4
    asked = held_out(model.router.bank)[0]
    assert {route.memories for route in BestAlike(3).routes(asked, RoutingScores(model), 0)} == {()}
    conditions = ("base", "top-three", "merged-three-ties")
    recall(model, out=tmp_path, conditions=conditions, parts=("questions", "retention"), free_tokens=0, quiet=True)
    _, predictions = stored.read(tmp_path)
    said = {name: [p.said for p in told] for name, told in predictions.items()}
    assert said["base"] == said["top-three"] == said["merged-three-ties"]


def test_a_run_tells_them_beside_the_gate(composite, tmp_path):
    parts = ("questions", "retention")
    results = recall(composite, out=tmp_path, conditions=("policy", *NEW), parts=parts, quiet=True)
    _, predictions = stored.read(tmp_path)
    for name in ("centroid", "lexicon"):
        known = [p for p in predictions[name] if p.memory]
        right = sum(p.route.memories == (p.memory,) for p in known) / len(known)
        assert results["routing"][name]["top1"] == pytest.approx(right)
    assert {*NEW} <= results["retention"]["damage"].keys()


def trained(bank, file):
    """A file that asks every trained wording of a bank."""
    lines = [
        {"topic": f.topic, "question": w, "answer": f.answer, "trained": True}
        for memory in bank
        for f in memory.facts
        for w in (f.question, *f.questions)
    ]
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return file


def test_a_lookup_knows_every_trained_wording_and_asks_no_model(composite, tmp_path, monkeypatch):
    file = trained(composite.router.bank, tmp_path / "asked.jsonl")

    def refused(*_, **__):
        raise AssertionError("the model is asked")

    monkeypatch.setattr(composite.base, "forward", refused)
    results = recall(
        composite, out=tmp_path / "run", questions=file, conditions=("lookup",), parts=("questions",), quiet=True
    )
    own = results["conditions"]["lookup"]
    assert own["exact_match"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert own["questions"] == own["generated"] == sum(len(memory.wordings) for memory in composite.router.bank)
    assert results["routing"]["lookup"] == {"top1": 1.0, "top3": None, "together": None}
    _, predictions = stored.read(tmp_path / "run")
    for p in predictions["lookup"]:
        assert p.route is None
        assert p.probability is None
        assert (p.stored.memory, p.said) == (p.memory, p.answer)
        assert p.stored.similarity == pytest.approx(1.0, abs=1e-4)
    assert "lookup: no model; the stored answer" in (tmp_path / "run" / "report.md").read_text()


def test_a_lookup_gives_the_answer_of_the_nearest_wording(composite, encoder, asked):
    bank = composite.router.bank
    wordings = [(f, w) for memory in bank for f in memory.facts for w in (f.question, *f.questions)]
    keys = encoder.encode([w for _, w in wordings]).numpy()
    similarities = encoder.encode([q.text for q in asked]).numpy() @ keys.T
    answers = Lookup().answers(asked, RoutingScores(composite))
    for (answer, fact), row in zip(answers, similarities, strict=True):
        nearest = wordings[row.argmax()][0]
        assert (answer, fact.memory, fact.question) == (nearest.answer, nearest.topic, nearest.question)
        assert fact.similarity == pytest.approx(row.max(), abs=1e-4)


def test_a_lookup_of_what_cannot_be_read_or_without_facts_is_empty_and_wrong(composite):
    known = composite.router.bank["ormen"].facts[0]
    unreadable = [Question("", known.answer, "ormen", "it"), Question(known.question, known.answer, "ormen", "it")]
    first, second = looked_up("lookup", unreadable, Lookup(), RoutingScores(composite))
    assert (first.said, first.stored, first.exact_match, first.answered_by) == ("", None, 0.0, ())
    assert second.exact_match == 1.0
    for memory in composite.router.bank:
        object.__setattr__(memory, "facts", ())
        object.__setattr__(memory, "keys", memory.keys[:0])
        object.__setattr__(memory, "key_facts", ())
    composite.router._contents = None
    (none,) = looked_up("lookup", unreadable[1:], Lookup(), RoutingScores(composite))
    assert (none.said, none.stored, none.exact_match) == ("", None, 0.0)
    first = Evaluated(composite, "it", None, True).first
    assert not {"lookup", "index"} & {*first}
    assert "policy" in first


def test_damage_and_time_are_not_measured_of_a_lookup(composite, tmp_path):
    results = recall(composite, out=tmp_path, conditions=("lookup",), parts=("retention",), quiet=True)
    assert "lookup" not in results["retention"]["damage"]


def test_what_needs_facts_is_refused_without(composite, tmp_path):
    for memory in composite.router.bank:
        object.__setattr__(memory, "facts", ())
    with pytest.raises(ValueError, match="condition 'lexicon' needs facts to find memories by"):
        Evaluated(composite, "it", None, True).check(choose(["lexicon"], composite.memories))
    for name in ("top-three", "merged-three-ties"):
        with pytest.raises(ValueError, match=f"condition '{name}' needs a trained gate"):
            Evaluated(composite, "it", None, False).check(choose([name], composite.memories))
