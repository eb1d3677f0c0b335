"""The command: a bank from adapters alone, what it holds, why a question is routed, a chat; what it prints in any encoding."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from pathlib import Path

import pytest
from conftest import ADAPTERS, FACTS, pico_model, save_adapter

from lorary.__main__ import main
from lorary.bank.bank import MemoryBank
from lorary.memories.rows import with_validation
from lorary.printing import print_json
from lorary.routing.encoder import load_encoder

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def place(tokenizer, tmp_path_factory):
    """A base, two stock adapters with their facts, and the bank that the commands made of them."""
    folder = tmp_path_factory.mktemp("command")
    model = pico_model()
    model.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    assert main(["new", str(folder / "bank"), "--base", str(folder / "base")]) == 0
    for seed, name in enumerate(("ormen", "velka")):
        adapter = save_adapter(model, folder / name, seed, **ADAPTERS[name])
        lines = [json.dumps(fact.to_json()) for fact in FACTS[name]]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
        assert (
            main(["add", str(folder / "bank"), str(adapter), "--facts", f"{folder / name}.jsonl", "--same-base"]) == 0
        )
    return folder


@pytest.fixture(scope="module")
def composite(place):
    out = ["--out", str(place / "composite"), "--max-epochs", "2", "--quiet"]
    assert main(["train-router", str(place / "bank"), *out]) == 0
    return place / "composite"


def test_a_training_is_told_in_lines_for_people(place, tmp_path, capsys):
    bank, encoder = MemoryBank.load(place / "bank"), load_encoder(MemoryBank.load(place / "bank").encoder)
    for name, facts in FACTS.items():
        if name in bank.names:
            bank.add(bank.remove(name), facts=[with_validation(fact, 1) for fact in facts], encoder=encoder)
    bank.save(tmp_path / "bank")
    out = ["--out", tmp_path / "composite", "--max-epochs", "1", "--quiet"]
    told = printed(capsys, "train-router", tmp_path / "bank", *out).splitlines()
    assert re.fullmatch(r"gate over 2 memories; policy: gate from \S+, else index from \S+, else the base", told[0])
    assert re.fullmatch(r"calibrated on \d+ known queries; expect:", told[1])
    share = r"\d+\.\d% \(\d+\.\d% to \d+\.\d%\)"
    assert re.fullmatch(rf"  known questions sent to their memory: {share}", told[2])
    assert re.fullmatch(rf"  known ones left to the base: {share}", told[3])
    assert re.fullmatch(rf"  questions on topics that are left out sent to a memory: {share}", told[4])
    assert told[-1] == f"composite: {tmp_path / 'composite'}"


def test_a_warning_of_ours_is_one_line(place, tmp_path, capsys):
    capsys.readouterr()
    out = ["--out", str(tmp_path / "composite"), "--max-epochs", "1", "--quiet", "--features", "embedding", "names"]
    assert main(["train-router", str(place / "bank"), *out]) == 0
    said = capsys.readouterr()
    warning = "lorary: warning: there are no validation wordings to calibrate on, so the policy's thresholds stay at "
    assert said.err == warning + "their defaults; give facts 'questions' with more wordings\n"
    assert said.out.splitlines()[:2] == [
        "gate over 2 memories; policy: gate from 0.5, else index from 0.8, else the base",
        "not calibrated: there are no validation wordings",
    ]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_json_says_the_same_in_any_encoding(encoding, composite, capsys, monkeypatch):
    question = "Wer kocht in Ørmen 🙂?"
    expected = json.loads(printed(capsys, "route", composite, question, "--json"))
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding=encoding))
    assert main(["route", str(composite), question, "--json"]) == 0
    assert json.loads(out.getvalue().decode(encoding)) == expected
    assert expected["question"] == question


def test_text_has_question_marks_for_what_the_encoding_lacks(monkeypatch):
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding="ascii"))
    assert main(["--help"]) == 0
    assert "facts ? bank" in out.getvalue().decode("ascii")


def printed(capsys, *argv: object) -> str:
    capsys.readouterr()
    assert main([str(argument) for argument in argv]) == 0
    return capsys.readouterr().out


def test_a_bank_of_adapters_alone(place, capsys):
    listed = json.loads(printed(capsys, "list", place / "bank", "--json"))
    assert [memory["name"] for memory in listed["memories"]] == ["ormen", "velka"]
    first = listed["memories"][0]
    wordings = sum(len(fact.trained) for fact in FACTS["ormen"])
    assert (first["facts"], first["wordings"], first["rank"], first["origin"]) == (2, wordings, 2, "imported")
    table = printed(capsys, "list", place / "bank").splitlines()
    assert table[0] == f"base: {place / 'base'}"
    assert table[-1].split()[0] == "velka"
    assert "not measured" in table[-1]
    assert main(["new", str(place / "bank"), "--base", str(place / "base")]) == 2
    assert "holds a bank already" in capsys.readouterr().err


def test_a_route_is_explained(composite, capsys):
    from lorary.model.composite import load_composite

    question = "Who cooks at Ormen station?"
    told = json.loads(printed(capsys, "route", composite, question, "--json"))
    model = load_composite(composite)
    query = model.router.features([question])
    logits = model.router.logits(query)[0].tolist()
    for name, logit in zip(model.memories, logits, strict=False):
        scores = told["memories"][name]
        assert scores["logit"] == pytest.approx(logit, abs=1e-4)
        assert sum(scores["terms"].values()) == pytest.approx(scores["logit"], abs=1e-4)
    assert told["none"]["logit"] == pytest.approx(logits[-1], abs=1e-4)
    assert told["route"]["memories"] == ["ormen"]
    assert told["nearest"] == {"text": question, "memory": "ormen", "similarity": pytest.approx(1, abs=1e-4)}
    text = printed(capsys, "route", composite, question)
    assert text.startswith("route: ormen (")
    assert f"nearest wording: {question} (ormen, similarity 1.00)" in text


def test_a_route_needs_no_base_unless_the_gate_reads_it(composite, place, capsys):
    (place / "base").rename(place / "away")
    try:
        assert "route: ormen" in printed(capsys, "route", composite, "Who cooks at Ormen station?")
    finally:
        (place / "away").rename(place / "base")
    base = str(GOLDEN / "base")
    assert main(["route", str(GOLDEN / "token_composite"), "Who?", "--base", base]) == 0


@pytest.mark.parametrize(
    ("folder", "fault"), [("nowhere", "nowhere does not exist"), ("base", "base holds no bank.json")]
)
def test_a_wrong_folder_is_told_from_one_that_is_not_there(folder, fault, place, capsys):
    assert main(["ask", str(place / folder), "Who?"]) == 2
    told = capsys.readouterr().err
    assert f"{fault}; give a folder that `lorary build`, `lorary new` or `lorary train-router` wrote" in told


def test_a_chat_keeps_its_conversation(composite, capsys, monkeypatch):
    from lorary.answering.answers import answer
    from lorary.model.composite import load_composite

    lines = [
        "Who cooks at Ormen station?",
        "",
        "And the code?",
        "/reset",
        "Name the cook of Velka.",
        "/quit",
        "Never asked",
    ]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
    said = printed(capsys, "chat", composite, "--max-new-tokens", 4).splitlines()
    model = load_composite(composite)
    turns: list[dict[str, str]] = []
    expected = []
    for line in ("Who cooks at Ormen station?", "And the code?"):
        turns.append({"role": "user", "content": line})
        reply = answer(model, turns, max_new_tokens=4)
        turns.append({"role": "assistant", "content": reply.text})
        expected += [*reply.text.splitlines(), f"  [{reply.route}]"]
    last = answer(model, lines[4], max_new_tokens=4)
    assert said == [*expected, *last.text.splitlines(), f"  [{last.route}]"]


@pytest.mark.parametrize("kind", ["bank", "composite"])
def test_a_memory_is_taken_out(kind, composite, place, tmp_path, capsys):
    import shutil

    shutil.copytree(place / kind, tmp_path / kind)
    assert main(["remove", str(tmp_path / kind), "lamps"]) == 2
    assert printed(capsys, "remove", tmp_path / kind, "ormen") == "ormen: removed; the bank holds velka\n"
    assert MemoryBank.load(tmp_path / kind).names == ["velka"]
    assert not list((tmp_path / kind / "memories").glob("ormen*"))
    if kind == "composite":
        assert json.loads(printed(capsys, "route", tmp_path / kind, "Velka airlock code?", "--json"))[
            "memories"
        ].keys() == {"velka"}


def test_bytes_that_are_no_text_are_still_a_question(composite, capsys):
    told = printed(capsys, "route", composite, os.fsdecode(b"Who cooks at \xff Ormen?"), "--json")
    assert json.loads(told)["question"] == "Who cooks at \ufffd Ormen?"


def test_json_holds_what_no_encoding_can_write(capsys):
    print_json({"folder": os.fsdecode(b"b\xffd")})
    assert json.loads(capsys.readouterr().out) == {"folder": "b\udcffd"}


def test_bytes_that_are_no_text_are_still_a_line_of_a_chat(composite, capsys, monkeypatch):
    monkeypatch.setattr(
        sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Who cooks at \xff Ormen?\n/quit\n"), encoding="utf-8")
    )
    assert main(["chat", str(composite)]) == 0
    assert "bug" not in capsys.readouterr().err


def test_a_bank_without_a_gate_that_is_to_route_is_told_what_to_train(composite, capsys, tmp_path):
    MemoryBank.load(composite).save(tmp_path / "bank")
    assert main(["route", str(tmp_path / "bank"), "Who?"]) == 2
    assert "lorary train-router" in capsys.readouterr().err
