"""The manifest `bank.json`: the commit point of a bank, and what a bank may say of itself."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorary.bank.facts import NAME, NAME_RULE
from lorary.bank.files import FORMAT, MANIFEST, BankError, check_file_inside, hash_of, place_inside, to_json
from lorary.bank.memory import FILES, OPTIONAL_FILES

_FOLDER = re.compile(r"memories/[A-Za-z0-9][A-Za-z0-9._+-]{0,95}")
_HASH = re.compile(r"[0-9a-f]{64}")
_WRITERS = "give a folder that `lorary build`, `lorary new` or `lorary train-router` wrote"


@dataclass(frozen=True)
class Manifest:
    """What `bank.json` says.

    Args:
        linears: the base's block linears, path → (d_in, d_out).
        folders: name of each memory, in order → its folder in the bank.
        files: path of every file of a memory → sha256 of its content.
    """

    base: str
    revision: str | None
    fingerprint: str
    layers_path: str
    linears: Mapping[str, tuple[int, int]]
    encoder: str
    folders: Mapping[str, str]
    files: Mapping[str, str]

    def hashes(self, name: str) -> dict[str, str]:
        """Path → sha256 of the files of one memory."""
        place = self.folders[name]
        paths = [f"{place}/{file}" for file in (*FILES, *OPTIONAL_FILES)]
        return {path: self.files[path] for path in paths if path in self.files}

    def to_bytes(self) -> bytes:
        base = {"name": self.base, "revision": self.revision, "fingerprint": self.fingerprint}
        linears = {path: list(shape) for path, shape in self.linears.items()}
        content = {
            "format_version": FORMAT,
            "base": base | {"layers_path": self.layers_path, "linears": linears},
            "encoder": self.encoder,
            "memories": [{"name": name, "folder": folder} for name, folder in self.folders.items()],
            "files": self.files,
        }
        return to_json(content)


def hash_of_manifest(folder: Path) -> str | None:
    """The hash of `bank.json`, which changes with every change of the bank; None where there is none."""
    try:
        return hash_of((folder / MANIFEST).read_bytes())
    except OSError:
        return None


def read_manifest(folder: Path) -> Manifest:
    """What `bank.json` says, once every type and every path in it is checked to be one of a bank.

    Raises:
        BankError: it is missing, damaged or of another version, or names something outside the bank or twice.
    """
    file = folder / MANIFEST
    try:
        content = json.loads(file.read_bytes())
    except FileNotFoundError:
        fault = f"holds no {MANIFEST}" if folder.exists() else "does not exist"
        raise BankError(f"{folder} {fault}; {_WRITERS}") from None
    except (ValueError, RecursionError) as error:
        raise BankError(f"{file} is not JSON ({error}); restore it, or build the bank again") from None
    except OSError as error:
        raise BankError(f"{file} cannot be read ({error.strerror}); {_WRITERS}") from None
    version = content.get("format_version") if isinstance(content, dict) else None
    if version != FORMAT:
        raise BankError(
            f"{file} has format {version!r}, this version reads {FORMAT}; install the version of lorary that wrote it"
        )
    try:
        manifest = _parse(content)
    except (KeyError, TypeError) as error:
        raise BankError(f"{file} is malformed ({_reason(error)}); restore it, or build the bank again") from None
    for place in manifest.folders.values():
        place_inside(folder, place)
    for path in manifest.files:
        check_file_inside(folder, path)
    return manifest


def _reason(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _parse(content: dict[str, Any]) -> Manifest:
    """The manifest in decoded JSON. Raises KeyError or TypeError, saying what is wrong."""
    base, folders, hashes = _of(dict, content, "base"), dict[str, str](), _of(dict, content, "files")
    for entry in _of(list, content, "memories"):
        if not isinstance(entry, dict):
            raise TypeError(f"a memory is {entry!r}")
        memory, place = _of(str, entry, "name"), _of(str, entry, "folder")
        if not NAME.fullmatch(memory) or memory in folders:
            raise TypeError(f"{memory!r} cannot name a memory, or names two; a name is {NAME_RULE}")
        if not _FOLDER.fullmatch(place) or place in folders.values():
            raise TypeError(f"the folder {place!r} lies outside the bank's memories, or is named twice")
        folders[memory] = place
    required = {f"{place}/{file}" for place in folders.values() for file in FILES}
    optional = {f"{place}/{file}" for place in folders.values() for file in OPTIONAL_FILES}
    if odd := sorted((required - set(hashes)) | (set(hashes) - required - optional)):
        raise TypeError(f"{odd[0]!r} is no file of a memory" if odd[0] in hashes else f"no sha256 of {odd[0]!r}")
    for path, value in hashes.items():
        if not isinstance(value, str) or not _HASH.fullmatch(value):
            raise TypeError(f"the sha256 of {path!r} is {value!r}")
    if not isinstance(revision := base.get("revision"), str | None):
        raise TypeError(f"'revision' is {revision!r}")
    linears = {path: _shape(path, shape) for path, shape in _of(dict, base, "linears").items()}
    name, fingerprint, layers_path = (_of(str, base, key) for key in ("name", "fingerprint", "layers_path"))
    return Manifest(name, revision, fingerprint, layers_path, linears, _of(str, content, "encoder"), folders, hashes)


def _of(kind: type, holder: Mapping[str, Any], key: str) -> Any:
    """`holder[key]`, which must be of a kind."""
    if not isinstance(value := holder[key], kind):
        raise TypeError(f"{key!r} is {value!r}"[:200])
    return value


def _shape(path: str, shape: Any) -> tuple[int, int]:
    if not isinstance(shape, list) or len(shape) != 2 or not all(type(size) is int and size > 0 for size in shape):
        raise TypeError(f"the shape of {path!r} is {shape!r}")
    return shape[0], shape[1]
