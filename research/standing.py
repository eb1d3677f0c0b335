"""What stands in a folder of results: taken up under the same settings, refused under others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SCHEMA = 2
"""Of what is measured and how gates are made; results of another are not gone on with."""


def standing(place: Path, settings: Mapping[str, Any], what: str) -> dict[str, Any] | None:
    """The results in `place/results.json`, None where there is none.

    Args:
        settings: what the results must have been measured with, as their `settings` tell it.
        what: they are, for the error.

    Raises:
        ValueError: they were measured with other settings.
    """
    if not (place / "results.json").is_file():
        return None
    found: dict[str, Any] = json.loads((place / "results.json").read_text(encoding="utf-8"))
    theirs, ours = found.get("settings", {}), json.loads(json.dumps(settings))
    if odd := sorted(name for name in {*theirs, *ours} if theirs.get(name) != ours.get(name)):
        raise ValueError(
            f"{place} holds {what} with another {odd[0]}: {theirs.get(odd[0])!r}, not {ours.get(odd[0])!r}; give another "
            "folder, or the same settings to go on"
        )
    return found
