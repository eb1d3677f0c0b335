"""Documents → what they state in a form that needs no reading: questions with answers, "key: value" lines, tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import regex

from lorary.bank.facts import Fact, comparable
from lorary.intake.kinds import Kind, is_role, kind_of
from lorary.intake.sections import Block, plain
from lorary.intake.source import UNDECIDED, LeftOut, Unreadable, left_out
from lorary.intake.spreadsheets import as_table
from lorary.intake.subjects import as_written, asks, is_question, subject_under, unnumbered
from lorary.intake.tables import LONGEST_ANSWER, as_words, cell_fact, is_empty, read_table

_NO_SENTENCE, _MERE_YES = 4, 2
"""Words of the longest answer that is taken for no sentence, and of the longest first sentence that says too little alone."""
LONGEST_WHOLE = 25
"""The words of the longest answer of a document's question that is taken whole; of a longer one, its first sentence."""
_SENTENCE = regex.compile(r"(?s)\s*\S.*?(?<!\b(?:\p{L}|Mr|Mrs|Dr|St|e\.g|i\.e))[.!?。！？](?=\s|$)")
_ASKED = regex.compile(r"(?i)^(?:q(?:uestion)?|frage|pregunta|domanda)\s*\d*\s*[:.)]\s*(?P<question>.+)$")
_ANSWERED = regex.compile(r"(?i)^(?:a(?:nswer)?|antwort|respuesta|réponse|risposta)\s*\d*\s*[:.)]\s*(?P<answer>.+)$")
_QUESTION_FIRST = regex.compile(r"(?s)^(?P<question>[^?？\n]{8,200}[?？])(?:\s+(?P<answer>\S.*))?$")
_NUMBERED = regex.compile(r"^\s*\d+[.)]\s+")
_BOLD = regex.compile(r"(?s)^(\*\*|__)(?P<bold>.+?)\1\s*(?P<rest>.*)$")
_KEY = regex.compile(r"^(?:[-*•]\s+)?(?P<key>\p{L}[^:：.!?;|]{0,50}?)\s*[:：]\s+(?P<value>\S.*)$")
_NO_KEY = regex.compile(
    r"(?i)(?:(?:the|a|an)\s.*|(?:section|step|chapter|part|figure|fig|table|risk|phase|day|note|warning|tip|hint|example"
    r"|caution|important|update|disclaimer|todo|breaking)\b.*)"
)
"""What stands before a colon and is no attribute of anything."""
_BOLD_KEY = regex.compile(r"(\*\*|__)[^*_\n]{1,60}(?::\1|\1\s*:)\s*\S")
_LONGEST_VALUE = 12
_DEFINITION = regex.compile(r"(?s)^(?P<term>[^\n:]{1,120})\n+:\s+(?P<meaning>.+)$")
_KEY_HEADS = {"key", "property", "field", "attribute", "item", "parameter", "name", "what", ""}
_VALUE_HEADS = {"value", "description", "details", "content", "setting", ""}


@dataclass
class _Question:
    text: str
    source: str
    where: str
    answers: list[str] = field(default_factory=list)


@dataclass
class Stated:
    """What was found in a document; `cut` counts the answers of which the first sentence was taken."""

    facts: list[Fact] = field(default_factory=list)
    left: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    cut: int = 0


def stated_in(blocks: Sequence[Block], name: str, title: str, place: str = "", text: str = "") -> Stated:
    """The facts that the blocks of a document state.

    Args:
        name: of the file.
        title: what the document is about, for lines that stand under no heading that says it.
        place: the page, where the file has pages.
        text: of the whole document, which shows how what its tables name is written within sentences.
    """
    stated, open_question = Stated(), None
    asking = [b for b in blocks if (is_question(b.text) if b.kind == "heading" else _question(b))]
    for block in blocks:
        under = [heading for heading in block.headings if not is_question(heading)]
        source = ", ".join(filter(None, (name, place, under[-1] if under else "")))
        if block.kind == "heading":
            _close(open_question, stated)
            asked_above = block in asking and (len(asking) > 1 or asks(block.text))
            open_question = (
                _Question(unnumbered(block.text), source, f"{name}, line {block.line}") if asked_above else None
            )
        elif block.kind == "table":
            _close(open_question, stated)
            open_question = None
            _table(block, source, subject_under(block.headings, title), stated, text)
        elif asked := _question(block):
            _close(open_question, stated)
            open_question = _Question(asked[0], source, f"{name}, line {block.line}", [asked[1]] if asked[1] else [])
        elif open_question is not None and not _DEFINITION.match(block.text.strip()):
            answer = _ANSWERED.match(plain(block.text))
            open_question.answers.append(answer["answer"] if answer else plain(block.text))
        else:
            _close(open_question, stated)
            open_question = None
            _lines(block, source, subject_under(block.headings, title), stated)
    _close(open_question, stated)
    if stated.cut:
        stated.notes.append(
            f"{name}: of {stated.cut} long answers the first sentence was taken; the document holds them whole"
        )
    return stated


def question_fact(question: str, answer: str, source: str) -> Fact:
    return Fact(UNDECIDED, question, answer, statement=f"{question} {answer}", source=source)


def _question(block: Block) -> tuple[str, str] | None:
    """(question, its answer or an empty text) where a block asks one; None for other blocks."""
    text = block.text.strip()
    bold = _BOLD.match(text)
    if bold and is_question(plain(bold["bold"])):
        return unnumbered(plain(bold["bold"])), plain(bold["rest"])
    lines = [plain(line) for line in text.split("\n")]
    if asked := _ASKED.match(lines[0]):
        answer = " ".join(lines[1:])
        answered = _ANSWERED.match(answer)
        if not answer and (
            inline := regex.match(
                r"(?i)^(?P<q>.+?\?)\s+(?:A(?:nswer)?\s*\d*\s*[:.)]\s*)?(?P<a>\S.*)$", asked["question"]
            )
        ):
            return inline["q"], inline["a"]
        return asked["question"], answered["answer"] if answered else answer
    if (definition := _DEFINITION.match(text)) and definition["term"].rstrip().endswith("?"):
        return plain(definition["term"]), plain(definition["meaning"])
    if (block.kind == "item" or _NUMBERED.match(text)) and (asked := _QUESTION_FIRST.match(_NUMBERED.sub("", text))):
        return plain(asked["question"]), plain(asked["answer"] or "")
    return None


def _close(question: _Question | None, stated: Stated) -> None:
    """Makes a fact of a question, now that all of its answer was read."""
    if question is None:
        return
    answer = " ".join(question.answers).strip()
    if is_empty(answer):
        stated.left.append(left_out(question.where, question.text, "the question has no answer"))
        return
    short = shortened(answer)
    stated.cut += short.rstrip(".") != answer.rstrip(".")
    if len(short.split()) > LONGEST_ANSWER:
        stated.left.append(
            left_out(question.where, question.text, "the answer is a long text; it is kept as a passage")
        )
    else:
        stated.facts.append(question_fact(question.text, short, question.source))


def shortened(answer: str) -> str:
    """The answer; of a long one its first sentence, with the second where the first is "Yes" or the like."""
    if len(answer.split()) <= _NO_SENTENCE:
        return answer.rstrip(".")
    if len(answer.split()) <= LONGEST_WHOLE:
        return answer
    first = _SENTENCE.match(answer)
    if first and len(first[0].split()) <= _MERE_YES and (second := _SENTENCE.match(answer, first.end())):
        return second.string[: second.end()] if len(second[0].split()) <= LONGEST_WHOLE else first[0]
    return first[0] if first else answer


def _lines(block: Block, source: str, about: str, stated: Stated) -> None:
    """The facts of a definition, or of lines that are all "key: value"."""
    if definition := _DEFINITION.match(block.text.strip()):
        term, meaning = plain(definition["term"]), shortened(plain(definition["meaning"]))
        if len(meaning.split()) <= LONGEST_ANSWER:
            stated.facts.append(cell_fact("meaning", term, meaning, Kind.TEXT, source))
        return
    written = [line for line in block.text.split("\n") if line.strip()]
    keyed = [_key(plain(line)) for line in written]
    bold = [bool(_BOLD_KEY.match(line.strip())) for line in written]
    for place, pair in enumerate(keyed):
        beside = any(keyed[max(place - 1, 0) : place] + keyed[place + 1 : place + 2])
        if pair is not None and (block.kind == "item" or beside or bold[place]):
            _keep_pair(*pair, about, source, stated)


def _key(line: str) -> tuple[str, str] | None:
    """(key, value) of a line that names an attribute and its value; None for others, such as a label with a sentence."""
    match = _KEY.match(line)
    if match is None or _NO_KEY.fullmatch(match["key"]) or len(match["key"].split()) > 4 or is_empty(match["value"]):
        return None
    value = match["value"].strip()
    is_sentence = value.endswith((".", "!", "?")) and len(value.split()) > 5
    return None if is_sentence or len(value.split()) > _LONGEST_VALUE else (match["key"], value.rstrip("."))


def _keep_pair(key: str, value: str, about: str, source: str, stated: Stated) -> None:
    if not about:
        stated.left.append(left_out(source, f"{key}: {value}", "nothing says what the line is about"))
        return
    column = as_words(key)
    if not regex.search(r"\p{L}{2}", column):
        stated.left.append(left_out(source, f"{key}: {value}", "a number or a sign is no name of an attribute"))
        return
    stated.facts.append(cell_fact(column, about, value, kind_of(column, [value]), source))


def _table(block: Block, source: str, about: str, stated: Stated, text: str) -> None:
    """The facts of a table: its rows are entities, or, in two columns without names, "key, value" lines."""
    header, *rows = block.rows
    named = any(header)
    if len(header) == 2 and rows and _holds_keys(header, rows):
        for key, value in block.rows if named and not _names_columns(header) else rows:
            if not is_empty(key) and not is_empty(value) and len(value.split()) <= LONGEST_ANSWER:
                _keep_pair(key, value, about, source, stated)
        return
    cells = block.rows if named else rows
    try:
        table, left = as_table([(f"{source}, row {number}", row) for number, row in enumerate(cells)])
    except Unreadable as error:
        stated.left.append(left_out(source, ", ".join(cells[0]) if cells else "", f"a table: {error}"))
        return
    reading = read_table(table, source, written=lambda entity: as_written(entity, text))
    stated.facts += reading.facts
    stated.left += [*left, *reading.left]
    stated.notes += reading.notes


def _holds_keys(header: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first of two columns names attributes of what the document is about, rather than entities."""
    if any(header):
        return _names_columns(header) or _is_first_pair(header, rows)
    first, *others = rows
    if not others:
        return True
    later = {kind_of("", [value]) for _, value in others if not is_empty(value)}
    digits = not regex.search(r"\d", first[1]) and all(regex.search(r"\d", row[1]) for row in others)
    return not (is_role(first[1]) or digits or (len(later) == 1 and kind_of("", [first[1]]) not in later))


def _names_columns(header: Sequence[str]) -> bool:
    return comparable(header[0]) in _KEY_HEADS and comparable(header[1]) in _VALUE_HEADS


def _is_first_pair(header: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row of two columns is a pair as those below are, "Model, BX-40", and their values are of many kinds."""
    values = [value for _, value in rows if not is_empty(value)]
    kinds = {
        (kind_of("", [value]), regex.sub(r"[\d.,\s]+", "", value) if regex.match(r"\d", value) else "")
        for value in values
    }
    odd_name = regex.search(r"\d", header[1]) and not regex.fullmatch(r"(?:1\d|20)\d\d", header[1])
    return bool(odd_name) and len(kinds) > 1
