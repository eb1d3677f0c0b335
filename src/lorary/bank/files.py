"""A bank's files: written aside, synced and renamed; the manifest `bank.json` is read and checked."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from lorary.errors import LoraryError

FORMAT = 1
MANIFEST = "bank.json"


class BankError(LoraryError):
    """A bank that cannot be read, or a change that it does not allow."""


def read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BankError(f"{folder} holds no {MANIFEST}; give a folder that `lorary build` wrote") from None
    except json.JSONDecodeError as error:
        raise BankError(f"{folder / MANIFEST} is not JSON ({error.msg}); restore it, or build the bank again") from None
    if manifest.get("format_version") != FORMAT:
        raise BankError(
            f"{folder / MANIFEST} has format {manifest.get('format_version')!r}, this version reads {FORMAT}; "
            "install the version of lorary that wrote it"
        )
    return manifest


def write_aside(path: Path, content: bytes) -> None:
    """Writes a file beside its place, syncs it and renames it there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".part")
    with aside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)


def to_json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True, default=sorted) + "\n").encode()


def hash_of(content: bytes) -> str:
    return sha256(content).hexdigest()
