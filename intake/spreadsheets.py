"""CSV, TSV and XLSX → tables of text, as people see the cells."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time
from itertools import zip_longest
from pathlib import Path
from typing import Any

import regex

from lorary.intake.kinds import Kind, kind_of
from lorary.intake.source import LeftOut, Unreadable, left_out
from lorary.intake.tables import Table, is_empty
from lorary.intake.texts import read_text

_LONGEST_NAME = 8
"""The words of the longest name of a column."""
_DELIMITERS = ",;\t|"
_CURRENCY = regex.compile(r"\[\$(?P<sign>[^\]-]+)(?:-[^\]]*)?\]|\"(?P<quoted>\p{Sc})\"|(?P<bare>\p{Sc})")


def read_csv(path: Path, name: str, encoding: str | None = None) -> tuple[Table, list[LeftOut]]:
    """The table in a CSV or TSV file. Raises Unreadable for one without a header or without rows."""
    text = read_text(path, encoding)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else _delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    numbered: list[tuple[str, list[str]]] = []
    try:
        numbered += [(f"{name}, line {reader.line_num}", row) for row in reader]
    except csv.Error as error:
        raise Unreadable(f"line {reader.line_num} is no CSV: {error}") from None
    return as_table(numbered)


def as_table(numbered: Sequence[tuple[str, Sequence[str]]], heading: str = "") -> tuple[Table, list[LeftOut]]:
    """(the table, what was left out) of rows with their places, the first of two cells or more being the header.

    Raises:
        Unreadable: there is no header, or there are no rows below it.
    """
    start = next((i for i, (_, row) in enumerate(numbered) if sum(not is_empty(c) for c in row) >= 2), None)
    left = [left_out(place, ", ".join(row), "it stands above the table") for place, row in numbered[:start] if any(row)]
    if start is None:
        raise Unreadable("it holds no table: no row has two cells")
    columns = [str(cell).strip() for cell in numbered[start][1]]
    while columns and not columns[-1]:
        columns.pop()
    filled = [column for column in columns if column]
    names = (Kind.TEXT, Kind.PERSON, Kind.PLACE)
    no_names = [c for c in filled if kind_of("", [c]) not in names or len(c.split()) > _LONGEST_NAME]
    if no_names or len(set(filled)) < len(filled):
        why = f"{no_names[0]!r} is no name of a column" if no_names else "two columns have one name"
        raise Unreadable(f"the first row is no header ({why}); put a row with the columns' names on top")
    rows, places = [], []
    for place, row in numbered[start + 1 :]:
        if not any(cell.strip() for cell in row):
            continue
        if any(cell.strip() for cell in row[len(columns) :]):
            left.append(left_out(place, ", ".join(row), "the row has more cells than the header"))
            continue
        rows.append(tuple(cell or "" for _, cell in zip_longest(columns, row[: len(columns)], fillvalue="")))
        places.append(place)
    if not rows:
        raise Unreadable("it holds a header and no rows")
    return Table(tuple(columns), tuple(rows), tuple(places), heading), left


def read_xlsx(path: Path, name: str) -> Iterator[tuple[str, Table | Unreadable, list[LeftOut]]]:
    """(sheet, its table or why there is none, what was left out) of each sheet of a workbook. Raises Unreadable."""
    from openpyxl import load_workbook

    try:
        workbook = load_workbook(path, data_only=True)
    except Exception as error:  # a workbook is somebody's archive of XML: anything may be wrong with it
        raise Unreadable(f"it cannot be opened as a workbook ({type(error).__name__})") from None
    for sheet in workbook.worksheets:
        numbered = [
            (f"{name}, {sheet.title}, row {number}", [_cell_text(cell) for cell in row])
            for number, row in enumerate(sheet.iter_rows(), 1)
        ]
        try:
            yield (sheet.title, *as_table(numbered, sheet.title))
        except Unreadable as error:
            yield sheet.title, error, []


def _cell_text(cell: Any) -> str:
    """A cell as people see it: dates without a time of 0:00, 3 rather than 3.0, a percentage or a currency with its sign."""
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(" ", "minutes")
    if isinstance(value, time):
        return value.isoformat("minutes")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, (int, float)):
        return _number_text(value, cell.number_format or "General")
    return " ".join(str(value).split())


def _number_text(value: int | float, form: str) -> str:
    if "%" in form:
        return f"{round(value * 100, 6):g}%"
    if currency := _CURRENCY.search(form):
        sign = (currency["sign"] or currency["quoted"] or currency["bare"]).strip()
        digits = 2 if regex.search(r"0\.00", form) else (0 if float(value).is_integer() else 2)
        amount = f"{value:.{digits}f}"
        return (
            f"{sign}{amount}"
            if form.find(sign) < (form.find("0") if "0" in form else len(form)) and len(sign) == 1
            else f"{amount} {sign}"
        )
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(round(value, 10))


def _delimiter(text: str) -> str:
    """The delimiter of a CSV: the one that cuts most of the first lines into one number of cells, two at least."""

    def agreement(delimiter: str) -> tuple[int, int]:
        rows = [row for row in csv.reader(io.StringIO(text[:20_000], newline=""), delimiter=delimiter) if row][:20]
        wide = len(rows[0]) if rows else 1
        return (sum(len(row) == wide for row in rows) if wide > 1 else 0, wide)

    try:
        return max(_DELIMITERS, key=agreement)
    except csv.Error:
        return ","
