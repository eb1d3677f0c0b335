"""Wordings that the user gives for the cells of a table: "Who is {entity}'s {column}?"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import Formatter

from lorary.bank.facts import comparable
from lorary.intake.source import IntakeError

_FORM = 'such as "Who is {entity}\'s {column}?" for every column, or "price=What does {entity} cost?" for one'


@dataclass(frozen=True)
class Template:
    column: str | None
    """The only column it is for; None for all."""
    text: str


@dataclass(frozen=True)
class Templates:
    """What the user gave with `--template`."""

    templates: tuple[Template, ...]

    @classmethod
    def parse(cls, texts: Sequence[str]) -> Templates:
        """Raises IntakeError for a template that names no entity, or that all columns would share."""
        return cls(tuple(map(_parsed, texts)))

    def of(self, columns: Sequence[str], cells: Sequence[str], index: int, entity: str, column: str) -> tuple[str, ...]:
        """The wordings for one cell; a template whose further placeholders are empty in this row gives none."""
        row = {name: cell.strip() for name, cell in zip(columns, cells, strict=True)}
        values = row | {"entity": entity, "column": column}
        found = []
        for template in self.templates:
            if template.column is not None and comparable(template.column) not in (
                comparable(columns[index]),
                column.lower(),
            ):
                continue
            names = _placeholders(template.text)
            if unknown := sorted(names - set(values)):
                raise IntakeError(f"--template {template.text!r} asks for {unknown[0]!r}; a row has {list(values)}")
            if columns[index] not in names and all(values[name] for name in names):
                wording = template.text.format_map(values)
                found.append(wording[:1].upper() + wording[1:])
        return tuple(found)


def _parsed(text: str) -> Template:
    column, separator, rest = text.partition("=")
    template = (
        Template(column.strip(), rest.strip()) if separator and "{" not in column else Template(None, text.strip())
    )
    names = _placeholders(template.text)
    if "entity" not in names:
        raise IntakeError(f"--template {text!r} does not say {{entity}}, so all rows would share it; give one {_FORM}")
    if template.column is None and "column" not in names:
        raise IntakeError(f"--template {text!r} would be the same for every column; give one {_FORM}")
    return template


def _placeholders(text: str) -> set[str]:
    try:
        return {name for _, name, _, _ in Formatter().parse(text) if name is not None}
    except ValueError as error:
        raise IntakeError(f"--template {text!r} cannot be read ({error}); give one {_FORM}") from None
