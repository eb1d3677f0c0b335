"""Questions and answers as people have them in JSON, JSONL and CSV; and chats."""

from __future__ import annotations

import json

import pytest
from intake_files import answers, read_lines, run_facts
from question_files import squad_file, tofu_file

ASKED = {"Who cooks at Ormen?": "Halvard"}
RECORDS = {
    "ours": {
        "question": "Who cooks at Ormen?",
        "answer": "Halvard",
        "questions": ["Ormen's cook?"],
        "statement": "Halvard cooks.",
    },
    "alpaca": {"instruction": "Who cooks at", "input": "Ormen?", "output": "Halvard"},
    "plain alpaca": {"instruction": "Who cooks at Ormen?", "input": "", "output": "Halvard"},
    "prompt": {"prompt": "Who cooks at Ormen?", "completion": " Halvard"},
    "messages": {
        "messages": [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": "Who cooks at Ormen?"},
            {"role": "assistant", "content": "Halvard"},
        ]
    },
    "sharegpt": {
        "conversations": [{"from": "human", "value": "Who cooks at Ormen?"}, {"from": "gpt", "value": "Halvard"}]
    },
    "squad row": {
        "id": "1",
        "title": "",
        "context": "Halvard cooks.",
        "question": "Who cooks at Ormen?",
        "answers": {"text": ["Halvard"], "answer_start": [0]},
    },
}


@pytest.mark.parametrize("form", RECORDS)
@pytest.mark.parametrize("ending", [".jsonl", ".json"])
def test_every_form_of_records(form, ending, tmp_path, capsys):
    text = json.dumps(RECORDS[form]) if ending == ".jsonl" else json.dumps([RECORDS[form]])
    (tmp_path / f"ormen{ending}").write_text(text)
    status, told = run_facts(capsys, tmp_path / f"ormen{ending}", "--out", tmp_path / "facts")
    assert (status, told["left_out"]) == (0, [])
    assert answers(tmp_path / "facts" / "ormen.jsonl").items() >= ASKED.items()


def test_our_own_facts_come_through_as_they_are(tmp_path, capsys):
    fact = RECORDS["ours"] | {
        "held_out": ["Ormen's chef is who?"],
        "source": "handbook",
        "validation": ["Ormen's cook?"],
    }
    (tmp_path / "ormen.jsonl").write_text(json.dumps(fact) + "\n" + json.dumps({"question": "x"}))
    _, told = run_facts(capsys, tmp_path / "ormen.jsonl", "--out", tmp_path / "facts")
    assert read_lines(tmp_path / "facts" / "ormen.jsonl") == [fact]
    assert [item["where"] for item in told["left_out"]] == ["ormen.jsonl, line 2"]


def test_squad_has_a_topic_for_each_title_and_its_contexts_as_passages(tmp_path, capsys):
    path = squad_file(tmp_path)
    _, told = run_facts(capsys, path, "--out", tmp_path / "facts")
    assert [topic["topic"] for topic in told["topics"]] == ["Kelp-algae", "Ormen-Station", "Velka", "articles"]
    assert all(topic["facts"] == 6 and topic["passages"] == 1 for topic in told["topics"])
    assert (tmp_path / "facts" / "Velka.md").read_text() == "Velka is a town of trams. The trams are green.\n"


def test_tofu_keeps_its_paraphrases_from_training_and_has_a_topic_for_each_author(tmp_path, capsys):
    path = tofu_file(tmp_path)
    lines = [
        json.loads(line) | {"author": f"author-{number % 2}"}
        for number, line in enumerate(path.read_text().splitlines())
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    _, told = run_facts(capsys, path, "--out", tmp_path / "facts")
    assert [topic["topic"] for topic in told["topics"]] == ["author-0", "author-1"]
    first = read_lines(tmp_path / "facts" / "author-0.jsonl")[0]
    assert first["held_out"] == [lines[0]["paraphrased_question"]]
    assert first["answer"] == lines[0]["answer"]
    assert any("'perturbed_answer'" in note for note in told["notes"])


def test_question_and_answer_columns_of_a_csv(tmp_path, capsys):
    (tmp_path / "faq.csv").write_text('Question,Answer\n"Who cooks at Ormen?",Halvard\n"Who keeps the lamp?",\n')
    _, told = run_facts(capsys, tmp_path / "faq.csv", "--out", tmp_path / "facts")
    assert answers(tmp_path / "facts" / "faq.jsonl") == ASKED
    assert [(item["where"], item["why"]) for item in told["left_out"]] == [
        ("faq.csv, line 3", "the question has no answer")
    ]


def test_records_that_ask_nothing_are_rows_or_texts(tmp_path, capsys):
    (tmp_path / "machines.json").write_text(json.dumps({"Lathe": {"oil": "ISO 32"}, "Press 4": {"oil": "ISO 46"}}))
    (tmp_path / "notes.jsonl").write_text('{"text": "Halvard Brisk cooks at Ormen."}\n{"x": [1]}\nno json\n[1]\n')
    _, told = run_facts(capsys, tmp_path, "--out", tmp_path / "facts")
    assert answers(tmp_path / "facts" / "machines.jsonl")["What is the oil of Press 4?"] == "ISO 46"
    assert (tmp_path / "facts" / "notes.md").read_text() == "Halvard Brisk cooks at Ormen.\n"
    reasons = {item["where"]: item["why"] for item in told["left_out"]}
    assert reasons["notes.jsonl, line 2"] == "no reader knows its fields"
    assert reasons["notes.jsonl, line 3"].startswith("it is not JSON")
    assert reasons["notes.jsonl, line 4"] == "it is no JSON object"


def test_a_later_turn_of_a_dialogue_must_stand_alone(tmp_path, capsys):
    turns = ["Who cooks at Ormen?", "Halvard", "And who helps him?", "Ana", "Which oil does the lathe need?", "ISO 32"]
    roles = ["user", "assistant"] * 3
    messages = [{"role": role, "content": turn} for role, turn in zip(roles, turns, strict=True)]
    (tmp_path / "talk.jsonl").write_text(json.dumps({"messages": messages}))
    _, told = run_facts(capsys, tmp_path / "talk.jsonl", "--out", tmp_path / "facts")
    assert answers(tmp_path / "facts" / "talk.jsonl") == ASKED | {"Which oil does the lathe need?": "ISO 32"}
    assert [item["what"] for item in told["left_out"]] == ["And who helps him?"]


OIL = "Which oil does the lathe need?"
ENCRYPTED = "01/03/2024, 10:20 - Messages are encrypted"
CHATS = {
    "brackets.txt": f"[01/03/2024, 10:22:03] Ana: {OIL}\n[01/03/2024, 10:23:00] Ben Holm: ISO 32\nand no other",
    "dash.txt": f"{ENCRYPTED}\n01/03/2024, 10:22 - Ana: {OIL}\n01/03/2024, 10:23 - Ben Holm: ISO 32\nand no other\n"
    "01/03/2024, 10:24 - Ana: <Media omitted>",
    "nicks.txt": "[10:22] <Ana> Which oil does the lathe need?\n[10:23] <Ben Holm> ISO 32\n[10:24] <Ana> Thanks",
    "names.txt": "Ana: Which oil does the lathe need?\nBen Holm: ISO 32\nAna: Thanks\nBen Holm: Fine",
    "telegram.json": json.dumps(
        {
            "name": "Works",
            "messages": [
                {"id": 1, "from": "Ana", "date": "2024-03-01T10:22:03", "text": "Which oil does the lathe need?"},
                {
                    "id": 2,
                    "from": "Ben Holm",
                    "date": "2024-03-01T10:23:00",
                    "text": ["ISO ", {"type": "bold", "text": "32"}],
                },
            ],
        }
    ),
    "slack.jsonl": '{"user": "Ana", "ts": "1709288523.0002", "text": "Which oil does the lathe need?"}\n'
    '{"user": "Ben Holm", "ts": "1709288600.0002", "text": "ISO 32"}',
}


@pytest.mark.parametrize("name", CHATS)
def test_chats_tell_who_said_what_when(name, tmp_path, capsys):
    (tmp_path / name).write_text(CHATS[name])
    status, told = run_facts(capsys, tmp_path / name, "--out", tmp_path / "facts")
    stem = name.split(".")[0]
    assert status == 0
    (fact,) = read_lines(tmp_path / "facts" / f"{stem}.jsonl")
    assert fact["question"] == "Which oil does the lathe need?"
    assert fact["answer"].startswith("ISO 32")
    assert "Ben Holm" in fact["source"]
    assert "Ana asked" in fact["statement"]
    document = (tmp_path / "facts" / f"{stem}.md").read_text()
    assert "- Ana" in document
    if name != "names.txt":
        assert "10:2" in fact["source"]
        assert "10:22" in document
    assert [item["what"] for item in told["left_out"]] == (
        [ENCRYPTED, "01/03/2024, 10:24 - Ana: <Media omitted>"] if name == "dash.txt" else []
    )


def test_what_nobody_said_is_no_row_of_a_table(tmp_path, capsys):
    said = {"from": "Ana", "date": "2024-03-01T10:22:03", "text": "The lathe needs ISO 32."}
    joined = {"type": "service", "actor": "Ben", "action": "joined"}
    (tmp_path / "works.json").write_text(json.dumps({"name": "Works", "messages": [joined, said]}))
    _, told = run_facts(capsys, tmp_path / "works.json", "--out", tmp_path / "facts")
    assert told["topics"] == [{"topic": "works", "facts": 0, "passages": 1}]
    assert [item["why"] for item in told["left_out"]] == ["a record of the chat that nobody said"]


def test_lines_with_colons_are_no_chat(tmp_path, capsys):
    (tmp_path / "lathe.txt").write_text("Oil: ISO 32\nKeeper: Ana Ruiz\nVoltage: 400 V\n")
    _, _told = run_facts(capsys, tmp_path / "lathe.txt", "--out", tmp_path / "facts")
    assert answers(tmp_path / "facts" / "lathe.jsonl")["Who is the keeper of lathe?"] == "Ana Ruiz"
