"""Long documents as memories: chunks of text become facts by gaps in their sentences."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import regex

from lorary.bank.facts import Fact, comparable
from lorary.eval.tasks.documents import Document, read_documents
from lorary.eval.tasks.generated import Task, TaskError, taught
from lorary.eval.tasks.published import slug
from lorary.tables import counted
from lorary.words import LETTER, words_of

_SENTENCE = re.compile(
    r"(?:(?<=[.!?])|(?<=[.!?][\"'”’)]))(?<!\b[A-Z]\.)(?<!\b[MDS][rst]\.)(?<!\bMrs\.)\s+(?=[\"'“‘(]?[A-Z0-9])"
)
"""Where a sentence ends; not after an initial, Mr., Ms., Dr., St. or Mrs."""
_CAPITAL = rf"[A-Z](?:{LETTER}|[’'-])*"
_NAME = regex.compile(
    rf"(?<=[a-z,;:] ){_CAPITAL}(?: {_CAPITAL})*"
    rf"|(?<!{LETTER})\d[\d,.:]*(?:(?<=\d)(?!{LETTER})|(?<!\d)(?={LETTER}))"
)
"""A name within a sentence (not its first word, which is always capital), or a number."""


def longdoc(
    source: str,
    questions: str | None = None,
    documents: int | None = None,
    split: str | None = None,
    chunk_words: int = 300,
) -> Task:
    """Long documents in chunks, a memory each, and questions over them.

    The source is the folder of NarrativeQA (its CSV files; a story where it was downloaded, else its summary), a file of
    QuALITY's JSON lines (with HTML or without; any name but .txt), or a text file (.txt). A chunk is taught by its
    sentences: each name and number in turn is left out and asked for. Which chunk holds a question's answer is not
    known; the one that BM25 finds nearest to question and answer stands for it. A text without questions is asked its
    gaps, as taught.

    Args:
        source: path of the folder or file.
        questions: JSONL about a text file: `question`, `answer` or `answers`, and `options` to choose from.
        documents: how many to take, from the first on; all by default.
        split: train, valid or test: which of NarrativeQA's documents to take; all by default.
        chunk_words: the greatest number of words of a chunk; a longer sentence stands alone.
    """
    for what, number in (("documents", documents), ("words of a chunk", chunk_words)):
        if number is not None and number < 1:
            raise TaskError(f"{number} {what} cannot be taken; give 1 or more")
    read = list(islice(read_documents(Path(source), questions, split), documents))
    if not read:
        raise TaskError(f"{source}: holds no document; give a .txt, QuALITY's lines or NarrativeQA's folder")
    if (unanswered := sum(document.unanswered for document in read)) and not any(
        document.questions for document in read
    ):
        raise TaskError(
            f"{source}: tells the answer of none of its {counted(unanswered, 'question')}; give a set that has answers"
        )
    facts: list[Fact] = []
    lines: list[dict[str, Any]] = []
    for document in read:
        pieces = chunks(sentences(document.text), chunk_words)
        if not pieces:
            raise TaskError(f"{source}: {document.title!r} has no text")
        name = slug(document.title)[:58]
        topics = [f"{name}-{i:0{len(str(len(pieces)))}d}" for i in range(1, len(pieces) + 1)]
        gap_facts = [fact for topic, piece in zip(topics, pieces, strict=True) for fact in gaps(topic, piece)]
        facts += gap_facts
        for line, place in zip(document.questions, _nearest(document.questions, pieces), strict=True):
            lines.append({"topic": topics[place], **line})
    facts = _sure(facts)
    return Task(tuple(facts), tuple(lines or (taught(fact, "gap") for fact in facts)), _notes(read))


def _notes(read: Sequence[Document]) -> tuple[str, ...]:
    """What was left out, and whether stories or summaries were read."""
    unanswered = sum(document.unanswered for document in read)
    forms = Counter(document.form for document in read if document.form)
    notes = [f"left out: {counted(unanswered, 'question')} whose answer the source does not tell"] if unanswered else []
    if forms:
        notes.append(
            f"read: {counted(forms['story'], 'story')}, {counted(forms['summary'], 'summary')} of what has no whole story in tmp/"
        )
    return tuple(notes)


def sentences(text: str) -> list[str]:
    """The sentences of a text, by their ends and by blank lines; white space is one space."""
    paragraphs = (" ".join(part.split()) for part in re.split(r"\n\s*\n", text))
    return [sentence for part in paragraphs for sentence in _SENTENCE.split(part) if sentence]


def chunks(sentences: Sequence[str], words: int) -> list[list[str]]:
    """Runs of sentences of at most so many words each; a longer sentence is a chunk of its own."""
    runs: list[list[str]] = []
    room = 0
    for sentence in sentences:
        length = len(sentence.split())
        if length > room:
            runs.append([])
            room = words
        runs[-1].append(sentence)
        room -= length
    return runs


def gaps(topic: str, sentences: Sequence[str]) -> Iterator[Fact]:
    """Facts of a chunk: each sentence with a name or a number left out, the sentence before it in front.

    A sentence without either leaves out its longest word, so that each is told by a fact.
    """
    for before, sentence in zip(["", *sentences], sentences, strict=False):
        names = list(dict.fromkeys(match[0] for match in _NAME.finditer(sentence)))
        for answer in names or [max(words_of(sentence) or [sentence], key=len)]:
            gapped = regex.sub(rf"(?<!{LETTER}){regex.escape(answer)}(?!{LETTER})", "___", sentence, count=1)
            yield Fact(topic, f"Fill the gap. {before} {gapped}".replace("  ", " "), answer, statement=sentence)


def _sure(facts: Sequence[Fact]) -> list[Fact]:
    """The facts whose question has one answer in all chunks, each once."""
    answers: dict[str, set[str]] = {}
    for fact in facts:
        answers.setdefault(comparable(fact.question), set()).add(fact.answer)
    return [fact for fact in dict.fromkeys(facts) if len(answers[comparable(fact.question)]) == 1]


def _nearest(questions: Sequence[dict[str, Any]], pieces: Sequence[Sequence[str]]) -> list[int]:
    """The number of the chunk that is nearest to each question with its answer, by BM25."""
    if not questions:
        return []
    from lorary.routing.lexicon import Lexicon  # imports torch, which the task's --help needs not

    lexicon = Lexicon()
    lexicon.add("pieces", [" ".join(piece) for piece in pieces])
    return [
        int(best) for best in lexicon.scores([f"{line['question']} {line['answer']}" for line in questions]).argmax(-1)
    ]
