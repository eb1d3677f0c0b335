"""Routing on questions about documents: routers without training, a whole run on made-up files, and its figures."""

from __future__ import annotations

import json

import bm25s
import pytest
import torch

from lorary.__main__ import main
from lorary.bank.documents import Passage
from lorary.bank.facts import Fact
from lorary.research import routes as study
from lorary.research.fact_sets import bare_bank
from lorary.research.questions import Remembered
from lorary.research.route_draws import NEW, REWORDED, draw_questions
from lorary.research.route_files import read_question_file
from lorary.research.route_rivals import CENTROID, CENTROID_ELSE_ALL, NAMES, SUM, rivals, standardised
from lorary.research.routes import routes
from lorary.research.routes_report import figures_by_file
from lorary.research.routing_speed import routing_speed
from lorary.research.settings import StudyError
from lorary.router_training.settings import Training
from lorary.routing.index import FactIndex
from lorary.routing.lexicon import letter_grams


def test_routers_without_training(encoder, squad):
    draw = draw_questions(read_question_file(squad).topics, 0)
    bank = bare_bank(draw.facts, encoder, draw.documents)
    texts = [question.text for question in draw.asked]
    scores = {name: router(texts) for name, router in rivals(bank, encoder).items()}
    index = FactIndex(encoder.dimension)
    for memory in bank:
        index.add(memory.name, memory.keys, memory.key_facts)
    votes = index.votes(encoder.encode(texts), bank.names)
    torch.testing.assert_close(scores["index of questions"], votes, msg="it is the index that Lorary falls back on")
    passages = encoder.encode([memory.documents[0].text for memory in bank])
    torch.testing.assert_close(scores["embeddings, passages"], encoder.encode(texts) @ passages.T)
    best = torch.maximum(scores["index of questions"], scores["embeddings, passages"])
    assert torch.equal(scores["embeddings, questions and passages"], best)
    library = bm25s.BM25(k1=1.5, b=0.75, method="lucene")

    def words(texts):
        return [[str(number) for number in grams.tolist()] for grams in letter_grams(texts)]

    library.index(words([memory.documents[0].text for memory in bank]), show_progress=False)
    theirs = torch.stack([torch.tensor(library.get_scores(grams)) for grams in words(texts)])
    grams = scores["BM25, 4-grams of documents"]
    torch.testing.assert_close(standardised(grams), standardised(theirs), atol=1e-4, rtol=1e-4)
    parts = [standardised(scores[name]) for name in ("embeddings, passages", "BM25, 4-grams of documents")]
    assert torch.equal(scores[SUM], parts[0] + parts[1])
    assert torch.equal(scores[CENTROID], scores[CENTROID_ELSE_ALL])


def test_small_parts_of_routers_without_training(encoder):
    assert standardised(torch.tensor([[1.0, 3.0], [2.0, 2.0]])).tolist() == [[-1, 1], [0, 0]]
    bank = bare_bank([Fact("a", "Who?", "x"), Fact("b", "Where?", "y")], encoder, {"a": (Passage("It is here.", ""),)})
    found = rivals(bank, encoder)["embeddings, passages"](["Is it here?"])
    assert found[0, 0] > 0 == found[0, 1], "a memory without documents has no vote"


def test_a_whole_run(encoder, squad, authors, tmp_path, monkeypatch, capsys):
    once = Remembered(encoder.encode, encoder.dimension, encoder.name)
    monkeypatch.setattr(study, "load_encoder", lambda name: once)
    monkeypatch.setattr(study, "routing_speed", lambda quiet: routing_speed(3, 4, 2, 5, quiet=quiet))
    out = tmp_path / "out"
    command = ["research", "routes", str(squad), "--out", str(out), "--draws", "2", "--quiet"]
    assert main([*command, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["tables"]
    results = json.loads((out / "results.json").read_text())
    assert shown == results["tables"]
    assert sorted(results["runs"]) == [f"articles/{what}/{seed}" for what in ("known", "strangers") for seed in "01"]
    run = results["runs"]["articles/strangers/1"]
    assert run["counts"] == {
        "topics": 3,
        "passages": 3,
        "trained": 12,
        "validation": 3,
        "asked": 3,
        "strangers": 6,
        "met": 0,
    }
    for name, doings in run["routers"].items():
        assert [len(doings["best"][kind]) for kind in ("known", "strange", "unrelated")] == [3, 6, 82], name
    policy, gate = run["routers"]["policy"], run["routers"]["gate"]
    for right, routed in zip(policy["right"], policy["routed"]["known"], strict=True):
        assert right <= routed
    assert len(gate["hit"]) == len(gate["sure"]) == 9, "whether it knows a stranger for one is told too"
    centroid, rule = run["routers"][CENTROID], run["routers"][CENTROID_ELSE_ALL]
    sure = [int(score >= 0.75) for score in centroid["best"]["known"]]
    assert rule["routed"]["known"] == sure
    assert rule["right"] == [right * routed for right, routed in zip(centroid["right"], sure, strict=True)]
    report = (out / "report.md").read_text()
    assert "## articles, 4 topics, all known (2 draws)" in report
    assert "| router | top-1 (95 %) | AUROC (95 %) | strangers |" in report

    def never(*given):
        raise AssertionError("what stands is not measured again")

    with monkeypatch.context() as patched:
        patched.setattr(study, "_Run", never)
        assert main(command) == 0
    assert "gate's gain (95 %)" in capsys.readouterr().out
    more = routes([squad, authors], out, draws=1, speed=True, quiet=True)
    assert [*more["tables"]] == ["articles", "authors"], "another file joins"
    assert [*more["tables"]["articles"]["known"]] == [*NAMES], "in their order, though what was read again is sorted"
    assert more["runs"]["articles/known/0"] == results["runs"]["articles/known/0"]
    assert more["tables"]["authors"]["known"]["gate"]["reworded"]["value"] >= 0
    assert more["speed"]["median"] > 0
    assert "| gate | " in (out / "report.md").read_text()
    with pytest.raises(ValueError, match="with strangers None, not 2"):
        routes([squad], out, strangers=2, quiet=True)
    with pytest.raises(StudyError, match="two files are called 'articles'"):
        routes([squad, squad], out)
    changed = json.loads(squad.read_text())
    changed["data"].pop()
    squad.write_text(json.dumps(changed))
    with pytest.raises(ValueError, match=r"holds a run with articles '.*give another place"):
        routes([squad], out, quiet=True)


def test_a_gate_that_reads_something_else_is_another_study(encoder, squad, tmp_path, monkeypatch):
    seen = []

    class Run(study._Run):
        def measure(self):
            seen.append((self.training.seed, self.training.features, len(self.strangers.texts)))
            return {"routers": {}}

    monkeypatch.setattr(study, "_Run", Run)
    monkeypatch.setattr(study, "figures_by_file", lambda runs: {})
    training = Training(features=("embedding", "asked"))
    routes([squad], tmp_path / "out", draws=2, strangers=0, training=training, encoder=encoder, quiet=True)
    assert seen == [(0, ("embedding", "asked"), 0), (1, ("embedding", "asked"), 0)], "the seed is the draw's"
    with pytest.raises(ValueError, match="with features"):
        routes([squad], tmp_path / "out", encoder=encoder, quiet=True)


def test_figures_over_draws():
    asked = [["a", 0, NEW], ["a", 1, NEW], ["b", 0, NEW], ["a", 2, REWORDED]]
    best = {"known": [0.9, 0.8, 0.3, 0.9], "strange": [0.5, 0.1], "unrelated": [0.2, 0.2]}
    gate = {"right": [1, 1, 0, 1], "best": best, "sure": [1.0] * 6, "hit": [1, 1, 0, 1, 0, 0]}
    routed = {"known": [1, 1, 1, 0], "strange": [1, 0], "unrelated": [0, 0]}
    policy = {"right": [1, 0, 0, 0], "best": best, "routed": routed, "seconds": 2.0, "thresholds": {"t_gate": 0.5}}
    run = {"asked": asked, "strangers": [["c", 0], ["c", 1]], "routers": {"gate": gate, "policy": policy}}
    figures = figures_by_file({"x.y/strangers/0": run, "x.y/strangers/1": run})["x.y"]["strangers"]
    assert figures["gate"]["top1"]["value"] == pytest.approx(2 / 3), "of new questions"
    assert figures["gate"]["reworded"]["value"] == 1.0
    assert figures["gate"]["auroc"]["value"] == pytest.approx(5 / 6)
    assert figures["gate"]["ece"] == pytest.approx(0.5)
    assert figures["policy"]["gate_gain"]["value"] == pytest.approx(1 / 3)
    assert figures["policy"]["lost"]["value"] == 0.0
    assert figures["policy"]["wrong"] == pytest.approx(2 / 3, abs=1e-4)
    assert (figures["policy"]["strangers_routed"]["value"], figures["policy"]["unrelated_routed"]) == (0.5, 0.0)
    once = figures_by_file({"x.y/strangers/0": run})["x.y"]["strangers"]
    assert once["gate"]["top1"] == figures["gate"]["top1"], "the same questions drawn again make nothing surer"
