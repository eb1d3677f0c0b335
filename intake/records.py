"""JSON and JSONL → parts: questions and answers, chats, texts, or rows of a table, told apart record by record."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lorary.intake.chats import Message, chat_contents, message_of
from lorary.intake.pairs import Pairs, pairs_contents, pairs_of, squad_pairs
from lorary.intake.source import Contents, LeftOut, Unreadable, left_out
from lorary.intake.spreadsheets import as_table
from lorary.intake.tables import read_table
from lorary.intake.templates import Templates
from lorary.intake.texts import read_text

_LISTS = (
    "data",
    "rows",
    "examples",
    "records",
    "items",
    "train",
    "questions",
    "faq",
    "facts",
    "messages",
    "conversations",
)


def read_records(
    path: Path, name: str, encoding: str | None, entity: str | None, templates: Templates | None
) -> Contents:
    """The contents of a JSON or JSONL file.

    Raises:
        Unreadable: it is not JSON, or holds nothing that is read.
    """
    left: list[LeftOut] = []
    found: list[Pairs] = []
    messages: list[Message] = []
    rows: list[tuple[str, Mapping[str, Any]]] = []
    for where, record in list(_records(path, read_text(path, encoding), name, left)):
        if isinstance(record.get("paragraphs"), list):
            found += squad_pairs(record, where)
        elif pairs := pairs_of(record, where):
            found.append(pairs)
        elif message := message_of(record, where):
            messages.append(message)
        elif set(record) == {"text"} and str(record["text"]).strip():
            found.append(Pairs("", [], [], str(record["text"])))
        elif record and all(not isinstance(value, (dict, list)) for value in record.values()):
            rows.append((where, record))
        else:
            left.append(left_out(where, json.dumps(record, ensure_ascii=False), "no reader knows its fields"))
    if messages:  # what joins a chat, or changes its name, is no row of a table
        left += [
            left_out(where, ", ".join(map(str, row.values())), "a record of the chat that nobody said")
            for where, row in rows
        ]
        rows = []
    kinds = (pairs_contents(found, name), _chat(messages, name), _rows(rows, name, entity, templates))
    parts = tuple(part for contents in kinds for part in contents.parts)
    left += [item for contents in kinds for item in contents.left_out]
    return Contents(parts, tuple(left), tuple(note for contents in kinds for note in contents.notes))


def _chat(messages: Sequence[Message], name: str) -> Contents:
    return chat_contents(messages, (), name) if messages else Contents()


def _rows(
    rows: Sequence[tuple[str, Mapping[str, Any]]], name: str, entity: str | None, templates: Templates | None
) -> Contents:
    """The contents of records that are rows of a table."""
    if not rows:
        return Contents()
    columns = list(dict.fromkeys(column for _, row in rows for column in row))
    cells = [(where, [_cell(row.get(column)) for column in columns]) for where, row in rows]
    try:
        table, left = as_table([(name, columns), *cells])
    except Unreadable as error:
        return Contents(left_out=tuple(left_out(where, ", ".join(row), f"a record: {error}") for where, row in cells))
    reading = read_table(table, name, entity, templates)
    return Contents((reading.part(),), (*left, *reading.left), tuple(reading.notes))


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def _records(path: Path, text: str, name: str, left: list[LeftOut]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(where, record) of each object in a file. Raises Unreadable for a file that is not JSON at all."""
    if path.suffix.lower() == ".json":
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            if not text.lstrip().startswith("{") or "\n{" not in text:
                raise Unreadable(f"it is not JSON ({_told(error)})") from None
        else:
            yield from _in_document(document, name, left)
            return
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    broken: list[LeftOut] = []
    for number, line in lines:
        where = f"{name}, line {number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            broken.append(left_out(where, line, f"it is not JSON ({_told(error)})"))
            continue
        if isinstance(record, dict):
            yield where, record
        else:
            left.append(left_out(where, line, "it is no JSON object"))
    if lines and len(broken) == len(lines):
        raise Unreadable(f"no line of it is JSON: {broken[0].why}")
    left += broken


def _in_document(document: Any, name: str, left: list[LeftOut]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The records of a decoded JSON file: a list of them, a list under a known name, or objects or answers by their name."""
    if isinstance(document, dict):
        listed = next((key for key in _LISTS if isinstance(document.get(key), list)), None)
        if listed in ("messages", "conversations") and pairs_of(document, name):
            document = [document]
        elif listed is not None:
            document = document[listed]
        elif document and all(isinstance(value, dict) for value in document.values()):
            document = [{"name": key, **value} for key, value in document.items()]
        elif document and all(str(key).rstrip().endswith("?") for key in document):
            document = [{"question": key, "answer": value} for key, value in document.items()]
        else:
            document = [document]
    if not isinstance(document, list):
        raise Unreadable(f"it holds {type(document).__name__}, not a list of records")
    for number, record in enumerate(document, 1):
        where = f"{name}, record {number}"
        if isinstance(record, dict):
            yield where, record
        elif isinstance(record, list) and pairs_of({"messages": record}, where):
            yield where, {"messages": record}
        else:
            left.append(left_out(where, record, "it is no JSON object"))


def _told(error: ValueError | RecursionError) -> str:
    return f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
