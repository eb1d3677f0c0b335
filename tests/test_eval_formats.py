"""CounterFact and SQuAD in the form in which they are published, odd cases included; the content is invented."""

from __future__ import annotations

import json
from random import Random

import pytest
from test_eval_tasks import questions_of

from lorary.__main__ import main
from lorary.eval.tasks.generated import TaskError, invent
from lorary.eval.tasks.published import counterfact, qa

RELATIONS = {
    "P103": ("The mother tongue of {} is", "{}, a native speaker of", ("Tresk", "Velkan", "Ormish")),
    "P159": ("{} is headquartered in", "The headquarters of {} is in", ("Dorrow", "Amberly", "Skerry Bay")),
    "P37": ("In {}, they understand", "In {}, an official language is", ("Tresk", "Velkan", "Ormish")),
}


def record(number, subject, relation="P103", neighbours=("Leon", "Mirel")):
    """A record with the fields of counterfact.json, of which some are not read."""
    prompt, other, values = RELATIONS[relation]
    true, new = Random(number).sample(values, 2)
    return {
        "case_id": number,
        "pararel_idx": 2796 + number,
        "requested_rewrite": {
            "prompt": prompt,
            "relation_id": relation,
            "target_new": {"str": new, "id": "Q1860"},
            "target_true": {"str": true, "id": "Q150"},
            "subject": subject,
        },
        "paraphrase_prompts": [
            f"Nobody went there. He sang of it,  too.\n{other.format(subject)}",
            f"It was built in 1912. {other.format(subject)}",
        ],
        "neighborhood_prompts": [prompt.format(name) for name in neighbours],
        "attribute_prompts": [prompt.format("Quill")],
        "generation_prompts": [f"{subject} lives in"] * 3,
    }


def save(path, told):
    path.write_text(json.dumps(told))
    return str(path)


def test_thousands_of_records_are_read(tmp_path):
    people = invent("person", 2200, Random(0))
    kinds = list(RELATIONS)
    told = [record(i, people[i], kinds[i % 3], people[i + 40 : i + 50]) for i in range(1900)]
    told += [record(2000 + i, f"{people[i]} ", kinds[i % 3]) for i in range(100)]
    made = counterfact(save(tmp_path / "counterfact.json", told), shards=40)
    assert len(made.facts) == 1900
    assert "left out: records on a subject and relation that an earlier one is on (100)" in made.notes
    assert all(fact.question.startswith(("The mother", "In ")) or " is head" in fact.question for fact in made.facts)
    asked = questions_of(made, tmp_path)
    kinds = {kind: sum(q.kind == kind for q in asked) for kind in ("efficacy", "paraphrase", "neighbourhood")}
    assert kinds["efficacy"] == 1900
    assert kinds["paraphrase"] == 3800
    assert kinds["neighbourhood"] > 1900
    assert "\n" not in "".join(q.text for q in asked)


def test_what_cannot_be_asked_is_left_out_and_told(tmp_path, capsys):
    near = record(1, "Honda Civic", "P159")
    near["paraphrase_prompts"] = [
        "Honda is headquartered in",
        "The firm Honda Civic, which sells much, has its seat at",
    ]
    file = save(tmp_path / "counterfact.json", [record(0, "Honda", "P159", ["Honda Civic", "Brisk"]), near])
    assert main(["task", "counterfact", file, "--shards=1", "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert "left out: paraphrases that are copies of what is taught, or nearly so (1)" in told
    assert "left out: neighbourhood prompts that are taught (1)" in told
    questions_of(counterfact(file, shards=1), tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"requested_rewrite": None}, "record 2 is not one of CounterFact's"),
        ({"neighborhood_prompts": [{"prompt": "a", "target": "b"}]}, "record 2 is not one of CounterFact's"),
        ({"prompt": "The mother tongue is"}, "record 2 needs a prompt with {} for its subject"),
        ({"target_true": {"str": " "}}, "record 2 needs a prompt with {} for its subject, and two targets that differ"),
        ({"target_true": None}, "record 2 is not one of CounterFact's"),
        ({"prompt": "{} and {x} of {}"}, None),
    ],
)
def test_a_bad_record_is_told_with_its_number(change, told, tmp_path):
    bad = record(1, "Maurice")
    where = bad if set(change) & set(bad) else bad["requested_rewrite"]
    where.update(change)
    file = save(tmp_path / "counterfact.json", [record(0, "Danielle"), bad])
    if told is None:
        assert counterfact(file, shards=1).facts[1].question == "Maurice and {x} of Maurice"
    else:
        with pytest.raises(TaskError) as error:
            counterfact(file, shards=1)
        assert told in str(error.value)


def squad(*articles):
    """SQuAD 2.0 of (title, questions)."""
    data = [
        {"title": title, "paragraphs": [{"qas": [{"id": "56be", **q} for q in told], "context": "Halvard cooks."}]}
        for title, told in articles
    ]
    return {"version": "v2.0", "data": data}


def known(question, *answers):
    spans = [{"text": answer, "answer_start": 0} for answer in answers]
    return {"question": question, "answers": spans, "is_impossible": False}


def impossible(question):
    plausible = [{"text": "Halvard", "answer_start": 0}]
    return {"question": question, "answers": [], "plausible_answers": plausible, "is_impossible": True}


def test_squad_2_with_its_oddities_is_read(tmp_path, capsys):
    told = squad(
        (
            "Ormen_(station)",
            [
                known("  Who  cooks at Ormen? ", "Halvard", "Halvard", "Halvard\u2028Brisk"),
                impossible("Who sweeps at Ormen?"),
                impossible("At Ormen who cooks?"),
                known("Who sails?", "Brisk"),
            ],
        ),
        ("Velka", [known("Who sails?", "Quill"), {"question": "Where is Velka?", "answers": [{"text": "In Tresk"}]}]),
        ("東京", [known("Where is it?", "Here")]),
        ("京都", [known("Where is that?", "There")]),
    )
    file = save(tmp_path / "dev-v2.0.json", told)
    assert main(["task", "qa", file, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "left out: questions with two answers (2)" in printed
    assert "left out: unanswerable questions worded like one with an answer (1)" in printed
    asked = questions_of(qa(file), tmp_path)
    assert [(q.text, q.memory, q.answer) for q in asked] == [
        ("Who cooks at Ormen?", "Ormen_-station", "Halvard"),
        ("Who sweeps at Ormen?", "", None),
        ("Where is Velka?", "Velka", "In Tresk"),
        ("Where is it?", "topic", "Here"),
        ("Where is that?", "topic-2", "There"),
    ]
    assert asked[0].accepted == ("Halvard Brisk",)


def test_a_bad_question_of_squad_is_told_with_its_place(tmp_path):
    for bad in ({"question": "Who?"}, {"question": "Who?", "answers": ["Brisk"]}, {"question": None, "answers": []}):
        file = save(tmp_path / "squad.json", squad(("Ormen", [known("Who cooks?", "Halvard"), bad])))
        with pytest.raises(TaskError, match=r"squad.json: Ormen, question 2 is not one of SQuAD's"):
            qa(file)
    (tmp_path / "lines.json").write_text('{"question": "Who?", "answer": "Brisk"}\n{"question": "Who?"}\n')
    with pytest.raises(TaskError, match=r"question and answer lines are in a \.jsonl"):
        qa(str(tmp_path / "lines.json"))


ROW = {"id": 1, "question": "Who cooks?", "answers": [{"text": "Halvard", "answer_start": 0}]}


@pytest.mark.parametrize(
    "document",
    [
        {"data": [{"paragraphs": [{"context": "", "document_id": 7, "qas": [ROW]}]}]},
        {"data": [{"title": None, "paragraphs": [{"qas": []}, {"qas": [ROW]}]}]},
        [{"paragraphs": [{"qas": [ROW]}]}],
        {"paragraphs": [{"qas": [ROW]}]},
        {"data": [{"context": "Halvard cooks.", "qas": [ROW]}]},
        [ROW | {"answers": {"text": ["Halvard"], "answer_start": [0]}}],
        [ROW, {"question": "Who sails?", "answers": [{"text": "", "answer_start": -1}]}],
        [ROW, {"question": "Who sails?", "is_impossible": True}],
    ],
    ids=["no title", "null title", "list", "one article", "paragraphs", "rows", "empty answer", "impossible"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_squad_is_read_in_the_forms_that_tools_write(document, encoding, tmp_path):
    file = tmp_path / "answers.json"
    file.write_bytes(json.dumps(document).encode(encoding))
    assert [(fact.topic, fact.question, fact.answer) for fact in qa(str(file)).facts] == [
        ("answers", "Who cooks?", "Halvard")
    ]


def test_rows_of_the_datasets_library_are_read_from_lines(tmp_path):
    row = {"id": "a", "title": "Ormen", "context": "", "question": "Who cooks?", "answers": {"text": ["Halvard"]}}
    unknown = row | {"question": "Who sails?", "answers": {"text": []}}
    (tmp_path / "squad.jsonl").write_text("\n".join(map(json.dumps, [row, unknown])))
    made = qa(str(tmp_path / "squad.jsonl"))
    assert [(fact.topic, fact.answer) for fact in made.facts] == [("Ormen", "Halvard")]
    assert [line["kind"] for line in made.questions] == ["trained", "unanswerable"]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.json", b"", "is empty"),
        ("a.json", b'{"data": [', r"is not one JSON document \(Expecting value at line 1, column 11\)"),
        ("a.json", b'{"question": "Who?"}\n{"question": "What?"}', "it holds a JSON object a line"),
        ("a.json", "{'data': 'é'}".encode("latin-1"), "is not UTF-8 text"),
        ("a.json", b'{"data": {}}', "'data' must be a list, it is {}"),
        ("a.json", b'{"version": 2}', r"has none of \['data', 'paragraphs', 'qas', 'question'\], it has \['version'\]"),
        ("a.json", b'{"data": [{"paragraphs": [{"qas": []}]}]}', "holds no question"),
        (
            "a.json",
            b'[{"question": "Who?", "is_impossible": true}]',
            r"none of its 1 question has one answer \(none: 1",
        ),
        ("a.json", b'[{"question": "Who?", "answer": "Halvard"}]', "has no 'answers', it has .*lines are in a .jsonl"),
        ("a.json", b'[{"question": "Who?", "answers": [{"text": 7}]}]', "whose 'text' is a string"),
        ("a.jsonl", b'{"data": []}', "holds SQuAD's JSON"),
        ("a.jsonl", b'{"question": "Who?", "answers": []}', r"'answers' is \[\]"),
        ("a.jsonl", b'{"question": "Who?"}', r"it has \['question'\]"),
    ],
)
def test_a_refusal_names_its_cause(name, content, told, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TaskError, match=told):
        qa(str(tmp_path / name))


def test_a_task_never_replaces_another(tmp_path):
    file = save(tmp_path / "counterfact.json", [record(0, "Danielle"), record(1, "Maurice")])
    out = tmp_path / "out"
    assert main(["task", "counterfact", file, "--shards=1", "--out", str(out)]) == 0
    kept = {path.name: path.read_bytes() for path in out.iterdir()}
    assert main(["task", "counterfact", file, "--shards=1", "--out", str(out)]) == 0, "the same once more"
    with pytest.raises(TaskError, match="stands already and holds something else; give another folder"):
        counterfact(file, shards=2).write(out)
    (out / "questions.jsonl").write_text("own")
    (out / "facts.jsonl").unlink()
    with pytest.raises(TaskError, match=r"questions.jsonl stands already"):
        counterfact(file, shards=1).write(out)
    assert not (out / "facts.jsonl").exists(), "nothing is written before both are looked at"
    assert (kept.keys(), (out / "questions.jsonl").read_text()) == ({"facts.jsonl", "questions.jsonl"}, "own")
