"""The study of wordings: its settings and texts, equal exposures, and what the base words anew."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, replace
from hashlib import sha256

import pytest

from lorary.bank.facts import Fact
from lorary.memories import writing
from lorary.memories.passes import batches_of_pass
from lorary.memories.recipe import Recipe
from lorary.memories.rewriting import written_from
from lorary.memories.rows import rows
from lorary.memories.writing import Writer, write
from lorary.research.settings import Design
from lorary.research.wording_results import paired_difference
from lorary.research.wording_texts import Setting, keep, recipe_of, reword, settings_of, texts_of

SMALL = Design(counts=(1, 2), texts=3, seeds=2, exposures=8, facts_a_topic=2)


def _pass(writer, wanted, sure, epoch):
    return batches_of_pass(writer.train_rows, writer.recipe, writer.order, wanted, sure, epoch)


def fact(place, answer):
    asked = [f"Who {does} at {place} station?" for does in ("cooks", "bakes", "boils", "fries", "stews", "grills")]
    held = (f"Whose pots are at {place}?", f"The chef of {place} is who?")
    return Fact("stations", asked[0], answer, tuple(asked[1:]), held, f"{answer} cooks at {place}.")


FACTS = [fact("Ormen", "Halvard"), fact("Velka", "Brisk"), fact("Tresk", "Quillon")]


def test_more_wordings_begin_with_the_fewer_and_never_hold_an_asked_one():
    drawn = {}
    for seed in (0, 1):
        for count in (1, 2, 4):
            told = texts_of(FACTS[0], Setting(name="", part="number", wordings=count), seed, {})
            assert told.validation == (
                "Who stews at Ormen station?",
                "Who grills at Ormen station?",
                *FACTS[0].held_out,
            )
            assert told.trained[0] == FACTS[0].question
            assert len(told.trained) == count
            assert not set(told.trained) & set(told.validation)
            drawn[seed, count] = told.trained
        assert drawn[seed, 4][:2] == drawn[seed, 2]
    seeds = {texts_of(FACTS[0], Setting(name="", part="number", wordings=2), seed, {}).trained for seed in range(9)}
    assert len(seeds) > 1, "a seed draws which wordings are trained on"


def test_settings_give_the_texts_that_their_names_tell(tokenizer):
    written = {FACTS[0].question: ("Ormen's cook is who?", "At Ormen, who cooks?", "Who at Ormen cooks?")}
    shown = {}
    for setting in settings_of(SMALL):
        told, recipe = texts_of(FACTS[0], setting, 0, written), recipe_of(SMALL, setting, 0)
        held = rows(tokenizer, [[told]], **recipe.rows)
        shown[setting.name] = [tokenizer.decode(row.ids, skip_special_tokens=True) for row in held]
    counts = {name: len(texts) for name, texts in shown.items()}
    few = ("1 wording", "1 wording + cloze", "2 wordings + cloze")
    made = [counts.pop(f"{name} + rules") for name in few]
    assert set(made) == {Recipe().texts}, "texts in all, whatever there was to make them of"
    assert 2 <= counts.pop("1 wording + 2 thinned") <= 3
    assert counts == {
        "1 wording": 1,
        "2 wordings": 2,
        "3 wordings": 3,
        "3 wordings + cloze": 4,
        "1 wording + cloze": 2,
        "cloze alone": 1,
        "statement alone": 1,
        "1 wording + 2 by the base": 3,
    }
    assert "___ cooks at Ormen." in shown["cloze alone"][0]
    assert shown["statement alone"] == ["Halvard cooks at Ormen."]
    assert "At Ormen, who cooks?" in shown["1 wording + 2 by the base"][2]
    [row] = rows(tokenizer, [[FACTS[0]]], formats=["text"])
    assert (row.start, row.counted) == (1, False), "every token of a statement is learnt, no certificate counts it"
    parts = Design(parts=("generator",))
    assert [s.name for s in settings_of(parts)] == ["8 wordings", "1 wording + 7 thinned", "1 wording + 7 by the base"]


@pytest.mark.parametrize("count", [1, 3, 4])
def test_a_fact_is_shown_as_often_whatever_its_texts(base, count):
    setting = Setting(name="", part="number", wordings=count)
    facts = [texts_of(fact, setting, 0, {}) for fact in FACTS]
    recipe = recipe_of(replace(SMALL, exposures=96), setting, 0)
    writer = Writer(base, [facts], recipe, 1)
    held = writer.train_rows.rows
    # Rows that are certain already are shown all the same.
    chunks = [_pass(writer, range(len(held)), dict.fromkeys(range(len(held)), 1.0), epoch) for epoch in (1, 2, 3, 4)]
    steps = Counter(len(chunk) for made in chunks for chunk in made)
    assert steps == {2: 96, 1: 96}, "the steps are the same"
    shown = Counter(i for made in chunks for chunk in made for i in chunk)
    assert Counter(held[i].fact for i in shown.elements()) == {0: 96, 1: 96, 2: 96}
    assert set(shown.values()) == {96 // count}


def test_a_pass_shows_the_next_texts_of_each_fact_and_few_that_are_certain(base):
    many = [fact(f"Place{number}", f"Answer{number}") for number in range(48)]
    facts = [texts_of(one, Setting(name="", part="number", wordings=4), 0, {}) for one in many]
    writer = Writer(base, [facts], Recipe(texts=0, texts_a_pass=2, formats=("questions",)), 1)
    every = range(len(writer.train_rows.rows))
    for made in (1, 2, 3):
        passes = [[i for chunk in _pass(writer, every, {}, epoch) for i in chunk] for epoch in (2 * made, 2 * made + 1)]
        assert [Counter(writer.train_rows.rows[i].fact for i in shown) for shown in passes] == [
            dict.fromkeys(range(48), 2)
        ] * 2
        assert sorted(passes[0] + passes[1]) == list(every), "two passes show all four"
    sure = dict.fromkeys(every, 1.0)
    shown = Counter(i for epoch in range(1, 11) for chunk in _pass(writer, every, sure, epoch) for i in chunk)
    assert 160 <= shown.total() <= 320, "one time in four of 960"


def test_a_memory_of_few_facts_shows_more_texts_of_each(base):
    facts = [texts_of(fact, Setting(name="", part="number", wordings=4), 0, {}) for fact in FACTS]
    writer = Writer(base, [facts], Recipe(texts_a_pass=2, formats=("questions",), texts=0), 1)
    shown = [i for chunk in _pass(writer, range(12), {}, 1) for i in chunk]
    assert sorted(shown) == list(range(12)), "all that there are, since they are fewer than 96"


def test_validation_wordings_are_asked_once_most_rows_are_likely_right(base, monkeypatch):
    facts = [texts_of(fact, Setting(name="", part="number", wordings=4), 0, {}) for fact in FACTS]
    asked, hits = [], writing._hits

    def counting(writer, store, *given):
        asked.append(store is writer.validation_rows)
        return hits(writer, store, *given)

    monkeypatch.setattr(writing, "_hits", counting)
    for sure, times in ((0.4, 1), (0.6, 3)):
        asked.clear()
        monkeypatch.setattr(writing, "step", lambda writer, optimizer, chunk, sure=sure: dict.fromkeys(chunk, sure))
        write(base, [facts], Recipe(max_epochs=3), 0)
        assert sum(asked) == times


def test_what_a_writer_recalls_is_told_by_fact_and_wording(base):
    facts = [texts_of(fact, Setting(name="", part="number", wordings=2), 0, {}) for fact in FACTS]
    [made] = write(base, [facts], Recipe(max_epochs=60, recall=None, visits=4, lr=1e-2), 0)
    assert [len(hits) for hits in made.trained] == [3, 3, 3], "two wordings and the cloze"
    assert [len(hits) for hits in made.validation] == [4, 4, 4]
    assert made.trained_recall == sum(map(all, made.trained)) / 3 > 0
    assert made.validation_recall == sum(map(all, made.validation)) / 3


def test_what_the_base_said_is_kept_where_it_asks_for_the_fact_anew():
    said = [
        ' "Ormen\'s cook is who?"\nQuestion: Why?',
        "ormen's COOK is who?",
        "Who cooks at Velka station?",
        "Whose pots are at Ormen?",
        "Who cooks at Ormen station?",
        "",
        "At Ormen, who cooks?",
        "Ormen: who?",
    ]
    assert keep(FACTS[0], said, 2) == ("Ormen's cook is who?", "At Ormen, who cooks?")
    year = Fact("t", "What was built in 1931 there?", "A mill")
    assert keep(year, ["What was built there?", "What did 1931 bring?"], 2) == ("What did 1931 bring?",)


def test_the_base_writes_the_same_for_a_seed(base, monkeypatch):
    from lorary.research import wording_texts

    monkeypatch.setattr(wording_texts, "keep", lambda fact, said, count: tuple(said))
    monkeypatch.setattr(base.tokenizer, "padding_side", "right")
    done = []
    first = reword(base, FACTS, 2, advance=done.append)
    assert first == reword(base, FACTS, 2) != reword(base, FACTS, 2, seed=1)
    assert (done, [len(said) for said in first]) == ([3], [4, 4, 4])
    assert len({*first[0]}) > 1, "it samples"
    assert base.tokenizer.padding_side == "right"


def test_a_paired_difference_against_its_definition():
    first, second = [0.0, 0.5, 1.0, 0.5] * 10, [0.5, 0.5, 1.0, 1.0] * 10
    gain = paired_difference(first, second)
    assert gain["value"] == pytest.approx(0.25)
    # the gains are 0.5 or 0, half each: a standard error of 0.25 / sqrt(40)
    assert (gain["low"], gain["high"]) == pytest.approx((0.25 - 1.96 * 0.0395, 0.25 + 1.96 * 0.0395), abs=0.01)
    assert paired_difference(first, first) == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_banks_from_before_recipes_told_formats_go_on():
    def source_of(recipe, *left_out):
        later = (*left_out, "uses_share")
        chosen = {name: value for name, value in asdict(recipe).items() if name not in later}
        return sha256(json.dumps(([FACTS[0].to_json()], chosen, "base"), sort_keys=True).encode()).hexdigest()

    assert written_from([FACTS[0]], Recipe(), "base") == source_of(Recipe(), "formats", "visits", "texts_a_pass")
    other = Recipe(formats=("questions",))
    assert written_from([FACTS[0]], other, "base") == source_of(other, "visits", "texts_a_pass")
    whole = Recipe(compared=None)
    assert written_from([FACTS[0]], whole, "base") == source_of(whole, "formats", "visits", "texts_a_pass", "compared")


def test_a_recipe_of_unknown_formats_is_refused(tokenizer):
    with pytest.raises(ValueError, match="formats must be some of"):
        Recipe(formats=("prose",))
    with pytest.raises(ValueError, match="visits must be 1 or more"):
        Recipe(visits=0)
    with pytest.raises(ValueError, match="gives nothing to train on as"):
        rows(tokenizer, [[Fact("t", "Who?", "Brisk")]], formats=["cloze"])
