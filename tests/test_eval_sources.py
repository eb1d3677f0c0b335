"""What was made elsewhere is evaluated as it lies there: a bank without a gate, a folder of stock PEFT adapters."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import ADAPTERS, FACTS, pico_model, save_adapter
from peft import PeftModel

from lorary.__main__ import main
from lorary.base.prompts import prompt
from lorary.eval import recall
from lorary.eval import results as stored
from lorary.eval.evaluated import open_evaluated
from lorary.eval.results import RunError


@pytest.fixture
def elsewhere(base, tmp_path):
    """A folder of adapters as PEFT saved them, each naming the base."""
    model = pico_model()
    model.name_or_path = model.config._name_or_path = base.name
    folder = tmp_path / "elsewhere"
    for seed, (name, config) in enumerate(ADAPTERS.items()):
        save_adapter(model, folder / name, seed, **config)
    return folder


@pytest.fixture
def questions(tmp_path):
    lines = [
        {"topic": topic, "question": fact.question, "answer": fact.answer, "held_out": [f"Once more: {fact.question}"]}
        for topic, facts in FACTS.items()
        for fact in facts
    ]
    file = tmp_path / "questions.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def files_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_of_peft_adapters_is_asked_as_peft_answers(elsewhere, questions, tmp_path, monkeypatch):
    monkeypatch.setattr("lorary.base.loading.best_dtype", lambda: torch.float32)  # PEFT's reference is in fp32
    before = files_of(elsewhere)
    results = recall(elsewhere, out=tmp_path / "run", questions=questions, quiet=True)
    assert files_of(elsewhere) == before, "nothing is rewritten"
    assert results["conditions"].keys() == {
        *("base", "oracle", "uniform", "shuffled", "merged-exact"),
        *(f"only-{name}" for name in ADAPTERS),
    }
    assert results["routing"] == {}
    assert results["latency"] is None
    assert "policy" not in results["retention"]["damage"]
    assert results["retention"]["damage"]["uniform"]["perplexity"] > 0
    _, predictions = stored.read(tmp_path / "run")
    asked = next(p for p in predictions["oracle"] if p.memory == "velka")
    model = open_evaluated(elsewhere).model
    ids = model.tokenizer(prompt(model.tokenizer, asked.question), return_tensors="pt", add_special_tokens=False)
    peft = PeftModel.from_pretrained(pico_model(), elsewhere / "velka").eval()
    with torch.no_grad():
        said = peft.generate(**ids, max_new_tokens=24, do_sample=False, pad_token_id=0)[0, ids.input_ids.shape[1] :]
    whole = model.tokenizer.decode(said, skip_special_tokens=True).strip()
    assert asked.said
    assert whole.startswith(asked.said)


def test_facts_beside_the_adapters_let_the_index_route(elsewhere, questions, tmp_path):
    for topic, facts in FACTS.items():
        lines = [{"question": fact.question, "answer": fact.answer} for fact in facts]
        (elsewhere / topic / "facts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    asked = {"questions": questions, "parts": ("questions",), "passages": 1, "quiet": True}
    recall(elsewhere, out=tmp_path / "run", conditions=("index", "passages"), **asked)
    _, predictions = stored.read(tmp_path / "run")
    assert all(p.route.memories == (p.memory,) for p in predictions["index"])


def test_a_run_over_adapters_goes_on(elsewhere, questions, tmp_path):
    asked = {"questions": questions, "parts": ("questions",), "quiet": True}
    first = recall(elsewhere, out=tmp_path, conditions=("oracle",), **asked)["conditions"]["oracle"]
    marked = json.loads((tmp_path / "results.json").read_text())
    marked["conditions"]["oracle"]["seconds"] = 77.0
    (tmp_path / "results.json").write_text(json.dumps(marked))
    assert recall(elsewhere, out=tmp_path, conditions=("oracle",), **asked)["conditions"]["oracle"] == first | {
        "seconds": 77.0
    }
    save_adapter(pico_model(), elsewhere / "velka", 9, **ADAPTERS["velka"])
    named = json.loads((elsewhere / "ormen" / "adapter_config.json").read_text())["base_model_name_or_path"]
    with pytest.raises(RunError, match="holds a run with source_sha256"):
        recall(elsewhere, out=tmp_path, base=named, conditions=("oracle",), **asked)
    changed = recall(elsewhere, out=tmp_path, replace=True, base=named, conditions=("oracle",), **asked)
    assert changed["conditions"]["oracle"]["seconds"] != 77.0


def test_a_bank_without_a_gate_is_evaluated(bank, tmp_path):
    bank.save(tmp_path / "bank")
    results = recall(tmp_path / "bank", out=tmp_path / "run", parts=("questions",), quiet=True)
    assert "only-ormen" in results["conditions"]
    assert "No gate was trained" in (tmp_path / "run" / "report.md").read_text()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--conditions", "policy"], "condition 'policy' needs a trained gate"),
        (["--conditions", "hybrid"], "condition 'hybrid' needs a trained gate"),
        (["--conditions", "index"], "condition 'index' needs facts to find memories by"),
    ],
)
def test_what_needs_a_router_is_refused_before_anything_is_asked(given, told, elsewhere, questions, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["recall", str(elsewhere), "--out", str(out), "--questions", str(questions), *given]) == 2
    assert told in capsys.readouterr().err
    assert not out.exists()


def test_what_is_nothing_to_evaluate_is_one_line(elsewhere, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["recall", str(tmp_path / "empty"), "--out", str(tmp_path / "run")]) == 2
    assert "holds no composite, no bank and no folder of a PEFT adapter" in capsys.readouterr().err
    save_adapter(pico_model(), elsewhere / "tides", 9, **ADAPTERS["velka"])
    assert main(["recall", str(elsewhere), "--out", str(tmp_path / "run")]) == 2
    assert "name the bases" in capsys.readouterr().err
