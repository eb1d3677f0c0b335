"""Questions about documents: how files are read, and what draws train on and ask."""

from __future__ import annotations

import json

import pytest
from question_files import ABOUT, article

from lorary.bank.documents import Passage
from lorary.eval.tasks.generated import TaskError
from lorary.research.route_draws import NEW, REWORDED, draw_questions, strange_topics
from lorary.research.route_files import Line, Topic, read_question_file
from lorary.research.settings import StudyError


def test_articles_are_topics_with_their_paragraphs(squad, tmp_path):
    file = read_question_file(squad)
    assert [topic.name for topic in file.topics] == ["Kelp-algae", "Ormen-Station", "Velka", "articles-4"]
    assert file.topics[1].documents == (Passage(ABOUT["Ormen Station"][2], "Ormen Station"),)
    assert file.topics[0].lines[0] == Line(("Where would somebody find the kelp?",), "x")
    odd = {
        "data": [
            article("Velka", ["Who drives?", "who  DRIVES?", "When was it founded?"], "One."),
            article("Velka", ["Who pays?"], "Two."),
            article("Kelp", ["Where?", "When was it founded?"], " "),
        ]
    }
    odd["data"][0]["paragraphs"][0]["qas"].append({"question": "Who?", "answers": [], "is_impossible": True})
    (tmp_path / "odd.json").write_text(json.dumps(odd))
    file = read_question_file(tmp_path / "odd.json")
    assert [(topic.name, topic.documents) for topic in file.topics] == [
        ("Velka", (Passage("One.", "Velka"), Passage("Two.", "Velka"))),
        ("Kelp", ()),
    ]
    questions = [line.questions[0] for topic in file.topics for line in topic.lines]
    assert questions == ["Who drives?", "Who pays?", "Where?"], "no router could tell who asks when it was founded"
    assert file.left_out == {"questions without an answer": 1, "wordings that stand twice or in two topics": 3}


def test_authors_are_topics_and_their_answers_what_was_read(authors):
    file = read_question_file(authors)
    assert [topic.name for topic in file.topics] == [f"author-{number}" for number in range(4)]
    assert file.topics[1].lines[0].reworded == ("Which work did Bo publish during the year 1990?",)
    assert file.topics[1].documents[0] == Passage("In 1990 Bo wrote a book on wool.", "author-1")
    assert len(file.topics[1].documents) == 5


def test_a_folder_holds_facts_and_documents(tmp_path):
    facts = {"kelp": [{"question": "Where?", "answer": "Sea", "held_out": ["In which place?"]}]}
    facts["velka"] = [{"question": "Who?", "questions": ["Whom?"], "answer": "I"}]
    for topic, lines in facts.items():
        (tmp_path / f"{topic}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "kelp.md").write_text("# Kelp\n\nIt grows.")
    (tmp_path / "velka.txt").write_text("Green.")
    (tmp_path / "other.md").write_text("No question is about this.")
    kelp, velka = read_question_file(tmp_path).topics
    assert kelp == Topic(
        "kelp", (Line(("Where?",), "Sea", ("In which place?",)),), (Passage("Kelp: It grows.", "kelp.md"),)
    )
    assert velka == Topic("velka", (Line(("Who?", "Whom?"), "I"),), (Passage("Green.", "velka.txt"),))


@pytest.mark.parametrize(
    ("name", "content", "error", "told"),
    [
        ("a.json", '{"data": {}}', StudyError, "give SQuAD's JSON"),
        ("a.json", '{"data": [{"title": "A", "paragraphs": [{"qas": []}]}]}', StudyError, "without a 'context'"),
        ("a.json", "{", TaskError, "not one JSON document"),
        ("a.json", '{"data": []}', StudyError, "two topics or more, and it has 0"),
        ("a.jsonl", '{"author": "A", "question": "Q?", "answer": "x"}', StudyError, "'paraphrased_question' must be"),
        ("a.jsonl", '{"topic": "A", "question": "Q?"}', ValueError, "'answer' is missing"),
    ],
)
def test_what_cannot_be_used_is_told(tmp_path, name, content, error, told):
    (tmp_path / name).write_text(content)
    with pytest.raises(error, match=told):
        read_question_file(tmp_path / name)


def test_a_draw_parts_questions_and_asks_no_near_copy(squad, authors):
    topics = read_question_file(squad).topics
    draw = draw_questions(topics, 0)
    trained = [fact for fact in draw.facts if fact.trained]
    assert (len(trained), len(draw.facts) - len(trained), len(draw.asked)) == (16, 4, 4), "4, 1 and 1 of six"
    assert draw == draw_questions(topics, 0) != draw_questions(topics, 1)
    used = {wording for fact in draw.facts for wording in (*fact.trained, *fact.validation)}
    assert not used & {question.text for question in draw.asked}
    assert draw.met == 0
    (question,) = (question for question in draw.asked if question.topic == "Velka")
    elsewhere = Topic("copies", (Line((f"So {question.text.lower()}",), "x"),))
    again = draw_questions([*topics, elsewhere], 0)
    assert again.met == 1
    assert set(draw.asked) - set(again.asked) == {question}, "one word apart from what another topic trains"
    tofu = draw_questions(read_question_file(authors).topics, 0)
    kinds = {kind: [q for q in tofu.asked if q.kind == kind] for kind in (NEW, REWORDED)}
    assert {kind: len(asked) for kind, asked in kinds.items()} == {NEW: 4, REWORDED: 12}
    assert all(question.text.startswith("Which work") for question in tofu.asked)
    numbers = {(question.topic, question.number) for question in kinds[NEW]}
    assert not numbers & {(question.topic, question.number) for question in kinds[REWORDED]}


def test_strangers_are_whole_topics(authors):
    topics = read_question_file(authors).topics
    (left_out,) = strange_topics(topics, None, 0)
    draw = draw_questions(topics, 0, [left_out])
    assert left_out not in draw.documents
    assert {fact.topic for fact in draw.facts} == {topic.name for topic in topics} - {left_out}
    assert [question.topic for question in draw.strangers] == [left_out] * 5
    assert draw.facts == [fact for fact in draw_questions(topics, 0).facts if fact.topic != left_out]
    assert len({tuple(strange_topics(topics, 2, seed)) for seed in range(9)}) > 1
    assert strange_topics(topics, 0, 0) == []
    with pytest.raises(StudyError, match="3 topics cannot be left out as strangers: 4 topics can spare 0 to 2"):
        strange_topics(topics, 3, 0)
