"""Tasks: what is made by seed or read from files builds, asks, and leaks nothing."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from lorary.__main__ import main
from lorary.bank.bank import MemoryBank
from lorary.bank.facts import FactError
from lorary.bank.memory import Memory
from lorary.eval import recall
from lorary.eval.questions import held_out
from lorary.eval.tasks.generated import TaskError, phonebook, profiles, twohop, unknown
from lorary.eval.tasks.joined import story, twotopics
from lorary.eval.tasks.published import counterfact, qa
from lorary.eval.tasks.uses import uses
from lorary.memories import build
from lorary.memories.topics import read_topics
from lorary.memories.writing import Recipe
from lorary.model.composite import assemble

SQUAD = {
    "data": [
        {
            "title": "Ormen Station",
            "paragraphs": [
                {
                    "context": "Halvard cooks.",
                    "qas": [
                        {"question": "Who cooks?", "answers": [{"text": "Halvard"}, {"text": "Halvard B."}]},
                        {"question": "Who sweeps?", "answers": [], "is_impossible": True},
                        {"question": "Who sails?", "answers": [{"text": "Brisk"}]},
                    ],
                }
            ],
        },
        {
            "title": "Velka",
            "paragraphs": [{"context": "", "qas": [{"question": "Who sails?", "answers": [{"text": "Quill"}]}]}],
        },
    ]
}


def record(number, subject, new, true, neighbours):
    rewrite = {"prompt": "The mother tongue of {} is", "subject": subject}
    return {
        "case_id": number,
        "requested_rewrite": {**rewrite, "target_new": {"str": new}, "target_true": {"str": true}},
        "paraphrase_prompts": [f"{subject}, a native speaker of", f"the Mother tongue of {subject} is"],
        "neighborhood_prompts": neighbours,
    }


COUNTERFACT = [
    record(0, "Danielle", "English", "French", ["The mother tongue of Leon is", "The mother tongue of Maurice is"]),
    record(1, "Maurice", "Thai", "French", ["The mother tongue of Leon is"]),
]


def bank_of(task) -> MemoryBank:
    """A bank that holds a task's facts, without adapters."""
    topics = {}
    for fact in task.facts:
        topics.setdefault(fact.topic, []).append(fact)
    memories = {name: Memory(name, {}, {}, tuple(facts)) for name, facts in topics.items()}
    return MemoryBank("base", "", "", {}, "layers", memories=memories)


def questions_of(task, folder):
    """The questions as `lorary recall` reads them, after its check for leaks."""
    task.write(folder)
    assert set(read_topics([folder / "facts.jsonl"])) == {fact.topic for fact in task.facts}
    return held_out(bank_of(task), folder / "questions.jsonl")[0]


@pytest.mark.parametrize("make", [phonebook, profiles, twohop, unknown, story, twotopics, uses])
def test_a_task_is_its_seed_s_and_leaks_nothing(make, tmp_path):
    assert make(seed=1) == make(seed=1)
    assert make(seed=1).facts != make(seed=2).facts
    assert len(questions_of(make(), tmp_path)) >= 40


def test_a_phonebook_is_of_any_size_in_equal_shards():
    made = phonebook(facts=250, shards=16)
    sizes = {}
    for fact in made.facts:
        sizes[fact.topic] = sizes.get(fact.topic, 0) + 1
    assert len(sizes) == 16
    assert set(sizes.values()) == {15, 16}
    assert len({fact.answer for fact in made.facts}) == len({fact.question for fact in made.facts}) == 250
    assert phonebook(250, 16, seed=3).facts != made.facts


def test_profiles_ask_in_every_kind(tmp_path):
    made = profiles(entities=8, topics=2, stated=3)
    asked = questions_of(made, tmp_path)
    assert {q.kind for q in asked} == {"unseen", "indirect", "reversed", "near-miss"}
    owner = {fact.answer: fact for fact in made.facts}
    for q in asked:
        if q.kind == "reversed":
            value = next(value for value in owner if value in q.text)
            assert q.answer in owner[value].question
            assert q.memory == owner[value].topic
        if q.kind == "near-miss":
            assert (q.memory, q.answer) == ("", None)
            assert q.text not in {w for fact in made.facts for w in (fact.question, *fact.questions)}
    split = profiles(entities=8, stated=3, split="attribute")
    assert len({fact.topic for fact in split.facts}) == 3


def test_what_is_unknown_is_in_no_fact(tmp_path):
    made = unknown(entities=6, topics=2)
    told = " ".join(fact.statement for fact in made.facts)
    strangers = [q for q in questions_of(made, tmp_path) if q.kind == "other-entity"]
    assert len(strangers) == 6
    for q in strangers:
        names = [word.strip("?,.'s") for word in q.text.split() if word[0].isupper()]
        assert not any(f"{a} {b}" in told for a, b in pairwise(names))


def test_two_hops_join_two_memories(tmp_path):
    made = twohop(people=10, topics=2)
    firm_of = {fact.question: fact.answer for fact in made.facts if fact.topic.startswith("people")}
    town_of = {fact.statement.split()[2]: fact for fact in made.facts if fact.topic.startswith("firms")}
    joined = [line for line in made.questions if line["kind"] == "two-hop"]
    assert len(joined) == 10
    for line in joined:
        town = town_of[firm_of[line["question"]]]
        assert (line["answer"], line["topic"]) == (town.answer, town.topic)
    questions_of(made, tmp_path)


def test_squad_articles_are_topics(tmp_path):
    (tmp_path / "squad.json").write_text(json.dumps(SQUAD))
    made = qa(str(tmp_path / "squad.json"))
    assert [(fact.topic, fact.answer) for fact in made.facts] == [("Ormen-Station", "Halvard")], "two answers: left out"
    known, unanswerable = questions_of(made, tmp_path)
    assert (known.trained, known.accepted) == (True, ("Halvard B.",))
    assert (unanswerable.kind, unanswerable.answer) == ("unanswerable", None)


def test_lines_of_questions_and_answers(tmp_path):
    lines = [
        {"question": "Who cooks?", "answers": ["Halvard", "the cook"], "topic": "ormen", "held_out": ["The chef is?"]},
        {"question": "Who sails?", "answer": "Brisk"},
    ]
    (tmp_path / "crew list.jsonl").write_text("\n".join(map(json.dumps, lines)))
    made = qa(str(tmp_path / "crew list.jsonl"))
    asked = questions_of(made, tmp_path)
    assert [(q.text, q.memory, q.trained, q.accepted) for q in asked] == [
        ("The chef is?", "ormen", False, ("the cook",)),
        ("Who sails?", "crew-list", True, ()),
    ]
    (tmp_path / "bad.jsonl").write_text('{"question": "Who?", "answers": [3]}')
    with pytest.raises(TaskError, match=r"bad.jsonl:1: needs 'answer'"):
        qa(str(tmp_path / "bad.jsonl"))


def test_counterfact_has_its_three_kinds(tmp_path):
    (tmp_path / "counterfact.json").write_text(json.dumps(COUNTERFACT))
    asked = questions_of(counterfact(str(tmp_path / "counterfact.json"), shards=2), tmp_path)
    assert [(q.kind, q.text, q.answer, q.memory) for q in asked] == [
        ("efficacy", "The mother tongue of Danielle is", "English", "counterfact-1"),
        ("paraphrase", "Danielle, a native speaker of", "English", "counterfact-1"),
        ("efficacy", "The mother tongue of Maurice is", "Thai", "counterfact-2"),
        ("paraphrase", "Maurice, a native speaker of", "Thai", "counterfact-2"),
        ("neighbourhood", "The mother tongue of Leon is", "French", ""),
    ], "a near copy is no paraphrase, and what is taught is no neighbour"
    assert [q.options for q in asked[:2]] == [("English", "French")] * 2
    assert asked[-1].options == ("English", "French"), "as in the first record that has it"
    with pytest.raises(TaskError, match="cannot be spread over 3 shards"):
        counterfact(str(tmp_path / "counterfact.json"), shards=3)


def test_the_command_writes_what_recall_takes(base, encoder, tmp_path, capsys):
    assert main(["task", "profiles", "--entities=4", "--topics=2", "--stated=1", "--out", str(tmp_path)]) == 0
    assert "4 facts on 2 topics" in capsys.readouterr().out
    quick = Recipe(split_layer=1, max_epochs=1)
    bank = build([tmp_path / "facts.jsonl"], out=tmp_path / "bank", base=base, recipe=quick, quiet=True)
    asked = {"questions": tmp_path / "questions.jsonl", "conditions": ("base", "policy"), "quiet": True}
    results = recall(assemble(bank, base, encoder=encoder), out=tmp_path / "run", **asked)
    kinds = results["conditions"]["policy"]["by_kind"]
    assert {kind: told["questions"] for kind, told in kinds.items()} == {
        "unseen": 8,
        "indirect": 4,
        "reversed": 4,
        "near-miss": 4,
    }


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["qa", "nowhere.json"], "nowhere.json: cannot be read"),
        (["qa", "{}"], "is not an object with 'data'"),
        (["counterfact", "{}"], "record 1 is not one of CounterFact's"),
        (["phonebook", "--facts=3", "--shards=4"], "3 things cannot be spread over 4 topics; give 1 to 3 topics"),
        (["phonebook", "--facts=0"], "phonebook of 0 things cannot be made; give 1 or more"),
        (["phonebook", "--facts=20000000", "--shards=1"], "20000000 different names or numbers cannot be invented"),
        (["story", "--people=0"], "8 chapters of 0 people cannot be made; give 1 or more of each"),
        (["twohop", "--people=2"], "2 people cannot be spread over 4 topics; give 3 or more"),
        (["twotopics", "--questions=0"], "0 pairs of facts cannot be made"),
        (["longdoc", "{}", "--documents=0"], "0 documents cannot be taken; give 1 or more"),
        (["counterfact", "{}", "--facts=-1"], "-1 records cannot be taken; give 1 or more"),
        (["profiles", "--stated=8"], "8 stated attributes are not possible; give 1 to 7"),
        (["twohop", "--topics=3"], "two hops need an even number of topics, 3 given"),
        (["twotopics", "--topics=1"], "two topics need two memories or more, 1 given"),
        (["twotopics", "--entities=2", "--topics=2", "--stated=1"], "40 pairs of facts cannot be made; give 1 to 2"),
    ],
)
def test_a_task_that_cannot_be_made_is_one_line(given, told, tmp_path, capsys):
    (tmp_path / "other.json").write_text("[1]")
    given = [str(tmp_path / "other.json") if word == "{}" else word for word in given]
    assert main(["task", *given, "--out", str(tmp_path / "out")]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_place_of_the_folder_is_one_line(tmp_path, capsys):
    (tmp_path / "out").write_text("")
    assert main(["task", "phonebook", "--facts=4", "--out", str(tmp_path / "out")]) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["phonebook", "profiles", "twohop", "unknown", "story", "twotopics"])
def test_each_task_s_help_tells_its_options(name, capsys):
    assert main(["task", name, "--help"]) == 0
    assert "--seed N" in capsys.readouterr().out


def test_facts_that_contradict_are_not_written(tmp_path):
    made = phonebook(facts=4, shards=1)
    fact = made.facts[0]
    both = type(made)((*made.facts, type(fact)(fact.topic, fact.question, "another")), made.questions)
    with pytest.raises(FactError, match="has two answers"):
        both.write(tmp_path / "out")
