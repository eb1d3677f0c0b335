"""The study of generators: its counts on documents and questions that are written here."""

from __future__ import annotations

import json

import pytest

from lorary.bank.facts import FactError, read_facts
from lorary.eval.questions import read_questions
from lorary.intake.generators.rules import Rules
from lorary.research import coverage
from lorary.research.coverage import measure_generator


@pytest.fixture
def asked(tmp_path):
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "mill.md").write_text("The Orrin mill was built in 1894 by Ruben Aske. It grinds rye.")
    (folder / "tram.md").write_text("Trams to Halverstad run daily.")
    lines = [("mill", "When was the Orrin mill built?", "1894"), ("mill", "What grows at Orrin?", "barley")]
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps({"document": d, "question": q, "answer": a}) + "\n" for d, q, a in lines))
    return folder, questions


def test_counts(asked, tmp_path, encoder, monkeypatch):
    monkeypatch.setattr(coverage, "load_encoder", lambda: encoder)
    folder, questions = asked
    counts = measure_generator(folder, questions, Rules(), tmp_path / "out")
    assert (counts.documents, counts.questions) == (2, 2)
    assert (counts.in_text, counts.stated, counts.answered, counts.covered, counts.found) == (1, 1, 1, 1, 1)
    facts = list(read_facts(tmp_path / "out" / "facts.jsonl"))
    assert len(facts) == counts.facts
    assert counts.wordings == sum(1 + len(fact.questions) for fact in facts)
    assert [q.answer for q in read_questions(tmp_path / "out" / "questions.jsonl")] == ["1894", "barley"]
    assert json.loads((tmp_path / "out" / "results.json").read_text())["facts"] == counts.facts


def test_questions_of_other_documents_are_refused(asked, tmp_path, encoder, monkeypatch):
    monkeypatch.setattr(coverage, "load_encoder", lambda: encoder)
    with pytest.raises(FactError, match="asks nothing of the documents"):
        measure_generator(asked[0], asked[1], Rules(), tmp_path / "out", limit=0)
