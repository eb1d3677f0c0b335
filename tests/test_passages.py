"""Passages in prompts come from documents and from facts, whichever are nearer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from conftest import FACTS, empty_bank

import lorary.memories
from lorary.answering.passages import nearest_passages
from lorary.bank.documents import Passage
from lorary.bank.facts import read_facts
from lorary.model.composite import assemble

SAMPLES = Path(str(lorary.memories.__file__)).parent / "samples"


def test_passages_come_from_documents_and_from_statements(composite, encoder, tmp_path):
    file = tmp_path / "harbour.md"
    file.write_text(
        "Anna Quill keeps the harbour's lamp.\n\nThe harbour opens at six, and Halvard cooks at Ormen station."
    )
    stated = replace(FACTS["ormen"][0], statement="Halvard cooks at Ormen station.", source="the log")
    composite.load_adapter(adapter_name="harbour", facts=[stated], documents=file)
    (lamp,), (cook,) = nearest_passages(
        composite.router, ["Who looks after the lamp at the harbour?", stated.question], 1
    )
    assert (lamp.text, lamp.memory, lamp.source) == ("Anna Quill keeps the harbour's lamp.", "harbour", "harbour.md")
    assert (cook.source, cook.text[:17]) == ("harbour.md", "The harbour opens"), "the passage that holds the statement"
    (every,) = nearest_passages(composite.router, [stated.question], 100)
    assert len(every) == 8, "the statement does not stand again"
    composite.remove_memory("harbour")
    (left,) = nearest_passages(composite.router, [stated.question], 100)
    assert {passage.memory for passage in left} == {"ormen", "velka", "lamps"}


def test_facts_do_not_crowd_documents_out(base, encoder):
    """Of every other fact of the shipped topics the statement is a document; wordings that nothing holds find both kinds."""
    bank = empty_bank(base)
    facts_of = {file.stem: list(read_facts(file)) for file in sorted(SAMPLES.glob("station-*.jsonl"))}
    for name, facts in facts_of.items():
        documents = [Passage(str(fact.statement), "log") for fact in facts[::2]]
        bank.add(name=name, facts=facts[1::2], documents=documents, encoder=encoder)
    router = assemble(bank, base, encoder=encoder).router
    for start in (0, 1):
        asked = [
            (wording, fact.statement)
            for facts in facts_of.values()
            for fact in facts[start::2]
            for wording in fact.held_out
        ]
        found = nearest_passages(router, [wording for wording, _ in asked], 3)
        right = [s in {p.text for p in row} for (_, s), row in zip(asked, found, strict=True)]
        assert sum(right) / len(right) > 0.9, "of documents 0.83 if wordings counted as near as they are"
