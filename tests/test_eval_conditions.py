"""The routers that a run compares with the gate: nearest centroid, BM25, and the mean of the three best memories."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from lorary.eval import recall
from lorary.eval import results as stored
from lorary.eval.conditions import choose, routes, scores
from lorary.eval.questions import held_out

NEW = ("centroid", "lexicon", "top-three")


@pytest.fixture
def asked(composite):
    return held_out(composite.router.bank)[0]


def test_the_nearest_centroid_is_that_of_the_facts_embeddings(composite, encoder, asked):
    bank = composite.router.bank
    means = functional.normalize(torch.stack([encoder.encode(memory.wordings).mean(0) for memory in bank]), dim=-1)
    best = (encoder.encode([q.text for q in asked]) @ means.T).argmax(-1)
    given = routes(composite, "centroid", asked, 0)
    assert [route.memories for route in given] == [(bank.names[number],) for number in best]
    assert {(route.weights, route.source) for route in given} == {((1.0,), "caller")}


def test_bm25_finds_a_name_that_one_memory_holds(composite, asked):
    given = routes(composite, "lexicon", asked, 0)
    named = [(q.memory, route) for q, route in zip(asked, given, strict=True) if q.memory in q.text.lower()]
    assert named
    assert all(route.memories == (memory,) for memory, route in named)


@pytest.mark.parametrize("granularity", ["query", "token"])
def test_the_three_best_weigh_alike(granularity, request, asked):
    model = request.getfixturevalue("composite" if granularity == "query" else "token_composite")
    given = routes(model, "mean:3", asked, 0)
    gate = scores(model, [q.text for q in asked])[0][:, :-1]
    for route, own in zip(given, gate, strict=True):
        assert {*route.memories} == {model.memories[number] for number in own.topk(3).indices}
        assert route.weights == (1 / 3,) * 3


def test_a_run_tells_them_beside_the_gate(composite, tmp_path):
    parts = ("questions", "retention")
    results = recall(composite, out=tmp_path, conditions=("policy", *NEW), parts=parts, quiet=True)
    _, predictions = stored.read(tmp_path)
    for name in ("centroid", "lexicon"):
        known = [p for p in predictions[name] if p["memory"]]
        right = sum(p["route"]["memories"] == [p["memory"]] for p in known) / len(known)
        assert results["routing"][name]["top1"] == pytest.approx(right)
    assert {f"perplexity_{name}" for name in NEW} <= results["retention"].keys()


def test_what_needs_facts_is_refused_without(composite, tmp_path):
    from lorary.eval.sources import Source

    for memory in composite.router.bank:
        object.__setattr__(memory, "facts", ())
    with pytest.raises(ValueError, match="condition 'lexicon' needs facts to find memories by"):
        Source(composite, "it", None, True).check(choose(["lexicon"], composite.memories))
    with pytest.raises(ValueError, match="condition 'top-three' needs a trained gate"):
        Source(composite, "it", None, False).check(choose(["top-three"], composite.memories))
