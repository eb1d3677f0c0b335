"""A gate study: its measures against the plain ones, its report, and a whole run on a bank on disk with X-LoRA beside it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from lorary.__main__ import main
from lorary.bank.files import BankError
from lorary.bank.memory import Memory
from lorary.research import gate_study as study
from lorary.research.gate_study import gate_study
from lorary.research.gate_study_report import figures_by_router, tell_gates
from lorary.research.measures import rival_run
from lorary.router_training.settings import Training
from lorary.routing.encoder import load_encoder


@pytest.fixture
def study_bank(bank, tmp_path):
    """The bank on disk, with the second wording of each fact kept for validation."""
    for name, memory in bank.memories.items():
        facts = tuple(replace(fact, validation=fact.questions[:1]) for fact in memory.facts)
        bank.memories[name] = replace(memory, facts=facts).with_keys(load_encoder(bank.encoder))
    return bank.save(tmp_path / "bank")


def test_a_rival_is_calibrated_and_routes_everything():
    right = torch.tensor([0, 1, 2, 0])
    scores = torch.nn.functional.one_hot(right, 3) * 0.1 + 0.3  # right, and hardly sure
    scores = {kind: scores / scores.sum(-1, keepdim=True) for kind in ("validation", "held_out", "unrelated")}
    memory = {"validation": right, "held_out": right, "unrelated": torch.full((4,), 3)}
    run = rival_run(scores, memory, shares=True)
    assert run["right"] == run["validation_right"] == [1, 1, 1, 1]
    assert run["ece_before"] == pytest.approx(0.6, abs=0.01)
    assert 1 - min(run["sure"]) < 0.5, "the temperature made it surer"
    assert (run["unrelated_routed"], "policy_right" in run) == (1.0, False)


def results_of(runs):
    facts = {"validation": ["a", "b"], "held_out": ["a", "a", "b", "c"], "unrelated": ["u", "v"]}
    return {
        "runs": runs,
        "rivals": {},
        "facts": facts,
        "settings": {"max_epochs": 1, "batch_size": 2},
        "counts": dict.fromkeys(("memories", "facts", "trained", "validation", "held_out", "unrelated"), 2),
        "seeds": 2,
        "base": "base",
    }


def run_of(right, seconds=1.0):
    shared = {"validation_right": [1, 1], "confidence": [0.9, 0.8, 0.4, 0.7], "unrelated": [0.5, 0.1]}
    sure = {"sure": [0.9, 0.8, 0.6, 0.7], "hit": right, "ece_before": 0.2, "unrelated_routed": 0.5}
    return {"right": right, "policy_right": right, "seconds": seconds, **shared, **sure}


def test_differences_are_paired_over_facts_and_mean_over_seeds():
    runs = {"labels/0": run_of([1, 1, 0, 1]), "labels/1": run_of([1, 1, 0, 0]), "both/0": run_of([1, 1, 1, 1])}
    results = results_of(runs)
    routers, differences = figures_by_router(results)
    assert routers["labels"]["top1"]["value"] == pytest.approx(5 / 8)
    assert routers["labels"]["top1"]["seeds"] == [0.75, 0.5]
    assert routers["labels"]["auroc"]["value"] == pytest.approx(7 / 8)
    gain = differences["labels → both"]["top1"]
    assert gain["value"] == pytest.approx(3 / 8)
    assert gain["low"] >= 0, "no resample of facts can make it worse"
    text = tell_gates(results | {"routers": routers, "differences": differences})
    assert "| gate: labels alone | 0.6250 (" in text
    assert "| gate: labels alone → gate: labels and language-model loss | " in text


def test_a_whole_study_goes_on_where_it_stopped(study_bank, tmp_path, capsys, monkeypatch):
    place = tmp_path / "study"
    given = ["--max-epochs", "1", "--batch-size", "8", "--quiet", "--json"]
    command = ["research", "gate-study", str(study_bank), "--out", str(place)]
    assert main([*command, "--seeds", "1", "--rivals", "--arms", "labels", "both", *given]) == 0
    first = json.loads((place / "results.json").read_text())
    assert set(first["runs"]) == {"labels/0", "both/0", "index/0"}
    capsys.readouterr()
    fit, fitted = study.fit, []

    def learn(router, data, training, *args, **kwargs):
        fitted.append((training, data.trained.target is not None and data.validation.target is not None))
        return fit(router, data, training, *args, **kwargs)

    monkeypatch.setattr(study, "fit", learn)
    assert main([*command, "--seeds", "1", *given]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [(one.route_weight, one.language_weight, soft) for one, soft in fitted] == [
        (0.0, 1.0, False),
        (1.0, 0.0, True),
    ]
    results = json.loads((place / "results.json").read_text())
    assert {key: results["runs"][key] for key in first["runs"]} == first["runs"], "what stands is kept"
    assert results["losses_seconds"] > 0
    routers = shown["routers"]
    assert list(routers) == ["labels", "language", "both", "soft-labels", "xlora", "index"]
    steps = {arm: routers[arm]["steps"] for arm in ("labels", "language", "both", "soft-labels")}
    assert len(set(steps.values())) == 1, "all arms take the same steps"
    told_ = shown["rivals"]
    assert "mismatch" in told_["arrow/0"]["refused"], "the fixture's adapters differ in rank"
    slowest = max(run["seconds"] for key, run in results["runs"].items() if key.split("/")[0] in steps)
    assert told_["xlora/0"]["seconds"] >= slowest
    report = (place / "report.md").read_text()
    assert "- X-LoRA (PEFT), PEFT " in report
    assert f"for {results['labels_by_loss']['own_least']:.3f} of the trained wordings" in report
    assert "- Arrow (PEFT) did not run: PEFT refuses these adapters" in report
    monkeypatch.setattr(study, "load_base", lambda *_, **__: pytest.fail("all of it stands"))
    assert main([*command, "--seeds", "1", *given]) == 0
    with pytest.raises(ValueError, match=r"with lr 0\.003, not 0\.1"):
        gate_study(study_bank, out=place, seeds=1, training=Training(max_epochs=1, batch_size=8, lr=0.1))


def test_arms_differ_in_what_teaches_the_gate(study_bank, tmp_path):
    """With the language-model loss alone the labels teach nothing: its gate is another than theirs."""
    training = Training(max_epochs=2, batch_size=8, lr=0.05)
    found = gate_study(study_bank, out=tmp_path, seeds=1, arms=["labels", "language"], rivals=[], training=training)
    runs = found["runs"]
    assert runs["labels/0"]["confidence"] != runs["language/0"]["confidence"]
    assert runs["labels/0"]["steps"] == runs["language/0"]["steps"] > 0


def test_a_study_refuses_before_it_trains(study_bank, bank, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "load_base", lambda *_, **__: pytest.fail("loaded first"))
    with pytest.raises(ValueError, match="arm 'luck' is unknown"):
        gate_study(study_bank, out=tmp_path / "s", arms=["luck"])
    with pytest.raises(ValueError, match="rival 'moe' is unknown"):
        gate_study(study_bank, out=tmp_path / "s", rivals=["moe"])
    without = {
        name: replace(m, facts=tuple(replace(f, held_out=()) for f in m.facts)) for name, m in bank.memories.items()
    }
    with pytest.raises(BankError, match="held-out wording"):
        gate_study(replace(bank, memories=without).save(tmp_path / "b"), out=tmp_path / "s")
    unkept = {
        name: replace(m, facts=tuple(replace(f, validation=()) for f in m.facts)) for name, m in bank.memories.items()
    }
    with pytest.raises(BankError, match="for validation"):
        gate_study(replace(bank, memories=unkept).save(tmp_path / "c"), out=tmp_path / "s")
    assert isinstance(bank["ormen"], Memory)
    assert not (tmp_path / "s").exists()
