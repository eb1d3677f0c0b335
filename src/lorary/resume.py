"""Go on or refuse: what a run does with the results that stand in its folder.

A run keeps what it measured in `results.json`: which `study` it is, a `schema` number of how it measures, what it was
measured with, and the results. A run of equal settings goes on from there. Anything else in the folder is somebody's
work: it is never overwritten.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from lorary.bank.files import to_json, write_aside
from lorary.errors import LoraryError

RESULTS = "results.json"
REPORT = "report.md"
_SHOWN = 3


class ResumeError(LoraryError):
    """Results that cannot be read or gone on from: says why and what to do."""


@dataclass(kw_only=True)
class Header:
    """What made the results of a study; `partial` until its run was finished."""

    schema: int
    partial: bool = True
    made: str
    configuration: Mapping[str, Any]
    versions: Mapping[str, str]
    machine: Mapping[str, Any]


def header_of(results: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the header in decoded results. Raises KeyError for results that lack one."""
    return {field.name: results[field.name] for field in fields(Header)}


def go_on(
    folder: str | Path,
    study: str,
    schema: int,
    settings: Mapping[str, Mapping[str, Any]],
    *,
    writes: Sequence[str] = (REPORT,),
) -> dict[str, Any] | None:
    """The results that stand in `folder`, to go on from; None where there are none. Nothing is written.

    Args:
        study: which study wrote them, as their `study` says.
        schema: the number of what is measured and how; results of another number cannot be joined.
        settings: section of the results → name → value that the results must have been made with. A name that the
            results do not have counts as None. A name that is not given here may have any value.
        writes: files that the run will write beside the results.

    Raises:
        ResumeError: the results are of other settings, another schema or another study, or are no results; or there are
            none, and one of `writes` stands there that no run of this study can have written.
    """
    place = Path(folder)
    if place.exists() and not place.is_dir():
        raise ResumeError(f"{place} is a file; give a folder for the results")
    if not (place / RESULTS).exists():
        if foreign := [name for name in writes if (place / name).exists()]:
            raise ResumeError(
                f"{place} holds {foreign[0]} but no {RESULTS} that says what made it, and it would be overwritten; give "
                "another folder"
            )
        return None
    results = read_results(place, study, schema)
    check_same(results, settings, str(place))
    return results


def check_same(results: Mapping[str, Any], settings: Mapping[str, Mapping[str, Any]], where: str) -> None:
    """Raises ResumeError where the results that stand in `where` were made with other settings, as `go_on` compares them."""
    differences = [
        f"{name} {_in(results, section).get(name)!r}, not {_as_json(value)!r}"
        for section, values in settings.items()
        for name, value in values.items()
        if _in(results, section).get(name) != _as_json(value)
    ]
    if differences:
        more = f" (and {len(differences) - _SHOWN} more)" if len(differences) > _SHOWN else ""
        raise ResumeError(
            f"{where} holds a run with {'; '.join(differences[:_SHOWN])}{more}: give another place, or the same settings "
            "to go on"
        )


def read_results(place: str | Path, study: str, schema: int) -> dict[str, Any]:
    """The results of a study in a folder, or in a file.

    Raises:
        ResumeError: they are not there, are not JSON, or are of another schema or another study.
    """
    path = Path(place) / RESULTS if Path(place).is_dir() else Path(place)
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ResumeError(f"{path} cannot be read ({error.strerror}); give a folder of `{study}` results") from None
    except (ValueError, RecursionError) as error:
        raise ResumeError(f"{path} is not JSON ({error}); give another folder, or remove the file") from None
    if not isinstance(results, dict) or "schema" not in results:
        raise ResumeError(f"{path} holds no results of this program; give another folder")
    number, other = results["schema"], results.get("study")
    if other is not None and other != study:
        raise ResumeError(f"{path} holds results of {other!r}, not of {study!r}; give another folder")
    if other is None and number == schema:
        raise ResumeError(f"{path} holds no results of this program that say of which study; give another folder")
    if number != schema:
        raise ResumeError(
            f"{path} has schema {number!r} and this version reads {schema}; give another folder to measure anew"
        )
    return results


def write_results(folder: str | Path, results: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """Writes `results.json`, then what was made from it, by file name; each beside its place, and then renamed there.

    The results come first, because they say that the other files are this run's. A run that stops in between leaves an
    older report, which the next one writes anew.
    """
    write_aside(Path(folder) / RESULTS, to_json(results))
    for name, content in files.items():
        write_aside(Path(folder) / name, content)


def _in(results: Mapping[str, Any], section: str) -> Mapping[str, Any]:
    values = results.get(section)
    return values if isinstance(values, dict) else {}


def _as_json(value: Any) -> Any:
    """The value as JSON gives it back."""
    return json.loads(json.dumps(value))
