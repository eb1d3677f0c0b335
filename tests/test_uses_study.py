"""The study of uses: two banks a seed are written, asked and told apart by who was taught."""

from __future__ import annotations

import pytest
from conftest import pico_model

from lorary.bank.bank import MemoryBank
from lorary.eval.records import Prediction
from lorary.memories.recipe import Recipe
from lorary.model.composite import assemble, base_of
from lorary.research import uses_study as module
from lorary.research.settings import StudyError, Uses
from lorary.resume import ResumeError
from lorary.routing.encoder import load_encoder


@pytest.fixture(scope="module")
def pico_base(tmp_path_factory, tokenizer):
    """The folder of a pico base."""
    folder = tmp_path_factory.mktemp("base")
    pico_model().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def _untrained(bank, out, training, quiet):
    """Saves a composite whose gate nothing trained."""
    loaded = MemoryBank.load(bank)
    assemble(loaded, base_of(loaded), encoder=load_encoder(loaded.encoder)).save_pretrained(out)


def test_the_study_tells_every_use_and_refuses_other_settings(pico_base, tmp_path, monkeypatch):
    quick = {"split_layer": 1, "max_epochs": 1, "r": 2, "texts": 0}
    formats = {"default": ("questions", "cloze"), "uses": ("questions", "cloze", "uses")}
    monkeypatch.setattr(
        module,
        "recipes",
        lambda study, seed: {
            name: Recipe(**quick, seed=seed, formats=own, uses_share=study.taught) for name, own in formats.items()
        },
    )
    monkeypatch.setattr(module, "train_router", _untrained)
    monkeypatch.setattr(module, "ASKED", {"default": ("lookup", "oracle"), "uses": ("oracle",)})
    study = Uses(entities=4, topics=1, stated=2, seeds=1, recipes=("default", "uses"))
    results = module.uses_study(tmp_path / "study", study=study, base=pico_base, quiet=True)
    assert set(results["uses"]) == {"default: lookup", "default: oracle", "uses: oracle"}
    assert results["uses"]["default: lookup"]["direct"]["value"] > 0.9
    assert results["uses"]["default: lookup"]["reversed"]["value"] == 0.0
    assert results["by_seed"]["default: lookup"]["reversed"] == [0.0]
    assert set(results["halves"]) == {"taught", "not taught"}
    report = (tmp_path / "study" / "report.md").read_text()
    assert "| reversed |" in report
    assert not results["partial"]
    alone = Uses(entities=4, topics=1, stated=2, seeds=1, recipes=("default",))
    results = module.uses_study(tmp_path / "alone", study=alone, base=pico_base, quiet=True)
    assert set(results["uses"]) == {"default: lookup", "default: oracle"}
    assert "What was taught" not in (tmp_path / "alone" / "report.md").read_text()
    other = Uses(entities=4, topics=1, stated=2, seeds=1, recipes=("default", "uses"), taught=1.0)
    with pytest.raises(ResumeError, match="taught"):
        module.uses_study(tmp_path / "study", study=other, base=pico_base, quiet=True)


def test_intervals_are_as_wide_as_seeds_are_apart():
    def scored(right):
        return [
            (
                seed,
                Prediction(
                    condition="policy",
                    question="q",
                    answer="a",
                    fact=str(fact),
                    kind="direct",
                    contains=float(fact < right[seed]),
                ),
            )
            for seed in right
            for fact in range(20)
        ]

    alike, apart = (module.by_use(scored(own))["direct"] for own in ({0: 10, 1: 10, 2: 10}, {0: 0, 1: 10, 2: 20}))
    assert alike["value"] == apart["value"] == 0.5
    assert alike["high"] - alike["low"] < 0.3
    assert (apart["low"], apart["high"]) == (0.0, 1.0)


def test_a_study_of_no_seed_is_refused():
    with pytest.raises(StudyError, match="seeds"):
        Uses(seeds=0)


def test_a_study_of_unknown_recipes_is_refused():
    with pytest.raises(StudyError, match=r"recipes must be some of .*'turned'.*'reversed'"):
        Uses(recipes=("reversed",))


def test_recipes_are_measured_once_each_and_in_one_order():
    assert Uses(recipes=("turned", "default", "turned")) == Uses(recipes=("default", "turned"))
