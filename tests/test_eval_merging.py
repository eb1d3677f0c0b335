"""Merged memories against PEFT's own, and the conditions that ask under them."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import FACTS, empty_bank, pico_model, save_adapter
from peft import PeftModel

from lorary.__main__ import main
from lorary.bank.merging import MergeError, merged, ties
from lorary.base.prompts import prompt
from lorary.eval import recall
from lorary.eval.conditions import CONDITIONS, choose
from lorary.eval.run import bank_of
from lorary.model.composite import assemble

CLOSE = {"atol": 2e-5, "rtol": 1e-4}


@pytest.fixture
def alike(base, encoder, tmp_path):
    """A composite of three memories of one rank and the same targets, one of another scaling, and their folders."""
    bank = empty_bank(base)
    folders = {}
    for i, name in enumerate(FACTS):
        config = {"r": 2, "lora_alpha": 4 + 4 * i, "target_modules": ["up_proj"], "use_rslora": i == 2}
        folders[name] = save_adapter(base.model, tmp_path / name, i, **config)
        bank.add(folders[name], facts=FACTS[name], encoder=encoder, same_base=True)
    return assemble(bank, base, encoder=encoder), folders


@pytest.mark.parametrize("how", ["ties", "linear"])
def test_a_merge_is_peft_s_own(how, alike, tokenizer):
    model, folders = alike
    names = list(folders)
    inputs = tokenizer(prompt(tokenizer, "Who cooks at Velka?"), return_tensors="pt", add_special_tokens=False)
    reference = PeftModel.from_pretrained(pico_model(), folders[names[0]], adapter_name=names[0])
    for name in names[1:]:
        reference.load_adapter(folders[name], adapter_name=name)
    options = {"density": 0.2} if how == "ties" else {}
    reference.add_weighted_adapter(names, [1 / 3] * 3, "all", combination_type=how, **options)
    reference.set_adapter("all")
    one = merged("one", list(model.router.bank), how)
    alone = model(**inputs, adapter_names=["ormen"]).logits
    with model.with_bank(bank_of(model, [one])) as other:
        found = other(**inputs, adapter_names=["one"]).logits
    assert torch.allclose(found, reference.eval()(**inputs).logits, **CLOSE)
    assert torch.equal(model(**inputs, adapter_names=["ormen"]).logits, alone), (
        "the composite has its own memories again"
    )


def test_ties_keeps_what_is_large_and_agrees():
    tensors = torch.tensor([[[5.0, -1.0, 0.1, 0.2, 0.0]], [[3.0, 0.1, 0.2, -2.0, 0.0]], [[-1.0, 0.2, 0.1, 0.3, 0.4]]])
    # One entry of five is kept of each: 5, 3 and -1, all the first; the sign with the greater total is +.
    assert ties(tensors, torch.ones(3)).tolist() == [[4.0, 0.0, 0.0, 0.0, 0.0]]


def test_memories_of_mixed_ranks_are_skipped_with_the_reason(composite, tmp_path):
    with pytest.raises(MergeError, match="ties needs memories of one rank"):
        merged("one", list(composite.router.bank), "ties")
    asked = {"conditions": ("base", "merged-ties"), "parts": ("questions", "retention"), "quiet": True}
    results = recall(composite, out=tmp_path, **asked)
    assert "one rank" in results["conditions"]["merged-ties"]["skipped"]
    assert "merged-ties" not in results["retention"]["damage"]


def test_every_merge_is_asked_and_its_damage_measured(alike, tmp_path):
    model, _ = alike
    conditions = ("base", "uniform", "merged-exact", "merged-ties", "merged-linear", "each")
    results = recall(model, out=tmp_path, conditions=conditions, parts=("questions", "retention"), quiet=True)
    assert list(results["conditions"]) == [
        *("base", "uniform", "merged-exact"),
        *("only-ormen", "only-velka", "only-lamps"),
        *("merged-ties", "merged-linear"),
    ]
    told = results["retention"]["damage"]
    assert len({told[name]["perplexity"] for name in results["conditions"]}) == 8, "each its own"
    assert told["only-ormen"]["perplexity"] != told["base"]["perplexity"]
    lines = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert {tuple(p["route"]["memories"]) for p in lines if p["condition"] == "only-velka"} == {("velka",)}
    assert results["latency"] is None
    with pytest.raises(ValueError, match="condition 'only-paris' is unknown"):
        choose(["only-paris"], model.memories)
    single = [f"only-{name}" for name in model.memories]
    assert list(choose(["base", "each", "base"], model.memories)) == ["base", *single]
    assert list(choose(["all"], model.memories)) == [*CONDITIONS, *single]


def test_one_adapter_for_everything_answers_by_its_bank(alike, tmp_path):
    model, folders = alike
    big = bank_of(model, [])
    big.add(folders["lamps"], name="all-in-one", same_base=True)
    big.save(tmp_path / "big")
    results = recall(model, out=tmp_path / "run", conditions=("base",), also=[tmp_path / "big"], quiet=True)
    assert list(results["conditions"]) == ["base", "all-in-one"]
    assert results["retention"]["damage"]["all-in-one"]["kl"] > 0
    assert list(results["configuration"]["elsewhere_sha256"]) == ["all-in-one"]
    with pytest.raises(ValueError, match="two of the other banks hold a memory called 'all-in-one'"):
        recall(model, out=tmp_path / "run", also=[tmp_path / "big"] * 2, quiet=True)
    named = bank_of(model, [])
    named.add(folders["lamps"], name="policy", same_base=True)
    named.save(tmp_path / "named")
    with pytest.raises(ValueError, match="is called 'policy', as a condition is"):
        recall(model, out=tmp_path / "run", also=[tmp_path / "named"], quiet=True)


def test_another_bank_beside_leaves_the_rest_standing(alike, tmp_path):
    model, folders = alike
    model.save_pretrained(tmp_path / "composite")

    def told(adapter):
        big = bank_of(model, [])
        big.add(folders[adapter], name="all-in-one", same_base=True)
        big.save(tmp_path / adapter)
        asked = {"conditions": ("base", "uniform"), "parts": ("questions", "retention"), "quiet": True}
        results = recall(tmp_path / "composite", out=tmp_path / "run", also=[tmp_path / adapter], **asked)
        return (
            results["conditions"]["base"]["seconds"],
            results["retention"]["damage"],
            results["configuration"]["elsewhere_sha256"],
        )

    told("lamps")
    file = tmp_path / "run" / "results.json"
    marked = json.loads(file.read_text())
    for condition in marked["conditions"].values():
        condition["seconds"] = 77.0
    marked["retention"]["damage"]["uniform"]["kl"] = -1.0
    file.write_text(json.dumps(marked))
    seconds, damage, first = told("lamps")
    assert (seconds, damage["uniform"]["kl"]) == (77.0, -1.0), "the same bank stands"
    seconds, other, second = told("velka")
    assert seconds == 77.0, "what the composite answered stands"
    assert other["all-in-one"]["kl"] != damage["all-in-one"]["kl"]
    assert other["uniform"]["kl"] == -1.0, "so does what was measured of it"
    assert first.keys() == second.keys()
    assert first != second


def test_damage_alone_to_a_text_of_one_s_own(composite, tmp_path, capsys):
    composite.save_pretrained(tmp_path / "composite")
    (tmp_path / "own.txt").write_text("The lamps of the town were lit at dusk.\n\n" + "A keeper walks. " * 200)
    asked = ["--parts", "retention", "--conditions", "base", "policy", "shuffled", "--text", str(tmp_path / "own.txt")]
    assert main(["recall", str(tmp_path / "composite"), "--out", str(tmp_path / "run"), "--quiet", *asked]) == 0
    told = capsys.readouterr().out
    assert "| shuffled | " in told
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["conditions"] == {}
    assert set(results["retention"]["damage"]) == {"base", "forced", "shuffled", "policy", "uniform"}
    assert "Damage to unrelated text" in (tmp_path / "run" / "report.html").read_text()
    (tmp_path / "own.txt").write_text("\n\n")
    assert main(["recall", str(tmp_path / "composite"), "--out", str(tmp_path / "run"), "--quiet", *asked]) == 2
    assert "own.txt: holds no text" in capsys.readouterr().err
