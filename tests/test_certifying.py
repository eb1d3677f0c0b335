"""A certificate tells what it was measured under, which facts fail, what the memory costs the base, and how full it is; and
all of this can be measured again."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from test_updating import CODE, COOK, OIL, RECIPE, write

from lorary.__main__ import main
from lorary.bank.bank import MemoryBank
from lorary.base.prompts import prompt_ids
from lorary.memories import certifying
from lorary.memories.building import build
from lorary.memories.certifying import UNRELATED, capacity, damage, failing, fullness, measured_under, recalls
from lorary.memories.verifying import verify_certificates
from lorary.statistics import wilson


@pytest.fixture
def stored(base, tmp_path):
    stated = replace(COOK, statement="Halvard cooks at Ormen.")
    facts = write(tmp_path / "facts", ormen=[stated, CODE], lamps=[OIL])
    build([facts], out=tmp_path / "bank", base=base, recipe=RECIPE, quiet=True)
    return tmp_path / "bank"


def certificate(stored, name="ormen"):
    return MemoryBank.load(stored)[name].card["certificate"]


def test_it_tells_the_wordings_and_the_facts_that_fail(stored):
    told = certificate(stored)
    assert {kind: told["wordings"][kind] for kind in ("questions", "cloze", "validation")} == {
        "questions": 3,
        "cloze": 1,
        "validation": 2,
    }
    memory = MemoryBank.load(stored)["ormen"]
    assert told["wordings"] == measured_under(memory.facts)
    other = (replace(memory.facts[0], question="Who is the cook there?"), *memory.facts[1:])
    assert measured_under(other)["sha256"] != told["wordings"]["sha256"]
    assert told["failing_facts"] == {"trained": [0, 1], "validation": [0, 1]}, "two passes teach a pico model nothing"
    assert failing([[True], [True, False], []], [[], [True], [False]]) == {"trained": [1], "validation": [2]}


def test_damage_is_the_perplexity_under_the_memory_over_the_base_s(stored, base):
    memory = MemoryBank.load(stored)["ormen"]
    nothing = replace(memory, tensors={name: torch.zeros_like(tensor) for name, tensor in memory.tensors.items()})
    assert damage(base, 1, nothing.factors()) == 1

    def loss(model):
        ids = [torch.tensor([own]) for own in prompt_ids(base.tokenizer, list(UNRELATED))]
        logits = [model(input_ids=own).logits[0, :-1] for own in ids]
        labels = torch.cat([own[0, 1:] for own in ids])
        return torch.nn.functional.cross_entropy(torch.cat(logits), labels)

    with torch.no_grad():
        before = loss(base.model)
        adapted = PeftModel.from_pretrained(base.model, stored / "memories" / "ormen").eval()
        ratio = float((loss(adapted) - before).exp())
        adapted.unload()
    assert certificate(stored)["damage"] == pytest.approx(ratio, abs=1e-4)
    assert certificate(stored)["damage"] != 1


def test_how_full_a_memory_is_comes_from_the_shipped_study():
    study = certifying._study()
    base = study.configuration["base"]
    assert capacity(8, base) == study.knee(8, study.recall).load
    assert fullness(20, 8, base) == {"holds": capacity(8, base), "full": round(20 / capacity(8, base), 3)}
    assert fullness(20, 8, "another/base") == fullness(20, 7, base) == {"holds": None, "full": None}


def test_certificates_are_measured_again(stored, base, capsys):
    assert verify_certificates(stored, base=base, quiet=True) == (["lamps", "ormen"], [])
    assert main(["verify", str(stored), "--deep", "--quiet"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "2 certificates measured again"
    with MemoryBank.change(stored) as bank:
        bank.memories["lamps"] = replace(
            bank["lamps"], tensors={name: tensor * 40 for name, tensor in bank["lamps"].tensors.items()}
        )
        card = bank["ormen"].card
        wrong = {**card["certificate"], "recall_validation_wordings": 1.0}
        bank.memories["ormen"] = replace(bank["ormen"], card={**card, "certificate": wrong})
    assert main(["verify", str(stored), "--quiet"]) == 0, "the files are what the manifest says"
    capsys.readouterr()
    assert main(["verify", str(stored), "--deep", "--quiet"]) == 2
    told = capsys.readouterr()
    assert "ormen: recall_validation_wordings is 0.0 now, 1.0 in its certificate" in told.out.splitlines()
    assert "lamps: damage is" in told.out
    assert told.err.startswith("lorary: error: the certificates of lamps, ormen differ")
    assert main(["verify", str(stored), "--deep", "--quiet", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["measured"] == ["lamps", "ormen"]


def test_an_older_certificate_is_measured_under_all_the_wordings_that_it_tells(base, tmp_path):
    many = replace(COOK, questions=tuple(f"Who is cook number {number} at Ormen?" for number in range(9)))
    build([write(tmp_path / "facts", ormen=[many])], out=tmp_path / "bank", base=base, recipe=RECIPE, quiet=True)
    wordings = certificate(tmp_path / "bank")["wordings"]
    assert (wordings["questions"], wordings["a_fact"]) == (4, 4)
    assert verify_certificates(tmp_path / "bank", base=base, quiet=True) == (["ormen"], [])
    with MemoryBank.change(tmp_path / "bank") as bank:
        memory = bank["ormen"]
        older = {**memory.card["certificate"], "wordings": measured_under(memory.facts, most=None)}
        del older["recall_by_wording"], older["recall_by_fact"]
        assert older["wordings"]["questions"] == len(memory.facts[0].trained) > 4
        bank.memories["ormen"] = replace(memory, card={**memory.card, "certificate": older})
    assert verify_certificates(tmp_path / "bank", base=base, quiet=True) == (["ormen"], [])


def test_recall_is_told_by_wording_and_by_fact():
    validation = [[True, True], [True, False], [True, True], [True, False]]
    told = recalls([[True], [False], [], []], validation)
    assert (told["recall_trained_wordings"], told["recall_validation_wordings"]) == (0.5, 0.5)
    wording, fact = told["recall_by_wording"]["validation"], told["recall_by_fact"]["validation"]
    assert (wording["value"], fact["value"]) == (0.75, 0.5), "every second fact fails under one wording"
    assert fact == pytest.approx(wilson(0.5, 4), abs=1e-4), "of four facts"
    assert wording["low"] < 0.4 < 0.9 < wording["high"]
    assert told["recall_by_wording"]["trained"] == pytest.approx(wilson(0.5, 2), abs=1e-4), "of those that were asked"
    nothing = recalls([[]], [[]])
    assert nothing["recall_by_wording"] == nothing["recall_by_fact"] == {"trained": None, "validation": None}


def test_a_certificate_of_an_earlier_version_is_listed(stored, capsys):
    with MemoryBank.change(stored) as bank:
        for name, memory in bank.memories.items():
            certificate = dict(memory.card["certificate"])
            del certificate["recall_by_wording"], certificate["recall_by_fact"]
            certificate["recall_validation_wordings"] = 0.5
            bank.memories[name] = replace(memory, card={**memory.card, "certificate": certificate})
    assert main(["list", str(stored)]) == 0
    assert all(" – " in row and " 50% " in row for row in capsys.readouterr().out.splitlines()[4:])


def test_a_memory_without_a_certificate_has_none_to_measure(bank, base, tmp_path):
    assert verify_certificates(bank.save(tmp_path / "bank"), base=base) == ([], [])


def test_the_list_tells_them(stored, capsys):
    assert main(["list", str(stored)]) == 0
    head, *rows = [line.split() for line in capsys.readouterr().out.splitlines()[3:]]
    assert head[:2] == ["memory", "version"]
    assert head[-9:] == ["size", "recall", "by", "wording", "by", "fact", "full", "damage", "origin"]
    assert all(row[1] == "1" and "×" in row for row in rows)
    assert main(["list", str(stored), "--json"]) == 0
    memory = next(own for own in json.loads(capsys.readouterr().out)["memories"] if own["name"] == "ormen")
    assert memory["failing"] == [COOK.question, CODE.question]
    assert memory["version"] == 1
