"""Generators against the questions that people asked of documents: how many answers their facts hold."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any

from lorary.bank.documents import read_document
from lorary.bank.facts import Fact, FactError, read_lines
from lorary.bank.files import write_aside
from lorary.eval.scoring import contains
from lorary.intake.making import facts_of
from lorary.intake.source import Generator, Source
from lorary.routing.encoder import Encoder, load_encoder

NEAR = 0.6
"""The cosine of a question and a wording from which on the wording is about what is asked."""


@dataclass(frozen=True)
class Asked:
    """A question that somebody asked of a document, and its short answer."""

    document: str
    question: str
    answer: str


@dataclass(frozen=True)
class Coverage:
    """What a generator made of documents.

    Args:
        documents, facts, wordings, questions: how many.
        in_text: questions whose answer stands in the document as it is written: what a copy of the text can give at most.
        stated: questions whose answer stands in a statement of the document's facts.
        answered: questions whose answer stands in the answer of a fact of the document.
        covered: of these, those of which a wording of such a fact is near (cosine `NEAR`).
        found: questions whose nearest wording, of all documents' facts, has their answer in its answer: a lookup's score.
        seconds: what the generator took.
        dropped: how many proposals were left out for each reason.
    """

    documents: int
    facts: int
    wordings: int
    questions: int
    in_text: int
    stated: int
    answered: int
    covered: int
    found: int
    seconds: float
    dropped: dict[str, int]


def measure_generator(
    documents: str | Path,
    questions: str | Path,
    generator: Generator | None,
    out: str | Path,
    *,
    limit: int | None = None,
) -> Coverage:
    """What a generator makes of the documents of a folder, against the questions that people asked of them.

    Writes into `out`: facts.jsonl, sample.jsonl (thirty facts to judge by hand), questions.jsonl (for `lorary recall`) and
    results.json.

    Args:
        documents: folder of Markdown and text files.
        questions: JSON lines with `document` (a file's name without its ending), `question` and `answer`.
        limit: takes this many documents, in the order of their names.
    """
    sources = _sources(Path(documents))[:limit]
    names = {source.topic for source in sources}
    asked = [one for one in _asked(Path(questions)) if one.document in names]
    if not asked:
        raise FactError(f"{questions}: asks nothing of the documents in {documents}; its 'document' names a file there")
    encoder, start = load_encoder(), perf_counter()
    if generator is None:
        raise FactError("the generator 'none' finds nothing in documents; give 'rules', 'endpoint' or a model")
    checked = [facts_of(source, generator, encoder=encoder) for source in sources]
    seconds = perf_counter() - start
    facts = [fact for each in checked for fact in each.facts]
    dropped = Counter(left.why for each in checked for left in each.left_out)
    texts = {source.topic: " ".join(passage.text for passage in source.passages) for source in sources}
    counts = {"in_text": sum(contains(texts[one.document], one.answer) > 0 for one in asked)}
    counts |= _found(facts, asked, encoder)
    wordings = sum(1 + len(fact.questions) for fact in facts)
    coverage = Coverage(
        len(sources), len(facts), wordings, len(asked), **counts, seconds=seconds, dropped=dict(dropped.most_common())
    )
    _write(Path(out), coverage, facts, asked)
    return coverage


def _sources(folder: Path) -> list[Source]:
    """Each document of a folder as a topic of its name."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".md", ".txt"))
    return [Source(path.stem, read_document(path)) for path in files]


def _asked(file: Path) -> list[Asked]:
    needed = ("document", "question", "answer")
    asked = []
    for where, line in read_lines(file):
        if not all(isinstance(line.get(key), str) for key in needed):
            raise FactError(f"{where}: a question on a document needs {', '.join(needed)}, all strings")
        asked.append(Asked(*(line[key] for key in needed)))
    return asked


def _found(facts: Sequence[Fact], asked: Sequence[Asked], encoder: Encoder) -> dict[str, int]:
    wordings = [(fact, wording) for fact in facts for wording in (fact.question, *fact.questions)]
    counts = dict.fromkeys(("stated", "answered", "covered", "found"), 0)
    if not wordings:
        return counts
    similarities = encoder.encode([one.question for one in asked]) @ encoder.encode([text for _, text in wordings]).T
    for one, cosines in zip(asked, similarities.tolist(), strict=True):
        near = [(fact, cosine) for (fact, _), cosine in zip(wordings, cosines, strict=True)]
        own = [(fact, cosine) for fact, cosine in near if fact.topic == one.document]
        right = [cosine for fact, cosine in own if contains(fact.answer, one.answer)]
        nearest, _ = max(near, key=lambda pair: pair[1])
        counts["stated"] += any(contains(fact.statement or "", one.answer) for fact, _ in own)
        counts["answered"] += bool(right)
        counts["covered"] += max(right, default=0.0) >= NEAR
        counts["found"] += contains(nearest.answer, one.answer) > 0
    return counts


def _write(out: Path, coverage: Coverage, facts: Sequence[Fact], asked: Sequence[Asked], seed: int = 0) -> None:
    out.mkdir(parents=True, exist_ok=True)
    drawn = Random(seed).sample(list(facts), min(30, len(facts)))
    questions = [{"topic": one.document, "question": one.question, "answer": one.answer} for one in asked]
    for name, lines in (("facts", [f.to_json() for f in facts]), ("sample", [f.to_json() for f in drawn])):
        write_aside(out / f"{name}.jsonl", _jsonl(lines))
    write_aside(out / "questions.jsonl", _jsonl(questions))
    write_aside(out / "results.json", (json.dumps(asdict(coverage), indent=1) + "\n").encode())


def _jsonl(lines: Sequence[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()


def tell_coverage(coverage: Coverage) -> list[list[str]]:
    """Rows for a table."""
    asked = coverage.questions
    share = {
        "answer in the text": coverage.in_text,
        "answer in a statement": coverage.stated,
        "answer of a fact": coverage.answered,
        "and a wording near": coverage.covered,
        "nearest wording is right": coverage.found,
    }
    rows = [["of the questions", "count", "share"]]
    rows += [[name, f"{count} of {asked}", f"{count / asked:.3f}"] for name, count in share.items()]
    return rows
