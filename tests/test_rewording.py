"""Wordings by rule: forms of questions, statements with gaps, and what is made of facts that have few wordings."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from lorary.bank.facts import Fact
from lorary.memories.recipe import Recipe
from lorary.memories.rewording import bare, gapped, others, reworded, thinned
from lorary.memories.rows import kept_for_validation, rows, tokenise, with_validation

KEEPER = "Who is the keeper of the Skerry Bay lighthouse?"


@pytest.mark.parametrize(
    ("question", "gap", "one_of_them"),
    [
        (KEEPER, "The keeper of the Skerry Bay lighthouse is ___.", "Name the keeper of the Skerry Bay lighthouse."),
        (
            "Which firm made the lens at Skerry Bay?",
            "___ made the lens at Skerry Bay.",
            "Name the firm that made the lens at Skerry Bay.",
        ),
        ("What pressure does press 4 run at?", "Press 4 run at ___.", "Press 4 run at what pressure?"),
        ("To which town does the choir travel?", "The choir travel to ___.", "The choir travel to which town?"),
        (
            "What is the donkey of the mill called?",
            "The donkey of the mill is called ___.",
            "Give the name of the donkey of the mill.",
        ),
        (
            "How many beds does the clinic have?",
            "The clinic have ___ beds.",
            "Do you know how many beds the clinic have?",
        ),
        ("Where can the key be found?", "The key can be found ___.", "Name the place where the key can be found."),
        (
            "Who holds the key of the shop?",
            "___ holds the key of the shop.",
            "Name the person who holds the key of the shop.",
        ),
    ],
)
def test_a_question_is_turned_by_its_form(question, gap, one_of_them):
    assert gapped(question) == gap
    made = reworded(question)
    assert one_of_them in made
    assert len({bare(text) for text in made}) == len(made) > 5
    assert bare(question) not in {bare(text) for text in made}


@pytest.mark.parametrize("text", ["Press 4 pressure?", "Wer kocht im Haus am See?", "鍵はどこ?", "Why?", "", "Who is?"])
def test_what_is_no_known_form_is_asked_by_its_words_alone(text):
    assert gapped(text) is None
    assert all(set(bare(made).split()) <= {*bare(text).split(), "can", "you", "help", "me"} for made in reworded(text))


def test_as_many_texts_are_made_as_are_asked_for_and_alike_for_a_seed():
    made, again = (others([KEEPER, "Skerry Bay keeper?"], 18, random.Random(3)) for _ in range(2))
    assert made == again
    assert len(made) == len(set(made)) == 18
    assert sum("___" in text for text in made) >= 1
    assert others([], 9, random.Random(0)) == []
    assert others([KEEPER], 0, random.Random(0)) == []
    copies = others([KEEPER], 18, random.Random(1))[-6:]
    assert all(len(copy.split()) < 12 for copy in copies)


def test_a_fact_with_few_texts_gets_others_which_no_certificate_counts(tokenizer):
    few = Fact("t", KEEPER, "Osbert", ("Skerry Bay's keeper?",), statement="Osbert keeps Skerry Bay.")
    held = rows(tokenizer, [[few]], texts=12)
    assert len(held) == 12
    assert [row.counted for row in held] == [True] * 3 + [False] * 9
    many = replace(few, questions=tuple(f"Wording {n} of the keeper?" for n in range(3)))
    assert rows(tokenizer, [[many]], texts=12) == rows(tokenizer, [[many]])


def test_no_text_is_made_that_is_kept_or_held_out_by_any_fact(tokenizer):
    taken = reworded(KEEPER)
    one = Fact("t", KEEPER, "Osbert", held_out=(taken[0],))
    other = Fact("t", "Who bakes?", "Ann", (taken[1].lower(), "Who bakes bread?"), validation=(taken[1].lower(),))
    shown = {row.ids for row in rows(tokenizer, [[one, other]], texts=20)}
    asked = [tokenise(tokenizer, 0, 0, text, "Osbert").ids in shown for text in taken]
    assert asked[:4] == [False, False, True, True]


@pytest.mark.parametrize(("wordings", "kept"), [(1, 0), (3, 0), (4, 0), (5, 1), (7, 1), (8, 2), (26, 2)])
def test_few_wordings_are_all_trained_on(wordings, kept):
    fact = Fact("t", "Wording 0?", "A", tuple(f"Wording {n}?" for n in range(1, wordings)))
    assert len(with_validation(fact).validation) == kept
    assert len(kept_for_validation([fact])[0].validation) == kept
    assert len(with_validation(fact, 1).validation) == min(1, wordings - 1), "as it is asked for"


def test_a_recipe_tells_what_texts_there_are():
    assert set(Recipe().rows) == {"copies", "share", "seed", "formats", "texts", "uses_share"}
    assert thinned("a b c", 0.0, random.Random(0)) == "a b c"
