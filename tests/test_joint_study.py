"""A joint study: what it trains and measures on, its figures against the plain ones, and one setting on a pico base."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from lorary.bank.adapters import WEIGHTS
from lorary.errors import LoraryError
from lorary.research.joint_prompts import FORMATS, formats, spanish_questions, two_qualities
from lorary.research.joint_report import figures_of, scores_of, tell_joint
from lorary.research.joint_settings import ARMS, JointDesign
from lorary.research.joint_study import _Study, start_by_chance
from lorary.research.peft_adapters import bank_of


def test_held_out_prompts_share_neither_facts_nor_words_for_a_format_with_what_is_trained():
    setting = formats(3, 0.0, None)
    trained = {text for adapter in setting.adapters.values() for text, _ in adapter.pairs}
    examples = {asked.text for asked in setting.examples}
    assert not examples & trained
    for asked in setting.held_out:
        assert asked.text not in trained | examples
        assert not any(asked.text.endswith(words) for form in FORMATS.values() for words in form.trained)
        assert asked.fact not in {other.fact for other in setting.examples}
    two = two_qualities(3, 1)
    assert not {a.text for a in two.held_out} & {text for own in two.adapters.values() for text, _ in own.pairs}
    assert two.adapters["long"].pairs == two.adapters["short"].pairs


def test_names_are_right_wrong_or_a_coins_toss():
    own = [asked.adapter for asked in formats(3, 0.0, None).examples]
    assert formats(3, 0.0, None).names(1) == own
    wrong = [name != right for name, right in zip(formats(3, 0.3, None).names(1), own, strict=True)]
    assert 0.15 < sum(wrong) / len(wrong) < 0.45
    tossed = two_qualities(3, 1).names(0)
    assert tossed != two_qualities(3, 1).names(1)
    assert {"long", "short", "other"} == {*tossed}


def test_questions_in_spanish_are_about_the_sentence_that_holds_the_answer(tmp_path):
    paragraphs = [
        {
            "context": f"Antes. El año fue {1000 + i}. Después.",
            "qas": [{"question": "¿Qué año?", "answers": [{"text": str(1000 + i), "answer_start": 18}]}],
        }
        for i in range(90)
    ]
    file = tmp_path / "questions.json"
    file.write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}), encoding="utf-8")
    asked = spanish_questions(file)
    assert len(asked) == len({one.fact for one in asked}) == 80
    assert asked[0].text == f"El año fue {asked[0].completion[-5:-1]}. ¿Qué año?"
    file.write_text(json.dumps({"data": []}), encoding="utf-8")
    with pytest.raises(LoraryError, match="80 are needed"):
        spanish_questions(file)


def test_figures_follow_from_where_gates_lead():
    bank = {
        "memories": ["a", "b"],
        "right": [0, 1, 1],
        "facts": ["x", "y", "z"],
        "exact": [[1, 0, 0], [0, 1, 0], [1, 0, 1]],
        "nats": [[0.1, 2.0, 3.0], [2.0, 0.2, 3.0], [1.0, 2.0, 3.0]],
        "examples": 3,
        "labels_right": 1.0,
        "label_seconds": 1.0,
    }
    scores = scores_of(bank, [[0, 1, 2], [1, 1, 1]])
    assert scores["right"].tolist() == [[1, 1, 0], [0, 1, 1]]
    assert scores["exact"].tolist() == [[1, 1, 1], [0, 1, 0]]
    assert scores["nats"][1].tolist() == pytest.approx([2.0, 0.2, 2.0])
    runs = {
        f"one/{arm}/{seed}": {"keys": keys, "policy": keys, "unrelated": [2, 2, seed], "seconds": 1.0}
        for arm, keys in (("names", [0, 0, 2]), ("loss", [0, 1, 1]))
        for seed in range(2)
    }
    results = {"runs": runs, "banks": {"one": bank}, "settings": {"base": "base"}, "seeds": 2}
    told = figures_of(results)["one"]
    assert told["names"]["policy right"]["value"] == pytest.approx(1 / 3)
    assert told["loss"]["over names"]["policy right"]["value"] == pytest.approx(2 / 3)
    assert told["loss"]["unrelated"] == pytest.approx(2 / 6)
    assert "| loss | +0.667 (" in tell_joint(results)


def test_keys_that_start_by_chance_lie_around_the_mean_of_all():
    keys = torch.nn.functional.normalize(torch.randn(3, 384), dim=-1)
    moved = keys.clone()
    start_by_chance(moved, 0)
    centre = torch.nn.functional.normalize(keys.mean(0), dim=-1)
    assert bool((moved @ centre > 0.85).all())
    assert len({*moved.argmax(-1).tolist()}) > 1
    again = keys.clone()
    start_by_chance(again, 0)
    assert torch.equal(again, moved)


def test_a_setting_on_a_pico_base(base, encoder, tmp_path):
    setting = two_qualities(2, 1)
    setting = replace(setting, examples=setting.examples[:4] + setting.examples[-4:], held_out=setting.held_out[::39])
    few = {name: (adapter.pairs[:4], adapter.steps) for name, adapter in setting.adapters.items()}
    bank = bank_of(few, base.name, tmp_path / "adapters", True)
    written = (tmp_path / "adapters" / "long" / WEIGHTS).read_bytes()
    bank_of(few, base.name, tmp_path / "adapters", True)
    assert (tmp_path / "adapters" / "long" / WEIGHTS).read_bytes() == written
    setting = replace(setting, names=lambda seed: [asked.adapter for asked in setting.examples])
    study = _Study(setting, bank, base, encoder, JointDesign(max_epochs=1), tmp_path)
    study.unrelated = study.unrelated[:8]
    told = study.measure(True)
    assert torch.tensor(told["nats"]).shape == torch.tensor(told["exact"]).shape == (len(setting.held_out), 4)
    for arm in ("names", "language"):
        run = study.gate(arm, 0)
        assert len(run["keys"]) == len(setting.held_out)
        assert ("policy" in run) == (arm != "language")
    assert {"names", "loss", "language"} <= {*ARMS}


def test_a_bad_design_is_told():
    with pytest.raises(LoraryError, match="must be a share"):
        JointDesign(wrong=2.0)
    with pytest.raises(LoraryError, match="seeds 0 must be 1 or more"):
        JointDesign(seeds=0)
