"""Files → their contents: which files a source means, and which reader each of them has."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorary.errors import one_line
from lorary.intake.documents import CONVERTED, WRITTEN, read_document
from lorary.intake.pairs import ANSWERS, QUESTIONS, pairs_contents, pairs_of
from lorary.intake.records import read_records
from lorary.intake.source import Contents, IntakeError, LeftOut, Part, Unreadable, left_out
from lorary.intake.spreadsheets import read_csv, read_xlsx
from lorary.intake.tables import Table, read_table
from lorary.intake.templates import Templates

TABLES = (".csv", ".tsv", ".xlsx")
RECORDS = (".json", ".jsonl")
ENDINGS = (*WRITTEN, *CONVERTED, *TABLES, *RECORDS)
_MEGABYTE = 1_000_000


@dataclass(frozen=True)
class File:
    """A file of a source.

    Args:
        name: how it is told to people and in the source of facts: its path below the folder that was given.
        folder: the folder that it was found in; None for a file that was given itself.
    """

    path: Path
    name: str
    folder: Path | None = None


def files_in(sources: Sequence[str | Path]) -> tuple[list[File], list[LeftOut]]:
    """(the files to read, those that are none of ours) of files and folders, in order; hidden ones are passed over.

    Raises:
        IntakeError: a source that does not exist.
    """
    files: dict[Path, File] = {}
    left: list[LeftOut] = []
    for source in map(Path, sources):
        if source.is_dir():
            found = [File(path, path.relative_to(source).as_posix(), source) for path in _walk(source)]
        elif source.exists():
            found = [File(source, source.name)]
        else:
            raise IntakeError(f"{source}: no such file or folder; give files or folders with {_endings()}")
        for file in found:
            if file.path.suffix.lower() not in ENDINGS:
                left.append(
                    left_out(
                        file.name, _size(file.path), f"no reader for {file.path.suffix or 'a name without an ending'}"
                    )
                )
            elif file.folder and file.path.stem.lower() == "readme":
                left.append(
                    left_out(
                        file.name, _size(file.path), "a readme tells of the folder; give it by its name to read it"
                    )
                )
            else:
                files.setdefault(file.path.resolve(), file)
    return list(files.values()), left


def read_file(
    file: File,
    *,
    encoding: str | None = None,
    entity: str | None = None,
    templates: Templates | None = None,
    largest: float = 50.0,
) -> Contents:
    """The contents of a file; one that cannot be read is told as left out.

    Args:
        entity: the column that says what the rows of a table are about.
        largest: the megabytes of the largest file that is read.
    """
    try:
        size = file.path.stat().st_size
        if size > largest * _MEGABYTE:
            raise Unreadable(f"it is larger than {largest:g} MB; split it, or allow more by --largest")
        if size == 0:
            raise Unreadable("it is empty")
        contents = _read(file, encoding, entity, templates)
    except (Unreadable, OSError) as error:
        return Contents(
            left_out=(left_out(file.name, _size(file.path), one_line(error).removeprefix(f"{file.path}: ")),)
        )
    if not contents.left_out and not any(part.facts or part.passages for part in contents.parts):
        return Contents(left_out=(left_out(file.name, _size(file.path), "it holds nothing that is read"),))
    return contents


def _read(file: File, encoding: str | None, entity: str | None, templates: Templates | None) -> Contents:
    suffix = file.path.suffix.lower()
    if suffix in RECORDS:
        return read_records(file.path, file.name, encoding, entity, templates)
    if suffix not in TABLES:
        return read_document(file.path, file.name, encoding)
    if suffix != ".xlsx":
        table, left = read_csv(file.path, file.name, encoding)
        return _of_tables([(table, file.name)], left, entity, templates)
    tables: list[tuple[Table, str]] = []
    all_left: list[LeftOut] = []
    for sheet, table_or_error, left in read_xlsx(file.path, file.name):
        where = f"{file.name}, {sheet}"
        if isinstance(table_or_error, Table):
            tables.append((table_or_error, where))
        else:
            left = [left_out(where, "sheet", str(table_or_error))]
        all_left += left
    return _of_tables(tables, all_left, entity, templates)


def _of_tables(
    tables: Iterable[tuple[Table, str]], left: list[LeftOut], entity: str | None, templates: Templates | None
) -> Contents:
    parts: list[Part] = []
    notes: list[str] = []
    for table, where in tables:
        if _asks(table):
            records = (dict(zip(table.columns, row, strict=True)) for row in table.rows)
            found = (pairs_of(record, place) for place, record in zip(table.places, records, strict=True))
            contents = pairs_contents(filter(None, found), where)
        else:
            reading = read_table(table, where, entity, templates)
            contents = Contents((reading.part(table.heading),), tuple(reading.left), tuple(reading.notes))
        parts += contents.parts
        left = [*left, *contents.left_out]
        notes += contents.notes
    return Contents(tuple(parts), tuple(left), tuple(notes))


def _asks(table: Table) -> bool:
    """Whether the columns of a table are questions and answers."""
    names = {column.lower().strip() for column in table.columns}
    return bool(names & set(QUESTIONS)) and bool(names & set(ANSWERS))


def _walk(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place) / name for name in sorted(names) if not name.startswith((".", "~$")))


def _size(path: Path) -> str:
    try:
        size = path.stat().st_size
    except OSError:
        return "?"
    return f"{size / _MEGABYTE:,.1f} MB" if size >= _MEGABYTE else f"{size:,} bytes"


def _endings() -> str:
    return f"{', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}"
