"""What a gate of tokens is trained on: sequences that pass from memory to memory, over memories that can go on."""

from __future__ import annotations

import random
import warnings
from dataclasses import replace

from lorary.base.prompts import prompt, prompt_ids
from lorary.base.several import answers_ids, two_questions, uncapitalised
from lorary.eval.questions import similarity, unrelated_text, words
from lorary.router_training.going_on import SequelWarning
from lorary.router_training.sequences import Asked, asked_in_turn, drawn_pairs, drawn_prose, drawn_texts, prose, text_of
from lorary.router_training.settings import Training
from lorary.router_training.training import train_router


def test_answers_in_a_row_are_read_under_the_memory_that_goes_on(tokenizer):
    first, second = Asked("Who cooks at Ormen?", 0, "Halvard"), Asked("Ormen airlock code?", 2, "4173")
    whole = f"{first.text} {second.text}"
    sequence = asked_in_turn(tokenizer, (first, second), whole)
    text = prompt(tokenizer, whole)
    one, two = answers_ids(tokenizer, text, ("Halvard", "4173"))
    ids = prompt_ids(tokenizer, [text])[0]
    assert sequence.ids == (*ids, *one, *two)
    assert tokenizer.decode([*one, *two], skip_special_tokens=True) == "Halvard and 4173"
    answer = sequence.part[sequence.start :]
    assert answer == (*[1] * (len(one) - 1), 2, *[2] * len(two)), "after 'and' the second is read for"
    assert sequence.part[sequence.start - 1] == 1, "the end of a prompt is read for its first answer"
    asked = [
        token for token, part in zip(sequence.ids[: len(ids)], sequence.part[: len(ids)], strict=True) if part == 2
    ]
    assert tokenizer.decode(asked).strip() == second.text
    assert set(zip(sequence.part, sequence.memory, strict=True)) == {(1, 0), (2, 2)}


def test_a_text_is_read_under_the_memory_of_each_span(tokenizer):
    spans = [("Halvard cooks at Ormen.", 0), ("The lamplighters burn lark oil.", 2)]
    sequence = text_of(tokenizer, spans)
    for number, (span, memory) in enumerate(spans):
        ids = [token for token, own in zip(sequence.ids, sequence.memory, strict=True) if own == memory]
        assert tokenizer.decode(ids).strip() == span, number
    assert set(sequence.part) == {0}


def test_drawn_sequences_pass_from_memory_to_memory(tokenizer):
    chance = random.Random(0)
    texts = drawn_texts(tokenizer, [["One is here."], ["Two is there.", "Two stays."], []], ["Why?"], 20, chance)
    assert all(len(set(text.memory)) > 1 for text in texts)
    assert {number for text in texts for number in text.memory} == {0, 1, 3}
    assert not drawn_texts(tokenizer, [["One."], []], [], 5, chance), "one source changes no topic"
    questions = [Asked("Who is A?", 0, "X"), Asked("Who is B?", 1, "Y")]
    pairs = drawn_pairs(tokenizer, questions, 20, chance)
    assert all(set(pair.memory) == {0, 1} for pair in pairs)
    assert not drawn_pairs(tokenizer, questions[:1], 5, chance)


def test_shipped_prose_is_nones_and_nothing_that_damage_is_measured_on(tokenizer):
    runs = drawn_prose(tokenizer, 3, 20, random.Random(0))
    assert {number for run in runs for number in run.memory} == {3}
    assert {number for run in runs for number in run.part} == {0}
    kept = [words(text) for text in unrelated_text()]
    for paragraph in prose():
        assert all(similarity(words(" ".join(paragraph)), own) < 0.25 for own in kept), paragraph


def test_a_second_question_goes_on_in_small_letters():
    assert uncapitalised("Which oil burns?") == "which oil burns?"
    assert uncapitalised("Ada Kelholm lives where?") == "Ada Kelholm lives where?"
    drawn = {two_questions("Who is A?", "What is B?", random.Random(seed)) for seed in range(40)}
    assert any(text == "Who is A, and also what is B?" for text in drawn)


def test_memories_that_end_after_one_answer_are_named_where_the_gate_decides_by_token(bank, base, tmp_path):
    def told(formats):
        for name, memory in list(bank.memories.items())[1:]:
            bank.memories[name] = replace(memory, card={**memory.card, "recipe": {"formats": formats}})
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            train_router(bank, out=tmp_path / "composite", base=base, training=training, quiet=True)
        return [str(one.message) for one in caught if one.category is SequelWarning]

    training = Training(granularity="token", max_epochs=1)
    assert told(["questions", "cloze", "sequels"]) == []
    assert told(["text"]) == [], "what was only read does not answer questions"
    (warning,) = told(["questions", "cloze"])
    assert warning.startswith(", ".join(bank.names[1:]) + " learned to answer one question"), "but not what was brought"
    training = Training(max_epochs=1)
    assert told(["questions", "cloze"]) == [], "by query a memory answers one question at a time"
