"""Tables → facts: a row is an entity, a column an attribute, a cell a fact."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import regex

from lorary.bank.documents import Passage
from lorary.bank.facts import Fact, comparable
from lorary.intake.kinds import Kind, kind_of
from lorary.intake.situations import is_situation, situation_statement, situation_wordings
from lorary.intake.source import UNDECIDED, LeftOut, Part, left_out
from lorary.intake.templates import Templates
from lorary.intake.wordings import statement, wordings
from lorary.tables import counted

EMPTY = {"", "-", "–", "—", "?", "n/a", "na", "none", "null", "nan", "#n/a", "tbd"}
"""What people write into a cell that holds nothing, in lower case."""
MOST_CELLS = 200_000
"""Of a table; a memory recalls some hundred facts, so a larger one would make a bank that nobody can write."""
LONGEST_ANSWER = 40
"""The words of the longest cell that is an answer; a longer one is a text to be read."""
_MOSTLY_DISTINCT, _HALF_DISTINCT = 0.8, 0.5
"""The share of different values of a column of names, and of the first column, which mostly is one."""
_UNNAMED = (Kind.YES_NO, Kind.DATE, Kind.TIME, Kind.MONEY, Kind.MEASURE, Kind.ADDRESS)


@dataclass(frozen=True)
class Table:
    """A table of text; every row has a cell for each column."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    places: tuple[str, ...]
    """Where each row stands: "prices.csv, row 12"."""
    heading: str = ""


@dataclass
class Reading:
    """What a table gave."""

    facts: list[Fact] = field(default_factory=list)
    passages: list[Passage] = field(default_factory=list)
    left: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def part(self, heading: str = "", own_topic: bool = False) -> Part:
        text = "\n\n".join(passage.text for passage in self.passages)
        return Part(heading, text, tuple(self.passages), tuple(self.facts), own_topic)


class Header(NamedTuple):
    """A column's name as it stands within a sentence, and the unit that its name tells."""

    name: str
    unit: str


def is_empty(cell: str) -> bool:
    return cell.strip().casefold() in EMPTY


def read_table(
    table: Table,
    where: str,
    entity: str | None = None,
    templates: Templates | None = None,
    written: Callable[[str], str] = str,
) -> Reading:
    """The facts of a table.

    Args:
        where: the file, and the sheet or the heading.
        entity: the name of the column that says what each row is about; by default the first whose values differ.
        templates: wordings that the user gives; they stand before those by rule.
        written: an entity → how it is written within a sentence of the document that the table stands in.
    """
    reading = Reading()
    if (count := len(table.rows) * len(table.columns)) > MOST_CELLS:
        why = f"the table has more than {MOST_CELLS:,} cells; give the rows that matter"
        reading.left.append(left_out(where, f"{count:,} cells", why))
        return reading
    key = _entity_column(table, entity)
    if key is None:
        why = f"the table has no column {entity!r}" if entity else "no column says what each row is about"
        reading.left.append(left_out(where, ", ".join(table.columns), why))
        return reading
    headers = [_header(column) for column in table.columns]
    columns = [[row[index].strip() for row in table.rows] for index in range(len(headers))]
    for index, column in enumerate(table.columns):
        if not column.strip() and index != key and any(not is_empty(cell) for cell in columns[index]):
            reading.left.append(left_out(where, f"column {index + 1}", "the column has no name"))
    kinds = [
        kind_of(header.name, [c for c in cells if not is_empty(c)])
        for header, cells in zip(headers, columns, strict=True)
    ]
    situations = is_situation(headers[key].name)
    for row, called, used in _named_rows(table, key, headers, reading, where):
        name = called if situations else written(called)
        place, cells = table.places[row], table.rows[row]
        for index, header in enumerate(headers):
            if index in (key, used) or not header.name:
                continue
            value = _with_unit(cells[index].strip(), header.unit)
            about = f"{header.name} of {name}"
            if is_empty(cells[index]):
                reading.left.append(left_out(place, about, "the cell is empty"))
            elif len(value.split()) > LONGEST_ANSWER:
                reading.passages.append(Passage(f"{about[0].upper()}{about[1:]}: {' '.join(value.split())}", place))
            else:
                own = templates.of(table.columns, cells, index, name, header.name) if templates else ()
                fact = situation_fact if situations else cell_fact
                reading.facts.append(fact(header.name, name, value, kinds[index], place, own))
    return reading


def cell_fact(column: str, entity: str, value: str, kind: Kind, source: str, templates: Sequence[str] = ()) -> Fact:
    """The fact that an entity has a value, in every wording; those of the user first."""
    value = " ".join(value.split())
    return _fact((*templates, *wordings(column, entity, kind)), value, statement(column, entity, value, kind), source)


def situation_fact(
    column: str, situation: str, value: str, kind: Kind, source: str, templates: Sequence[str] = ()
) -> Fact:
    """The fact of what is said of a situation, such as a fault; its kind does not matter."""
    value = " ".join(value.split())
    asked = (*templates, *situation_wordings(column, situation))
    return _fact(asked, value, situation_statement(column, situation, value), source)


def _fact(asked: Sequence[str], value: str, stated: str, source: str) -> Fact:
    first, *others = {comparable(wording): wording for wording in asked}.values()
    return Fact(UNDECIDED, first, value, tuple(others), statement=stated, source=source)


def as_words(name: str) -> str:
    """The name of a column as people would say it: "alarmCode" and "alarm_code" become "alarm code"."""
    text = regex.sub(r"(?<=\p{Ll})(?=\p{Lu}\p{Ll})|[_\s]+", " ", name.strip().strip(":*?"))
    return " ".join(word if regex.search(r"\p{Lu}.*\p{Lu}|\d", word) else word.lower() for word in text.split())


def _header(column: str) -> Header:
    unit = regex.fullmatch(r"(?s)(?P<name>.+?)\s*[(\[](?P<unit>[^)\]]{1,12})[)\]]\s*", column)
    return Header(as_words(unit["name"]), unit["unit"].strip()) if unit else Header(as_words(column), "")


def _with_unit(value: str, unit: str) -> str:
    """A bare number with the unit that the name of its column tells."""
    return f"{value} {unit}" if unit and regex.fullmatch(r"[-+−]?\d[\d.,'’ ]*", value) else value


def _entity_column(table: Table, name: str | None) -> int | None:
    """The column that says what each row is about; None where there is none."""
    if name is not None:
        wanted = comparable(name)
        return next((i for i, column in enumerate(table.columns) if comparable(column) == wanted), None)
    shares: list[tuple[float, Kind]] = []
    for index, column in enumerate(table.columns):
        cells = [row[index].strip() for row in table.rows]
        filled = [cell for cell in cells if not is_empty(cell)]
        long = any(len(cell.split()) > 12 for cell in filled)
        share = 0.0 if long or not cells else len({comparable(cell) for cell in filled}) / len(cells)
        shares.append((share, kind_of(as_words(column), filled)))
    named = [
        index
        for index, (share, kind) in enumerate(shares)
        if kind not in (*_UNNAMED, Kind.NUMBER, Kind.YEAR) and share >= (_MOSTLY_DISTINCT if index else _HALF_DISTINCT)
    ]
    distinct = [index for index, (share, _) in enumerate(shares) if share == 1]
    return next(iter((*named, *distinct)), None)


def _named_rows(
    table: Table, key: int, headers: Sequence[Header], reading: Reading, where: str
) -> list[tuple[int, str, int | None]]:
    """(row, what the row is about, the column that tells it apart) of each row that can be told apart."""
    names: dict[str, list[int]] = {}
    for row, cells in enumerate(table.rows):
        if is_empty(cells[key]):
            reading.left.append(
                left_out(table.places[row], ", ".join(filter(None, cells)), "the row does not say what it is about")
            )
        else:
            names.setdefault(comparable(cells[key]), []).append(row)
    named: list[tuple[int, str, int | None]] = []
    for rows in names.values():
        rows = _without_copies(table, rows, reading)
        name = _as_entity(table.rows[rows[0]][key].strip(), headers[key].name)
        apart = _column_apart(table, rows, key) if len(rows) > 1 else None
        if len(rows) > 1 and apart is None:
            reading.left += [
                left_out(table.places[row], name, "another row has the same name, and no column tells them apart")
                for row in rows
            ]
        elif apart is None:
            named.append((rows[0], name, None))
        else:
            header = headers[apart]
            reading.notes.append(
                f"{where}: {counted(len(rows), 'row')} are called {name}; their {header.name} is added to the name"
            )
            named += [(row, f"{name} ({header.name} {table.rows[row][apart].strip()})", apart) for row in rows]
    return sorted(named)


def _without_copies(table: Table, rows: Sequence[int], reading: Reading) -> list[int]:
    first: dict[tuple[str, ...], int] = {}
    for row in rows:
        if first.setdefault(table.rows[row], row) != row:
            reading.left.append(left_out(table.places[row], ", ".join(table.rows[row]), "the same row stands twice"))
    return list(first.values())


def _column_apart(table: Table, rows: Sequence[int], key: int) -> int | None:
    """The first column in which all these rows differ, in a few words each."""
    for index, column in enumerate(table.columns):
        values = [table.rows[row][index].strip() for row in rows]
        short = all(not is_empty(value) and len(value.split()) <= 4 for value in values)
        if index != key and column.strip() and short and len(set(map(comparable, values))) == len(rows):
            return index
    return None


def _as_entity(value: str, column: str) -> str:
    """What a row is about, as it stands within a sentence: a number needs its noun, and a common noun its article."""
    value = " ".join(value.split())
    if regex.fullmatch(r"[\d.,/-]+", value):
        noun = regex.sub(r"(?i)\s*\b(?:id|no\.?|number|nr\.?|#)$", "", column).strip()
        return f"{noun or 'number'} {value}"
    if (
        value[0].islower()
        and value.isascii()
        and not regex.match(r"(?:the|a|an|our|my|your) ", value)
        and not regex.search(r"[\d@.]", value)
    ):
        return f"the {value}"
    return value
