"""Topics → files that `lorary build` reads: facts as JSONL, documents as Markdown; all of them or none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from uuid import uuid4

from lorary.bank.facts import Fact
from lorary.bank.files import write_aside
from lorary.errors import one_line
from lorary.intake.source import IntakeError, Source


def is_one_file(out: str | Path) -> bool:
    return Path(out).suffix.lower() == ".jsonl"


def check_out(out: str | Path, replace: bool = False) -> None:
    """Raises IntakeError where `out` cannot be written to, or holds what was perhaps corrected by hand."""
    place = Path(out)
    if is_one_file(place):
        if place.is_dir():
            raise IntakeError(f"{place} is a folder; give a folder without the ending .jsonl, or another file")
        if place.exists() and not replace:
            raise IntakeError(
                f"{place} stands there already, perhaps corrected by hand; give another --out, or --replace"
            )
    elif place.exists() and not place.is_dir():
        raise IntakeError(f"{place} is a file; give a folder, or a file that ends in .jsonl")
    elif place.is_dir() and any(place.iterdir()) and not replace:
        raise IntakeError(
            f"{place} is not empty, and what is there may be corrected by hand; give another --out, or --replace"
        )


def write_sources(sources: Sequence[Source], out: str | Path, replace: bool = False) -> list[Path]:
    """Writes the facts of all topics into one JSONL file, or a JSONL and a Markdown file for each topic into a folder.

    A new folder appears whole, by one renaming. In a folder that is there, each file takes the place of the one of its
    name; other files stay.

    Raises:
        IntakeError: `out` cannot be written; what stood there before stands there still.
    """
    check_out(out, replace)
    place = Path(out)
    if is_one_file(place):
        contents = {place: _lines((fact for source in sources for fact in source.facts), with_topic=True)}
    else:
        contents = {place / name: content for source in sources for name, content in _files_of(source).items()}
    try:
        if is_one_file(place) or (place.is_dir() and any(place.iterdir())):
            for path, content in contents.items():
                write_aside(path, content)
        else:
            _write_folder(place, contents)
    except OSError as error:
        raise IntakeError(f"nothing was written to {place}: {one_line(error)}") from error
    return list(contents)


def _write_folder(place: Path, contents: dict[Path, bytes]) -> None:
    aside = place.with_name(f"{place.name}.{uuid4().hex}.part")
    try:
        aside.mkdir(parents=True)
        for path, content in contents.items():
            write_aside(aside / path.name, content)
        aside.replace(place)  # an empty folder may be replaced
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _files_of(source: Source) -> dict[str, bytes]:
    files = {f"{source.topic}.jsonl": _lines(source.facts, with_topic=False)} if source.facts else {}
    if source.document:
        files[f"{source.topic}.md"] = (source.document + "\n").encode()
    return files


def _lines(facts: Iterable[Fact], with_topic: bool) -> bytes:
    rows = ({key: value for key, value in fact.to_json().items() if with_topic or key != "topic"} for fact in facts)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
