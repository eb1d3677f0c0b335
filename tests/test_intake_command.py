"""`lorary facts` as a command: topics, bad input, what is written, and a bank from it."""

from __future__ import annotations

import errno
import json

import pytest
from intake_files import FAQ_HTML, answers, manual_docx, manual_pdf, read_lines, run_facts

from lorary.__main__ import main
from lorary.bank.bank import MemoryBank
from lorary.bank.facts import read_facts
from lorary.intake.topics import slug

FACT = json.dumps({"question": "Who cooks at Ormen?", "answer": "Halvard"})


def test_a_bank_from_a_folder_of_everything(base, tmp_path, capsys):
    sources = tmp_path / "sources"
    sources.mkdir()
    manual_pdf(sources / "lathe.pdf")
    (sources / "faq.html").write_text(FAQ_HTML)
    (sources / "staff.csv").write_text("Name,Boss,Phone\nAna,Ben,555\nBen,Eva,556\n")
    status, told = run_facts(capsys, sources, "--out", tmp_path / "facts")
    assert status == 0
    recipe = ("--split-layer=1", "--max-epochs=2", "--batch-size=4")
    command = [
        "build",
        str(tmp_path / "facts"),
        "--out",
        str(tmp_path / "bank"),
        "--base",
        base.name,
        "--quiet",
        *recipe,
    ]
    assert main(command) == 0
    bank = MemoryBank.load(tmp_path / "bank")
    assert {topic["topic"]: topic["facts"] for topic in told["topics"]} == {m.name: len(m.facts) for m in bank}
    assert bank["lathe"].documents
    assert bank["faq"].documents
    assert not bank["staff"].documents


def test_the_report_for_people(tmp_path, capsys):
    (tmp_path / "staff.csv").write_text("Name,Boss\nAna,Ben\nBen,\n")
    assert main(["facts", str(tmp_path / "staff.csv"), "--out", str(tmp_path / "facts.jsonl")]) == 0
    told = capsys.readouterr().out
    assert "staff.csv      1         0         1" in told
    assert "1 × the cell is empty (staff.csv, line 3: boss of Ben)" in told
    assert "facts: " in told
    assert "1 fact in 1 topic" in told
    assert [fact.topic for fact in read_facts(tmp_path / "facts.jsonl")] == ["staff"]


@pytest.mark.parametrize("source", [None, "handbook", "facts.jsonl, line 1"])
def test_the_report_counts_the_facts_of_a_file_of_facts_whatever_source_they_name(source, tmp_path, capsys):
    fact = {"question": "What is the code of Ormen?", "answer": "4173", "statement": "The code of Ormen is 4173."}
    wordings = {"questions": ["Which code does Ormen have?"], **({"source": source} if source else {})}
    (tmp_path / "facts.jsonl").write_text(json.dumps(fact | wordings) + "\n")
    (tmp_path / "codes.csv").write_text("station,phone\nVelka,7715\n")
    sources = [str(tmp_path / name) for name in ("facts.jsonl", "codes.csv")]
    assert main(["facts", *sources, "--generator", "none", "--turned", "--out", str(tmp_path / "out.jsonl")]) == 0
    rows = [line.split()[:2] for line in capsys.readouterr().out.splitlines()]
    assert ["facts.jsonl", "2"] in rows, "the fact and the same turned around"
    assert next(row for row in rows if row[0] == "codes.csv")[1] != "0"


def test_help_shows_examples(capsys):
    assert main(["facts", "--help"]) == 0
    assert "lorary facts handbook.pdf prices.csv --out facts" in capsys.readouterr().out


def test_a_file_or_a_heading_or_one_topic(tmp_path, capsys):
    manual_docx(tmp_path / "manual.docx")

    def topics(*options):
        _, told = run_facts(capsys, tmp_path / "manual.docx", "--out", tmp_path / f"out{len(options)}", *options)
        return [topic["topic"] for topic in told["topics"]]

    assert topics() == ["manual"]
    assert topics("--topics", "heading") == ["Lathe-manual", "Oil", "Alarms"]
    assert topics("--topics", "file", "--topic", "works") == ["works"]
    assert read_lines(tmp_path / "out2" / "Alarms.jsonl")[0]["question"] == "Who comes when the alarm rings?"


def test_auto_parts_by_meaning_and_names_by_telling_words(tmp_path, capsys):
    cooks = [
        f"The cook {name} bakes bread and soup in the kitchen." for name in ("Ana", "Ben", "Eva", "Ivo", "Uwe", "Mia")
    ]
    ships = [
        f"The ship {name} sails with cargo over the sea." for name in ("Orca", "Wal", "Hai", "Dorsch", "Aal", "Rochen")
    ]
    (tmp_path / "all.md").write_text("\n\n".join(line for pair in zip(cooks, ships, strict=True) for line in pair))
    _, told = run_facts(capsys, tmp_path / "all.md", "--out", tmp_path / "facts", "--topics", "auto")
    assert sorted(topic["passages"] for topic in told["topics"]) == [6, 6]
    texts = {topic["topic"]: (tmp_path / "facts" / f"{topic['topic']}.md").read_text() for topic in told["topics"]}
    assert {("ship" in text, "cook" in text) for text in texts.values()} == {(True, False), (False, True)}
    for name, text in texts.items():
        assert all(word in text.lower() for word in name.lower().split("-"))


def test_files_of_one_name_are_one_topic_in_one_folder_and_two_in_two(tmp_path, capsys):
    for place in ("north", "south"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "boat.csv").write_text(f"Name,Code\nBoat {place},{place}-1\n")
    (tmp_path / "north" / "Boat.md").write_text("The boat of the north is blue.")
    _, told = run_facts(capsys, tmp_path, "--out", tmp_path / "facts")
    assert sorted(topic["topic"] for topic in told["topics"]) == ["north-Boat", "south-boat"]
    assert len(told["notes"]) == 2


@pytest.mark.parametrize(
    ("text", "name"), [("Über uns!", "Uber-uns"), ("a/b c", "a-b-c"), ("README", "README-file"), ("日本", "")]
)
def test_names_of_topics(text, name):
    assert slug(text) == name


def test_a_name_of_no_latin_letter_still_gives_a_topic(tmp_path, capsys):
    (tmp_path / "日本.md").write_text("日本の首都は東京です。")
    _, told = run_facts(capsys, tmp_path / "日本.md", "--out", tmp_path / "facts")
    assert told["topics"] == [{"topic": "topic-1", "facts": 0, "passages": 1}]


def test_of_two_answers_the_later_stays_and_copies_are_joined(tmp_path, capsys):
    lines = [
        {"question": "Who cooks?", "answer": "Ana"},
        {"question": "Who bakes?", "answer": "Ben"},
        {"question": "who  cooks?", "answer": "Eva"},
        {"question": "Who bakes?", "answer": "Ben", "questions": ["Name the baker."]},
        {"question": "Who sails?", "answer": "Ivo", "questions": ["Who cooks?"]},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    _, told = run_facts(capsys, tmp_path / "a.jsonl", "--out", tmp_path / "facts")
    assert answers(tmp_path / "facts" / "a.jsonl") == {
        "Who bakes?": "Ben",
        "Name the baker.": "Ben",
        "Who sails?": "Ivo",
        "Who cooks?": "Ivo",
    }
    assert sorted(item["why"] for item in told["left_out"]) == [
        "a later place gives the same question another answer",
        "a later place gives the same question another answer",
        "the same question and answer stand twice",
    ]


def bad_files(folder):
    folder.mkdir()
    (folder / "empty.md").write_text("")
    (folder / "blank.txt").write_text(" \n\n")
    (folder / "latin.csv").write_bytes("Name,Stadt\nJürgen,Köln\nSören,Düsseldorf\n".encode("cp1252"))
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 nothing more")
    (folder / "broken.docx").write_bytes(b"PK\x03\x04 nothing more")
    (folder / "broken.xlsx").write_bytes(b"no workbook")
    (folder / "broken.json").write_text('{"a": ')
    (folder / "picture.png").write_bytes(b"\x89PNG")
    (folder / "zeros.txt").write_bytes(b"a\0b")
    (folder / "unanswered.jsonl").write_text('{"question": "Who?", "answer": " "}')
    (folder / ".hidden.md").write_text("Nothing to see.")
    from fpdf import FPDF

    scan = FPDF()
    scan.add_page()
    scan.output(str(folder / "scan.pdf"))
    with (folder / "huge.csv").open("wb") as file:
        file.truncate(200_000_000)


WHY = {
    "empty.md": "it is empty",
    "blank.txt": "it has no text",
    "latin.csv": "it is not utf-8 text; it may be ",
    "broken.pdf": "it is damaged, or no PDF",
    "broken.docx": "it cannot be read as DOCX",
    "broken.xlsx": "it cannot be opened as a workbook",
    "broken.json": "it is not JSON",
    "picture.png": "no reader for .png",
    "zeros.txt": "it holds NUL characters",
    "unanswered.jsonl, line 1": "the question or the answer is empty",
    "scan.pdf": "no page of it has text; a scanned document needs OCR first",
    "huge.csv": "it is larger than 50 MB; split it, or allow more by --largest",
}


def test_bad_files_are_told_and_the_good_one_is_read(tmp_path, capsys):
    bad_files(tmp_path / "in")
    (tmp_path / "in" / "good.jsonl").write_text(FACT)
    status, told = run_facts(capsys, tmp_path / "in", "--out", tmp_path / "facts")
    assert status == 0
    assert [topic["topic"] for topic in told["topics"]] == ["good"]
    reasons = {item["where"]: item["why"] for item in told["left_out"]}
    assert reasons.keys() == WHY.keys()
    assert {where: reasons[where].startswith(why) for where, why in WHY.items()} == dict.fromkeys(WHY, True)


def test_nothing_but_bad_files_is_one_clear_error(tmp_path, capsys):
    bad_files(tmp_path / "in")
    status, error = run_facts(capsys, tmp_path / "in", "--out", tmp_path / "facts")
    assert status == 2
    assert error.count("\n") == 1
    assert error.startswith("lorary: error: the sources gave no fact and no passage: ")
    assert not (tmp_path / "facts").exists()


def test_another_encoding_is_read_when_it_is_named(tmp_path, capsys):
    bad_files(tmp_path / "in")
    run_facts(capsys, tmp_path / "in" / "latin.csv", "--out", tmp_path / "facts", "--encoding", "cp1252")
    assert answers(tmp_path / "facts" / "latin.jsonl")["What is the stadt of Jürgen?"] == "Köln"
    (tmp_path / "marked.csv").write_bytes("Name,Stadt\r\nJürgen,Köln\r\n".encode("utf-16"))
    run_facts(capsys, tmp_path / "marked.csv", "--out", tmp_path / "marked")
    assert answers(tmp_path / "marked" / "marked.jsonl")["What is the stadt of Jürgen?"] == "Köln"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["nowhere.pdf"], "no such file or folder"),
        (["a.jsonl", "--encoding", "klingon"], "--encoding 'klingon' is not known"),
        (["a.jsonl", "--topic", "no name"], "'no name' cannot name a memory"),
    ],
)
def test_options_that_cannot_be_used(options, told, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jsonl").write_text(FACT)
    status, error = run_facts(capsys, *options, "--out", tmp_path / "facts")
    assert status == 2
    assert told in error


def test_what_was_corrected_by_hand_is_not_written_over(tmp_path, capsys):
    (tmp_path / "a.jsonl").write_text(FACT)
    for out, file in (("facts", "facts/a.jsonl"), ("facts.jsonl", "facts.jsonl")):
        run_facts(capsys, tmp_path / "a.jsonl", "--out", tmp_path / out)
        (tmp_path / file).write_text("corrected")
        status, error = run_facts(capsys, tmp_path / "a.jsonl", "--out", tmp_path / out)
        assert (status, "give another --out, or --replace" in error) == (2, True)
        assert (tmp_path / file).read_text() == "corrected"
        assert run_facts(capsys, tmp_path / "a.jsonl", "--out", tmp_path / out, "--replace")[0] == 0
        assert "Halvard" in (tmp_path / file).read_text()


@pytest.mark.parametrize("out", ["facts", "facts.jsonl"])
def test_a_full_disk_loses_nothing(out, tmp_path, capsys, monkeypatch):
    (tmp_path / "a.jsonl").write_text(FACT)
    before = sorted(tmp_path.iterdir())

    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("lorary.bank.files.os.fsync", full)
    status, error = run_facts(capsys, tmp_path / "a.jsonl", "--out", tmp_path / out)
    assert status == 2
    assert "nothing was written to" in error
    assert "the disk is full; make room and run the same command again" in error
    assert sorted(tmp_path.iterdir()) == before
