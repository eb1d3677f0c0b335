"""The manifest `bank.json`: the commit point of a bank, and what a bank may say of itself."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorary.bank.facts import NAME, NAME_RULE
from lorary.bank.files import FORMAT, MANIFEST, OLDER, BankError, check_file_inside, hash_of, place_inside, to_json
from lorary.bank.parts import CONTENTS, EXAMPLES, FILES, OPTIONAL_FILES
from lorary.bank.versions import Version, parse_version

_FOLDER = re.compile(r"memories/[A-Za-z0-9][A-Za-z0-9._+-]{0,95}")
_HASH = re.compile(r"[0-9a-f]{64}")
_WRITERS = "give a folder that `lorary build`, `lorary new` or `lorary train-router` wrote"


@dataclass(frozen=True)
class Manifest:
    """What `bank.json` says.

    Args:
        linears: the base's block linears, path → (d_in, d_out).
        versions: name of each memory, in order → its versions, the current one last.
        files: path of every file of a version that is kept → sha256 of its content.
        left: names of memories that left the bank and have not come back, until garbage is collected. So a command that
            was stopped behind its commit knows what it had done.
    """

    base: str
    revision: str | None
    fingerprint: str
    layers_path: str
    linears: Mapping[str, tuple[int, int]]
    encoder: str
    versions: Mapping[str, tuple[Version, ...]]
    files: Mapping[str, str]
    left: tuple[str, ...] = ()

    @property
    def folders(self) -> dict[str, str]:
        """Name of each memory, in order → the folder of its current version in the bank."""
        return {name: str(versions[-1].folder) for name, versions in self.versions.items()}

    @property
    def kept(self) -> dict[str, None]:
        """The folders of all versions that are kept, in order."""
        every = (version.folder for versions in self.versions.values() for version in versions)
        return {folder: None for folder in every if folder is not None}

    def hashes(self, place: str) -> dict[str, str]:
        """Path → sha256 of the files in one folder of a version."""
        paths = [f"{place}/{file}" for file in (*FILES, *OPTIONAL_FILES)]
        return {path: self.files[path] for path in paths if path in self.files}

    def contents_hash(self, name: str) -> str:
        """A hash of the facts, the documents and their embeddings that a memory holds."""
        place = str(self.versions[name][-1].folder)
        hashes = "".join(self.files.get(f"{place}/{file}", "-") for file in CONTENTS)
        return hash_of((hashes + self.files.get(f"{place}/{EXAMPLES}", "")).encode())

    def to_bytes(self) -> bytes:
        base = {"name": self.base, "revision": self.revision, "fingerprint": self.fingerprint}
        linears = {path: list(shape) for path, shape in self.linears.items()}
        content = {
            "format_version": FORMAT,
            "base": base | {"layers_path": self.layers_path, "linears": linears},
            "encoder": self.encoder,
            "memories": [{"name": n, "versions": [v.to_json() for v in vs]} for n, vs in self.versions.items()],
            "files": self.files,
        }
        return to_json(content | ({"left": list(self.left)} if self.left else {}))


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
    if version not in (OLDER, FORMAT) or isinstance(version, bool):
        raise BankError(
            f"{file} has format {version!r}, this version reads {OLDER} and {FORMAT}; install the version of lorary that "
            "wrote it"
        )
    try:
        manifest = _parse(content, version)
    except (KeyError, TypeError) as error:
        raise BankError(f"{file} is malformed ({_reason(error)}); restore it, or build the bank again") from None
    # Most banks hold no link; what is none lies where its path says.
    linked = os.path.islink(folder / "memories")
    for place in manifest.kept:
        if linked or os.path.islink(f"{folder}/{place}"):
            place_inside(folder, place)
    for path in manifest.files:
        if linked or os.path.islink(f"{folder}/{path}"):
            check_file_inside(folder, path)
    return manifest


def _reason(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _parse(content: dict[str, Any], version: int) -> Manifest:
    """The manifest in decoded JSON. Raises KeyError or TypeError, saying what is wrong."""
    base, versions, hashes = _of(dict, content, "base"), dict[str, tuple[Version, ...]](), _of(dict, content, "files")
    taken = set[str]()
    for entry in _of(list, content, "memories"):
        if not isinstance(entry, dict):
            raise TypeError(f"a memory is {entry!r}")
        memory = _of(str, entry, "name")
        if not NAME.fullmatch(memory) or memory in versions:
            raise TypeError(f"{memory!r} cannot name a memory, or names two; a name is {NAME_RULE}")
        own = (Version(number=1, folder=_of(str, entry, "folder")),) if version == OLDER else _versions(entry)
        places = {kept.folder for kept in own if kept.folder is not None}
        for place in places:
            if not _FOLDER.fullmatch(place) or place in taken:
                raise TypeError(f"the folder {place!r} lies outside the bank's memories, or is named twice")
        taken |= places
        versions[memory] = own
    folders = {v.folder for own in versions.values() for v in own if v.folder is not None}
    required = {f"{place}/{file}" for place in folders for file in FILES}
    optional = {f"{place}/{file}" for place in folders for file in OPTIONAL_FILES}
    if odd := sorted((required - set(hashes)) | (set(hashes) - required - optional)):
        raise TypeError(f"{odd[0]!r} is no file of a memory" if odd[0] in hashes else f"no sha256 of {odd[0]!r}")
    for path, value in hashes.items():
        if not isinstance(value, str) or not _HASH.fullmatch(value):
            raise TypeError(f"the sha256 of {path!r} is {value!r}")
    if not isinstance(revision := base.get("revision"), str | None):
        raise TypeError(f"'revision' is {revision!r}")
    linears = {path: _shape(path, shape) for path, shape in _of(dict, base, "linears").items()}
    name, fingerprint, layers_path = (_of(str, base, key) for key in ("name", "fingerprint", "layers_path"))
    left = content.get("left", [])
    if not isinstance(left, list) or not all(isinstance(gone, str) and NAME.fullmatch(gone) for gone in left):
        raise TypeError(f"'left' is {left!r}"[:200])
    encoder = _of(str, content, "encoder")
    return Manifest(name, revision, fingerprint, layers_path, linears, encoder, versions, hashes, tuple(left))


def _versions(entry: Mapping[str, Any]) -> tuple[Version, ...]:
    """The versions of one memory, of which the current one is there."""
    own = list[Version]()
    for version in _of(list, entry, "versions"):
        own.append(parse_version(version, own[-1].number if own else 0))
    if not own or own[-1].folder is None:
        raise TypeError(f"{entry['name']!r} has no current version")
    return tuple(own)


def _of(kind: type, holder: Mapping[str, Any], key: str) -> Any:
    """`holder[key]`, which must be of a kind."""
    if not isinstance(value := holder[key], kind):
        raise TypeError(f"{key!r} is {value!r}"[:200])
    return value


def _shape(path: str, shape: Any) -> tuple[int, int]:
    if not isinstance(shape, list) or len(shape) != 2 or not all(type(size) is int and size > 0 for size in shape):
        raise TypeError(f"the shape of {path!r} is {shape!r}")
    return shape[0], shape[1]
