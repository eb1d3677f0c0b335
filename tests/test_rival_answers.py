"""What PEFT's X-LoRA and Arrow answer over a bank, and that recall scores it beside the memories."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from conftest import FACTS, empty_bank, pico_model, save_adapter

from lorary.__main__ import main
from lorary.bank.bank import MemoryBank
from lorary.bank.facts import FactError
from lorary.bank.files import BankError
from lorary.base.loading import BaseError, load_base
from lorary.base.prompts import prompt
from lorary.eval import recall
from lorary.eval.questions import held_out
from lorary.eval.results import read
from lorary.model.composite import assemble
from lorary.research.peft_routers import new_arrow, new_xlora
from lorary.research.rival_answers import greedy, rival_answers
from lorary.research.settings import Budget, RivalError
from lorary.resume import ResumeError

HELD_OUT = [wording for facts in FACTS.values() for fact in facts for wording in fact.held_out]


def answers(file):
    return {line["question"]: line["answer"] for line in map(json.loads, file.read_text().splitlines())}


@pytest.mark.parametrize("rival", ["xlora", "arrow", "multilobe"])
def test_a_rival_s_answers_stand_in_the_table(rival, alike, tmp_path, capsys):
    file, budget = tmp_path / "said" / f"{rival}.jsonl", ["--seconds", "1", "--batch-size", "2", "--seed", "1"]
    assert main(["research", "rivals", str(alike[0]), "--rival", rival, "--out", str(file), *budget, "--quiet"]) == 0
    assert "2 questions answered" in capsys.readouterr().out
    told = json.loads(file.with_suffix(".json").read_text())
    assert (told["questions"], told["memories"]) == (2, 3)
    if rival == "xlora":
        assert told["settings"]["budget"] == {"seconds": 1.0, "batch_size": 2, "lr": 3e-3}
        assert (told["steps"] > 0, told["trained_wordings"], told["seconds_training"] >= 1.0) == (True, 12, True)
    elif rival == "arrow":
        assert told["top_k"] == 3
        assert "steps" not in told
    else:
        assert sum(told["chosen_by"].values()) == 2
        assert told["settings"]["versions"]["multilobe"]
    before = file.read_bytes(), file.with_suffix(".json").read_bytes()
    again = ["research", "rivals", str(alike[0]), "--rival", rival, "--out", str(file), "--quiet"]
    assert main([*again, *budget]) == 0, "what stands is not answered again"
    assert main([*again, *budget[:-1], "2"]) == 2
    assert "holds a run with seed 1, not 2" in capsys.readouterr().err
    assert (file.read_bytes(), file.with_suffix(".json").read_bytes()) == before
    given = ["--conditions", "base", "--parts", "questions", "--answers", f"{rival}={file}", "--quiet"]
    assert main(["recall", str(alike[0]), "--out", str(tmp_path / "run"), *given]) == 0
    assert f"| {rival}: answered elsewhere, {rival}.jsonl |" in capsys.readouterr().out
    predictions = read(tmp_path / "run")[1][rival]
    assert [p.question for p in predictions] == HELD_OUT
    assert {p.question: p.said for p in predictions} == answers(file)


@pytest.mark.parametrize("rival", ["xlora", "arrow", "multilobe"])
def test_over_one_memory_a_rival_answers_as_the_oracle(rival, base, encoder, tmp_path):
    """Its only memory has all the weight there is; the prompts and the longest answers are the same."""
    bank = empty_bank(base)
    folder = save_adapter(base.model, tmp_path / "ormen", r=2, target_modules=["up_proj", "down_proj"])
    bank.add(folder, facts=FACTS["ormen"], encoder=encoder, same_base=True)
    asked = tmp_path / "asked.jsonl"
    asked.write_text("\n".join(json.dumps(fact.to_json() | {"trained": True}) for fact in FACTS["ormen"]))
    given = {"questions": asked, "quiet": True}
    recall(assemble(bank, base, encoder=encoder), out=tmp_path, conditions=("oracle",), parts=("questions",), **given)
    oracle = {p.question: p.said for p in read(tmp_path)[1]["oracle"]}
    place = bank.save(tmp_path / "bank")
    rival_answers(place, rival=rival, out=tmp_path / "said.jsonl", budget=Budget(seconds=0.0), base=base, **given)
    assert answers(tmp_path / "said.jsonl") == oracle
    assert len(set(oracle.values())) > 1


@pytest.mark.parametrize("rival", ["xlora", "arrow"])
def test_neither_batch_nor_padding_matters(rival, alike, base):
    loaded = load_base(base.name, dtype=torch.float32)
    torch.manual_seed(0)
    model = {"arrow": new_arrow, "xlora": new_xlora}[rival](loaded, alike[1]).eval()
    asked = ["Who?", "Who cooks at Ormen station?", "What is the airlock code of Velka, and who told you?"]
    said = greedy(model, loaded.tokenizer, asked, 6)
    for question, answer in zip(asked, said, strict=True):
        ids = loaded.tokenizer(
            prompt(loaded.tokenizer, question), return_tensors="pt", add_special_tokens=False
        ).input_ids
        start = ids.shape[1]
        for _ in range(6):  # greedy decoding as it is defined, without generate, cache or padding
            ids = torch.cat([ids, model(input_ids=ids).logits[:, -1:].argmax(-1)], 1)
            if ids[0, -1] == loaded.tokenizer.eos_token_id:
                break
        assert loaded.tokenizer.decode(ids[0, start:], skip_special_tokens=True).strip() == answer


def test_a_file_is_asked_as_recall_asks_it(alike, base, tmp_path):
    lines = [
        {"question": " Who? ", "answer": "Halvard", "topic": "ormen", "kind": "plain", "options": ["Halvard"]},
        {"question": "Trained", "answer": "a", "held_out": ["Held out"], "topic": "velka"},
        {"question": "Both?", "parts": [{"topic": "ormen", "answer": "one"}, {"topic": "velka", "answer": "two"}]},
        {"question": "Nothing to recall?", "questions": ["Nothing?"], "answer": None, "topic": None},
    ]
    file, out = tmp_path / "asked.jsonl", tmp_path / "said.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    rival_answers(alike[0], rival="arrow", out=out, questions=file, quiet=True, base=load_base(base.name))
    asked = held_out(MemoryBank.load(alike[0]), file)[0]
    assert list(answers(out)) == [question.text for question in asked]
    assert list(answers(out)) == ["Who?", "Held out", "Both?", "Nothing to recall?", "Nothing?"]
    for line, says in (
        ({"question": "Who?"}, "'answer' is missing"),
        ({"answer": "a"}, "'question' is missing"),
        ({"question": "Who?", "parts": ["a", "b"]}, "a part must hold 'topic' and 'answer'"),
        ({"question": "Who?", "answer": "a", "topic": "tresk"}, "topic 'tresk' has no memory"),
        ({"question": "Who cooks at Ormen station?", "answer": "a", "topic": "ormen"}, "was trained on"),
    ):
        file.write_text(json.dumps(line))
        with pytest.raises(FactError, match=says):
            rival_answers(alike[0], rival="arrow", out=tmp_path / "none.jsonl", questions=file)


def test_what_cannot_be_answered_is_refused_and_nothing_written(bank, base, tmp_path, capsys):
    """The fixture's adapters differ in rank and targets."""
    place, out = str(bank.save(tmp_path / "bank")), tmp_path / "said.jsonl"
    with pytest.raises(RivalError, match=r"PEFT refuses these adapters: .*mismatch"):
        rival_answers(place, rival="arrow", out=out, base=base, quiet=True)
    with pytest.raises(BaseError, match="has fingerprint"):
        rival_answers(place, rival="arrow", out=out, base=replace(base, model=pico_model(seed=1)), quiet=True)
    for given, told in (
        ({"rival": "moe"}, "rival 'moe' is unknown"),
        ({"rival": "xlora", "out": tmp_path / "said.json"}, "must be a .jsonl file"),
        ({"rival": "arrow", "questions": tmp_path / "none.jsonl"}, "none.jsonl: cannot be read"),
    ):
        with pytest.raises(ValueError, match=told):
            rival_answers(place, **{"out": out, **given})
    (tmp_path / "unheld.jsonl").write_text(json.dumps({"question": "Who?", "topic": None, "answer": None}))
    with pytest.raises(FactError, match="no held-out wordings"):
        rival_answers(place, rival="arrow", out=out, questions=tmp_path / "unheld.jsonl")
    empty = empty_bank(base)
    empty.add(tmp_path / "adapters" / "ormen", same_base=True)
    with pytest.raises(BankError, match="holds no facts to train X-LoRA on"):
        rival_answers(empty.save(tmp_path / "empty"), rival="xlora", out=out)
    out.write_text("mine")
    with pytest.raises(ResumeError, match=r"stands there without said\.json"):
        rival_answers(place, rival="arrow", out=out)
    assert out.read_text() == "mine"
    out.unlink()
    assert main(["research", "rivals", place, "--rival", "arrow", "--out", str(out), "--quiet"]) == 2
    assert "lorary: error: PEFT refuses" in capsys.readouterr().err
    assert not list(tmp_path.glob("said*"))
