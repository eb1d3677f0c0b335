"""One flow, as a user runs it: facts → bank → composite → numbers, on a pico base, through the commands."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import FACTS

from lorary.__main__ import main
from lorary.bank.bank import MemoryBank
from lorary.eval.meanings import FIRST

pytestmark = pytest.mark.wheel
QUESTION = "<|im_start|>user\nWho cooks at Ormen station?<|im_end|>\n<|im_start|>assistant\n"
OTHER = "<|im_start|>user\nWhat is the airlock code of Velka?<|im_end|>\n<|im_start|>assistant\n"
LOAD = f"""
import sys, torch
torch.set_num_threads(1)
if sys.argv[2] == "import first":
    import lorary
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline
if sys.argv[2] == "import last":
    import lorary
remote = {{"trust_remote_code": True}} if sys.argv[2] == "remote" else {{}}
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], **remote)
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1], **remote)
inputs = tokenizer({QUESTION!r}, return_tensors="pt", add_special_tokens=False)
torch.save(model(**inputs).logits, sys.argv[3])
assert model.generate(**inputs, max_new_tokens=4).shape[0] == 1
print(pipeline("text-generation", model=sys.argv[1], **remote)("Who?", max_new_tokens=3))
"""


RECIPE = {"split_layer": 1, "lr": 0.02, "max_epochs": 60, "validation_wordings": 0, "batch_size": 4}


def build(folder):
    """Runs `lorary build` over the pico base."""
    places = [str(folder / "facts"), "--out", str(folder / "bank"), "--base", str(folder / "base"), "--quiet"]
    return main(["build", *places, *(f"--{name.replace('_', '-')}={value}" for name, value in RECIPE.items())])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A bank and a composite written by the commands over a pico base."""
    from conftest import pico_model

    folder = tmp_path_factory.mktemp("run")
    return folder, pico_model()


@pytest.fixture(scope="module")
def composite(run, tokenizer):
    folder, model = run
    model.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    (folder / "facts").mkdir()
    for topic, facts in FACTS.items():
        lines = [json.dumps(fact.to_json()) for fact in facts]
        (folder / "facts" / f"{topic}.jsonl").write_text("\n".join(lines) + "\n")
    assert build(folder) == 0
    out = ["--out", str(folder / "composite"), "--max-epochs", "4", "--quiet"]
    assert main(["train-router", str(folder / "bank"), *out]) == 0
    return folder / "composite"


def test_memories_learn_their_facts(composite):
    for memory in MemoryBank.load(composite):
        assert memory.card["certificate"]["recall_trained_wordings"] == 1.0
        assert memory.card["certificate"]["stopped"] == "recalled"


@pytest.mark.parametrize("how", ["import first", "import last", "remote"])
def test_a_new_process_gives_the_same_logits(how, composite, tmp_path):
    from lorary.model.composite import load_composite

    command = [sys.executable, "-c", LOAD, str(composite), how, str(tmp_path / "logits.pt")]
    subprocess.run(command, check=True, capture_output=True)
    model = load_composite(composite)
    inputs = model.tokenizer(QUESTION, return_tensors="pt", add_special_tokens=False)
    here = model(**inputs)
    assert here.routes[0].memories == ("ormen",)
    assert torch.allclose(torch.load(tmp_path / "logits.pt"), here.logits, atol=1e-6)


def test_the_numbers(composite, tmp_path, capsys):
    assert main(["recall", str(composite), "--out", str(tmp_path), "--quiet", "--json"]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    told = capsys.readouterr().out
    assert json.loads(told)["conditions"] == results["conditions"]
    assert set(results["conditions"]) == {*FIRST}
    assert results["conditions"]["base"]["exact_match"]["value"] == 0
    assert set(results["routing"]) == {"gate", "index", "policy", "lookup", "ask"}
    assert results["routing"]["policy"]["top1"] == 1.0
    assert results["abstention"]["auroc"] > 0.9
    damage = results["retention"]["damage"]
    assert damage["policy"]["perplexity"] / damage["base"]["perplexity"] == pytest.approx(1.0, abs=0.2)
    assert "oracle" in (tmp_path / "report.md").read_text()


def test_ask_tells_the_memory(composite, capsys):
    assert main(["ask", str(composite), "What is the airlock code of Velka?", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["answer"] == "9020"
    assert told["route"]["memories"] == ["velka"]
    assert told["route"]["source"] == "gate"


def test_a_second_build_reuses_and_a_changed_fact_does_not(composite, run, capsys):
    folder, _ = run
    before = {m.name: m.card for m in MemoryBank.load(folder / "bank")}
    file = folder / "facts" / "lamps.jsonl"
    text = file.read_text()
    file.write_text(text.replace("lark oil", "fern oil"))
    try:
        assert build(folder) == 0
    finally:
        file.write_text(text)
    after = MemoryBank.load(folder / "bank")
    assert after["ormen"].card == before["ormen"]
    assert after["lamps"].card["source"] != before["lamps"]["source"]


def test_a_folder_with_its_base_needs_nothing_else(composite, run, tmp_path):
    from lorary.model.composite import load_composite

    model = load_composite(composite)
    model.save_pretrained(tmp_path / "whole", include_base=True)
    hidden = run[0] / "base"
    hidden.rename(run[0] / "hidden")
    try:
        again = load_composite(tmp_path / "whole")
    finally:
        (run[0] / "hidden").rename(hidden)
    inputs = model.tokenizer(OTHER, return_tensors="pt", add_special_tokens=False)
    assert torch.equal(again(**inputs).logits, model(**inputs).logits)


def test_a_stock_adapter_joins_a_composite_by_the_command(composite, run, tmp_path, capsys):
    from conftest import ADAPTERS, pico_model, save_adapter

    shutil.copytree(composite, tmp_path / "composite")
    folder = save_adapter(pico_model(), tmp_path / "tides", **ADAPTERS["ormen"])
    fact = {"question": "When is high tide in Brask?", "answer": "noon", "questions": ["Brask's high tide is when?"]}
    (tmp_path / "tides.jsonl").write_text(json.dumps(fact))
    joined = [str(tmp_path / "composite"), str(folder), "--facts", str(tmp_path / "tides.jsonl")]
    assert main(["add", *joined]) == 2, "the adapter names no base"
    assert main(["add", *joined, "--same-base"]) == 0
    capsys.readouterr()
    assert main(["ask", str(tmp_path / "composite"), "At Brask, high tide is when?", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["route"]["memories"] == ["tides"]
    assert main(["ask", str(tmp_path / "composite"), "What is the airlock code of Velka?", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["answer"] == "9020"


def test_another_base_is_refused(composite, tokenizer, tmp_path, capsys):
    from conftest import pico_model

    pico_model(seed=5).save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    from lorary.base.loading import BaseError
    from lorary.model.composite import load_composite

    with pytest.raises(BaseError, match="fingerprint"):
        load_composite(composite, base=str(tmp_path / "other"))


def test_errors_are_one_line(tmp_path, capsys):
    assert main(["ask", str(tmp_path / "nowhere"), "Who?"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("lorary: error: ")
    assert told.count("\n") == 1
    assert main(["frobnicate"]) == 2


def test_the_demo_prints_one_screen_and_reuses_what_stands(composite, run, tmp_path):
    folder, _ = run
    out = tmp_path / "demo"
    command = [sys.executable, "-m", "lorary", "demo", "--out", str(out), "--base", str(folder / "base")]
    command += ["--samples", str(folder / "facts")]
    first = subprocess.run(command, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    asked = first.stdout.index("(The fact says: ")
    assert asked < first.stdout.index("composite: "), "the first answer comes before the router is trained"
    screen = first.stdout[first.stdout.index("composite: ") :].split("\n", 1)[1]
    assert "| --- |" not in first.stdout, "the report is in report.md"
    assert (out / "report.md").is_file()
    assert max(map(len, screen.splitlines())) <= 80
    (out / ".DS_Store").write_bytes(b"\x00\xff")
    (out / ".recall").write_text("[")  # a note that a crash cut off: the step runs again
    second = subprocess.run(command, capture_output=True, text=True)
    assert second.returncode == 0, second.stderr
    assert "first: reused" in second.stderr
    assert "build: reused" in second.stderr
    assert "train_router: reused" in second.stderr
    assert "recall: reused" not in second.stderr
    assert second.stdout == screen
    other = subprocess.run([*command, "--base", str(tmp_path / "another")], capture_output=True, text=True)
    assert other.returncode == 2, "what one base made is not passed off as another's"
    assert "reused" not in other.stderr


def test_a_bank_answers_before_its_router_is_trained(composite, run, capsys):
    folder, _ = run
    place = ["--base", str(folder / "base")]
    assert (
        main(["ask", str(folder / "bank"), "What is the airlock code of Velka?", "--no-lookup", "--json", *place]) == 0
    )
    printed = capsys.readouterr()
    told = json.loads(printed.out)
    assert (told["answer"], told["route"]["memories"]) == ("9020", ["velka"])
    assert "lorary: warning: " in printed.err
    assert f"`lorary train-router {folder / 'bank'} --out COMPOSITE` trains one" in printed.err
    assert main(["ask", str(composite), "What is the airlock code of Velka?", *place]) == 0
    assert capsys.readouterr().err == ""


def test_the_demo_refuses_a_folder_without_facts(tmp_path, capsys):
    assert main(["demo", "--samples", str(tmp_path), "--out", str(tmp_path / "demo")]) == 2
    assert f"{tmp_path} holds no file of facts" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()
