"""The routing benchmark: its sets, its measures, and a whole run on a set of six facts."""

from __future__ import annotations

import json
import re

import pytest
import torch

from lorary.__main__ import main
from lorary.bank.facts import Fact, group_by_topic, read_facts
from lorary.base.layers import fingerprint
from lorary.research import route_bench as benchmark
from lorary.research.fact_sets import _BOOK, JOINS, SETS, relations
from lorary.research.measures import routing_milliseconds
from lorary.research.questions import Remembered, general_questions, hidden_states
from lorary.research.route_bench import route_bench
from lorary.research.route_bench_report import best_features, figures_by_set
from lorary.router_training.data import read_questions
from lorary.router_training.settings import Training


@pytest.mark.parametrize("name", list(SETS))
def test_a_set_follows_from_its_seed_and_holds_wordings_out(name):
    facts = SETS[name](1)
    assert facts == SETS[name](1) != SETS[name](2)
    topics = group_by_topic(facts)  # which refuses a held-out wording that is trained on elsewhere
    assert len([topic for topic in topics if topic != JOINS]) == 16
    for fact in facts:
        assert fact.held_out
        assert not set(fact.trained) & {*fact.held_out, *fact.validation}
    if name != "phone-book":
        assert {len(held) for held in topics.values()} == {48}
        assert {(len(f.trained), len(f.validation), len(f.held_out)) for f in facts} == {(5, 2, 2)}


def test_held_out_wordings_are_the_same_relations_last_two_for_every_seed():
    templates = {wording for relation in relations() for wording in relation.wordings[-2:]}
    for seed in range(3):
        for fact in SETS["overlapping"](seed):
            assert {re.sub(r"[A-Z]\w+ [A-Z]\w+", "{who}", held) for held in fact.held_out} <= templates
    assert not {*general_questions()} & {*read_questions()}, "the benchmark's unrelated questions are its own"


@pytest.mark.parametrize("name", list(SETS))
def test_a_fold_leaves_out_other_wordings_and_never_meets_those_held_out(name):
    templates = _BOOK[-1:] if name == "phone-book" else [w for r in relations() for w in r.wordings[-2:]]
    held_out = re.compile("|".join(re.escape(template).replace(r"\{who\}", ".+") for template in templates))
    whole, fold = SETS[name](1), SETS[name](1, 0)
    assert all(held_out.fullmatch(wording) for fact in whole for wording in fact.held_out)
    for fact in fold:
        asked = {*fact.trained, *fact.validation, *fact.held_out}
        assert not any(map(held_out.fullmatch, asked))
        assert not set(fact.trained) & {*fact.held_out, *fact.validation}
    assert {len(fact.held_out) for fact in fold} == {len(fact.held_out) for fact in whole}
    assert fold == SETS[name](1, 0) != SETS[name](1, 1), "what is left out follows from the fold"


FACTS = [
    Fact(
        topic,
        f"Who cooks at {name}?",
        "1",
        (f"Name the cook of {name}.", f"{name}'s chef?"),
        (f"Who makes dinner at {name}?",),
        validation=(f"{name}'s chef?",) if topic != JOINS else (),
    )
    for topic, name in (("ormen", "Ormen"), ("velka", "Velka"), (JOINS, "Household"))
]


def test_a_whole_run(encoder, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(SETS, "overlapping", lambda seed, fold: FACTS)
    monkeypatch.setattr(benchmark, "routing_milliseconds", lambda: routing_milliseconds(3, 4, 2))
    monkeypatch.setattr(benchmark, "Training", lambda: Training(max_epochs=1))
    monkeypatch.setattr(benchmark, "COMBINATIONS", (("asked", "names"), ("embedding",)))
    arguments = ["research", "route-bench", "--out", str(tmp_path), "--seeds", "2", "--sets", "overlapping"]
    assert main([*arguments, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    results = json.loads((tmp_path / "results.json").read_text())
    assert printed == results["sets"]
    told = results["sets"]["overlapping"]
    assert list(told["gate: asked + names"]["joining"]) == ["others_after", "others_before", "own"]
    assert told["gate: asked + names"]["joining"]["own"] == 1.0
    assert told["BM25"]["top1"]["value"] == 1.0
    assert results["settings"]["unknown_names"] is True
    assert 0 <= told["gate: asked + names"]["policy"]["unknown_names_routed"] <= 1
    assert "unknown names routed" in (tmp_path / "report.md").read_text()
    assert len(told["index, best fact"]["seeds"]) == 2
    assert set(best_features(results["sets"])) == {"gate: asked + names", "gate: embedding"}
    assert "| gate: asked + names |" in (tmp_path / "report.md").read_text()
    assert set(results["runs"]) == {"overlapping/0", "overlapping/1"}
    assert main([*arguments[:4], "--seeds=1", "--first-seed=1", "--sets", "overlapping"]) == 0
    assert set(json.loads((tmp_path / "results.json").read_text())["runs"]) == set(results["runs"]), "it stood there"
    before = (tmp_path / "results.json").stat().st_mtime_ns
    monkeypatch.setattr(benchmark, "_Run", None)  # what stands is not measured again
    assert main(arguments) == 0
    assert (tmp_path / "results.json").stat().st_mtime_ns > before
    other = ["--no-unknown-names"]
    monkeypatch.setattr("lorary.research.route_bench.route_bench", lambda out, **given: given | {"sets": {}})
    monkeypatch.setattr("lorary.research.route_bench_report.tell_routing", lambda given: str(given["training"]))
    assert main([*arguments, *other]) == 0
    assert "unknown_names=False" in capsys.readouterr().out
    with pytest.raises(ValueError, match="unknown set 'x'"):
        route_bench(tmp_path, sets=["x"])


def test_gates_that_read_the_hidden_state_stand_in_the_table_where_there_is_a_base(
    base, encoder, tmp_path, monkeypatch
):
    monkeypatch.setitem(SETS, "overlapping", lambda seed, fold: FACTS)
    monkeypatch.setattr(benchmark, "routing_milliseconds", lambda: routing_milliseconds(3, 4, 2))
    monkeypatch.setattr(benchmark, "COMBINATIONS", (("embedding",),))
    once = Remembered(encoder.encode, encoder.dimension, encoder.name)  # four runs meet the same sentences
    given = {"seeds": 1, "sets": ["overlapping"], "training": Training(max_epochs=1), "encoder": once}
    alone, beside = route_bench(tmp_path / "alone", **given), route_bench(tmp_path / "beside", **given, base=base)
    tables = [told["sets"]["overlapping"] for told in (alone, beside)]
    added = ["gate: hidden", "gate: embedding + hidden", "gate: embedding + asked + names + hidden"]
    assert [*tables[1]] == [*tables[0], *added]
    same = ("top1", "auroc", "ece", "policy")
    plain = tables[0]["gate: embedding"]
    assert all(tables[1]["gate: embedding"][name] == plain[name] for name in same), "what reads none is as it was"
    run = beside["runs"]["overlapping/0"]["routers"]
    assert run["gate: embedding + hidden"]["ece"] != run["gate: embedding"]["ece"], "the hidden state was read"
    assert beside["settings"] == alone["settings"] | {"base": base.name, "fingerprint": fingerprint(base.model)}
    before = (tmp_path / "alone" / "results.json").read_bytes()
    with pytest.raises(ValueError, match=r"with base None, not .*give another place"):
        route_bench(tmp_path / "alone", **given, base=base)
    assert (tmp_path / "alone" / "results.json").read_bytes() == before, "what was measured stays"
    folds = route_bench(tmp_path / "alone", **given, folds=[4, 5])
    assert [*folds["runs"]] == ["overlapping/0", "overlapping, folds/0/4", "overlapping, folds/0/5"]
    assert [*folds["sets"]] == ["overlapping", "overlapping, folds"], "told apart from held-out wordings"
    report = (tmp_path / "alone" / "report.md").read_text()
    assert "## overlapping, folds (2 runs)" in report
    assert "Gates by mean top-1 on left-out wordings: gate: embedding" in report
    place = tmp_path / "alone" / "results.json"
    earlier = json.loads(place.read_text())
    place.write_text(json.dumps(earlier | {"schema": 2}))
    with pytest.raises(ValueError, match="has schema 2 and this version reads 3"):
        route_bench(tmp_path / "alone", **given)


def test_folds_of_a_seed_ask_the_same_facts():
    right = [1, 0, 1, 1, 0, 1, 1, 0]
    run = {"facts": [f"a/{i}" for i in range(8)], "parts": ["a"] * 8, "routers": {"index": {"right": right}}}
    once, twice = (figures_by_set({f"x, folds/3/{fold}": run for fold in folds}) for folds in ([1], [1, 2]))
    assert once["x, folds"]["index"]["top1"] == twice["x, folds"]["index"]["top1"], "asked twice, no surer"
    seeds = figures_by_set({f"x/{seed}": run for seed in (1, 2)})["x"]["index"]["top1"]
    assert seeds["low"] > once["x, folds"]["index"]["top1"]["low"], "facts of another seed are others"


def test_hidden_states_are_those_that_a_composite_reads(base, monkeypatch):
    from lorary.base.prompts import prompt

    monkeypatch.setattr("lorary.routing.pooling._AT_ONCE", 2)
    texts = [
        "who keeps the lamp",
        "the code",
        "who keeps the code",
        "the lamp",
        "who is the lamp",
        "what keeps the lamp",
    ]
    found = hidden_states(base).encode([*texts, texts[0]])
    assert torch.equal(found[0], found[-1])
    for row, text in zip(found, texts, strict=False):
        ids = base.tokenizer(prompt(base.tokenizer, text), return_tensors="pt", add_special_tokens=False).input_ids
        states = base.model(ids, output_hidden_states=True).hidden_states[1][0, 1:]
        torch.testing.assert_close(row, torch.nn.functional.normalize(states, dim=-1).mean(0))
    assert hidden_states(None).encode(texts).shape == (6, 0)


def test_a_set_s_facts_are_written_to_build_a_bank_of(tmp_path, capsys):
    out, other = tmp_path / "facts.jsonl", tmp_path / "other.jsonl"
    assert (
        main(["research", "route-facts", "overlapping", "--out", str(out), "--facts-a-topic", "3", "--seed", "1"]) == 0
    )
    assert "48 facts of 16 topics" in capsys.readouterr().out
    facts = list(read_facts(out))
    assert {len(held) for held in group_by_topic(facts).values()} == {3}
    assert JOINS not in {fact.topic for fact in facts}
    assert set(facts) <= set(SETS["overlapping"](1)), "with the wordings held out and kept for validation"
    assert main(["research", "route-facts", "overlapping", "--out", str(other), "--facts-a-topic", "3"]) == 0
    assert out.read_text() != other.read_text()
    before = other.read_bytes()
    assert main(["research", "route-facts", "overlapping", "--out", str(other), "--facts-a-topic", "3"]) == 0, (
        "it stands there"
    )
    assert main(["research", "route-facts", "overlapping", "--out", str(other), "--facts-a-topic", "2"]) == 2
    assert "holds something else" in capsys.readouterr().err
    assert other.read_bytes() == before
    assert main(["research", "route-facts", "separable", "--out", str(other), "--facts-a-topic", "0"]) == 2
    assert "give 1 to 48" in capsys.readouterr().err
