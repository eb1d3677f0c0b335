"""Long documents: chunks, gaps, and the questions of NarrativeQA's and QuALITY's files; a story by seed."""

from __future__ import annotations

import json

import pytest
from test_eval_tasks import questions_of

from lorary.bank.facts import Fact
from lorary.bank.memory import Memory
from lorary.eval.contexts import Contexts
from lorary.eval.questions import Question
from lorary.eval.tasks.generated import TaskError
from lorary.eval.tasks.joined import story
from lorary.eval.tasks.long_documents import chunks, gaps, longdoc, sentences

TEXT = """Mr. Brisk walked in. "Where is Halvard Olsen?" he asked. Nobody answered him.

In 1912 the town of Ormen had 4,000 people. The mayor, Anna Quill, lived in Tresk. Nobody answered him."""
TOLD = [
    "Mr. Brisk walked in.",
    '"Where is Halvard Olsen?" he asked.',
    "Nobody answered him.",
    "In 1912 the town of Ormen had 4,000 people.",
    "The mayor, Anna Quill, lived in Tresk.",
    "Nobody answered him.",
]


def write(path, *lines):
    path.write_text("\n".join(json.dumps(line) for line in lines))
    return str(path)


def test_a_text_is_cut_at_sentences():
    assert sentences(TEXT) == TOLD
    assert chunks(TOLD, 13) == [TOLD[:3], TOLD[3:4], TOLD[4:]]
    assert chunks(TOLD, 1) == [[sentence] for sentence in TOLD], "a longer sentence is a chunk of its own"


def test_a_sentence_is_taught_by_each_of_its_gaps():
    facts = list(gaps("a", TOLD[2:5]))
    assert [(fact.question, fact.answer) for fact in facts[:3]] == [
        ("Fill the gap. Nobody ___ him.", "answered"),
        ("Fill the gap. Nobody answered him. In ___ the town of Ormen had 4,000 people.", "1912"),
        ("Fill the gap. Nobody answered him. In 1912 the town of ___ had 4,000 people.", "Ormen"),
    ]
    assert {fact.statement for fact in facts} == set(TOLD[2:5])


@pytest.mark.parametrize(
    ("sentence", "answer", "gapped"),
    [
        ("The painter Rene\u0301e Nin\u0303o left.", "Rene\u0301e Nin\u0303o", "The painter ___ left."),
        ("हिन्दी भारत की राजभाषा है", "राजभाषा", "हिन्दी भारत की ___ है"),
        ("It has 10² rooms, 4,000, no. 7: see.", "4,000", "It has 10² rooms, ___, no. 7: see."),
    ],
)
def test_no_gap_cuts_a_word_with_combining_marks(sentence, answer, gapped):
    fact = next(gaps("a", [sentence]))
    assert (fact.answer, fact.question) == (answer, f"Fill the gap. {gapped}")


def test_a_text_alone_is_asked_its_gaps_as_taught(tmp_path):
    (tmp_path / "town.txt").write_text(TEXT)
    asked = questions_of(longdoc(str(tmp_path / "town.txt"), chunk_words=13), tmp_path)
    assert {q.memory for q in asked} == {"town-1", "town-2", "town-3"}
    assert all(q.trained for q in asked)


def test_questions_go_to_the_chunk_that_answers(tmp_path):
    (tmp_path / "town.txt").write_text(TEXT)
    line = {"question": "Where did the mayor of the town live?", "answers": ["Tresk", "in Tresk"]}
    file = write(tmp_path / "asked.jsonl", line)
    (asked,) = questions_of(longdoc(str(tmp_path / "town.txt"), questions=file, chunk_words=13), tmp_path)
    assert (asked.memory, asked.answer, asked.accepted) == ("town-3", "Tresk", ("in Tresk",))
    with pytest.raises(TaskError, match=r"asked.jsonl:1: needs 'answer', a string"):
        longdoc(str(tmp_path / "town.txt"), questions=write(tmp_path / "asked.jsonl", {"question": "Who?"}))


def test_a_story_is_followed_from_heir_to_heir(tmp_path):
    made = story(chapters=5, people=2, stated=2, hops=3, seed=1)
    assert made == story(chapters=5, people=2, stated=2, hops=3, seed=1)
    heirs = {f.statement.split(" made ")[0]: f.answer for f in made.facts if " made " in f.statement}
    held = {(f.topic, f.answer): f for f in made.facts}
    asked = [q for q in questions_of(made, tmp_path) if q.kind == "3-hop"]
    assert len(asked) == 3 * 2 * 2, "of the last three chapters, two people, two attributes"
    for q in asked:
        first = next(name for name in heirs if f"the heir of the heir of {name}" in q.text)
        assert heirs[heirs[first]] in held[q.memory, q.answer].question
    with pytest.raises(TaskError, match="6 hops cannot be made in 5 chapters"):
        story(chapters=5, hops=6)


def test_a_sentence_with_several_gaps_is_one_passage(composite):
    facts = tuple(Fact("lamps", f"Gap {i}?", f"a{i}", statement="One sentence.") for i in range(3))
    held = composite.router.bank.memories["lamps"]
    memory = Memory("lamps", held.adapter_config, held.tensors, facts).with_keys(composite.router.get_encoder())
    composite.remove_memory("lamps")
    composite.add_memory(memory)
    question = Question("Gap 1?", "a", "lamps", "f")
    passages = Contexts(composite, wanted=3)
    assert passages.of("topic", [question]) == ["One sentence."]
    assert passages.of("index", [question])[0].count("One sentence.") == 1
    assert passages.of("all", [question])[0].count("One sentence.") == 1
    assert len(passages.of("index", [question])[0].splitlines()) == 3
