"""What keeps a bank true: its history is told, a version is brought back, files are verified, and what is old goes."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from lorary.bank.companions import settle
from lorary.bank.facts import Fact
from lorary.bank.files import BankError, fault_of, writing
from lorary.bank.manifest import Manifest, read_manifest
from lorary.bank.parts import FILES, OPTIONAL_FILES
from lorary.bank.storing import commit, open_version
from lorary.bank.versions import Version, next_version
from lorary.errors import LoraryError

_PART = re.compile(r".+\.[0-9a-f]{32}\.part")


def history(folder: str | Path, name: str) -> list[Version]:
    """The versions of a memory, the current one last; what an older bank does not tell is read from its files.

    Raises:
        BankError: no such memory, or a bank that cannot be read.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    *earlier, current = _versions(manifest, name)
    if current.facts is None:
        current = current.described(open_version(folder, manifest, name, current))
    return [*earlier, current]


def _versions(manifest: Manifest, name: str) -> tuple[Version, ...]:
    if name not in manifest.versions:
        raise BankError(f"topic {name!r} has no memory; the bank holds {[*manifest.versions]}")
    return manifest.versions[name]


def roll_back(folder: str | Path, name: str, number: int) -> Version:
    """The current version of a memory, made equal to an earlier one byte for byte: both lie in one folder.

    It is a new version, unless the memory holds that already.

    Raises:
        BankError: no such memory or version, or one that was dropped or is damaged.
        AdapterError: its adapter is no longer accepted.
    """
    folder = Path(folder)
    read_manifest(folder)
    with writing(folder):
        manifest = read_manifest(folder)
        own = _versions(manifest, name)
        wanted = next((version for version in own if version.number == number), None)
        if wanted is None:
            raise BankError(f"{name!r} has no version {number}; it has {[version.number for version in own]}")
        memory = open_version(folder, manifest, name, wanted)
        memory.check(manifest.linears, str(folder / str(wanted.folder)))
        if wanted.folder == own[-1].folder:
            return own[-1]
        note = f"rollback to version {number}"
        following = next_version(own[-1], _facts(folder, manifest, name), memory, str(wanted.folder), note)
        commit(folder, _with(manifest, {name: (*own, following)}), manifest)
    return following


def _facts(folder: Path, manifest: Manifest, name: str) -> tuple[Fact, ...] | None:
    """What a memory holds now; None where its files are damaged, which is a reason to go back."""
    try:
        return open_version(folder, manifest, name, manifest.versions[name][-1]).facts
    except LoraryError:
        return None


def facts_before(folder: str | Path, name: str, note: str) -> tuple[Fact, ...]:
    """The facts of a memory before its current version, which has a note; none where the bank does not tell them."""
    folder = Path(folder)
    manifest = read_manifest(folder)
    *earlier, current = _versions(manifest, name)
    if current.note != note or not earlier or earlier[-1].folder is None:
        return ()
    return open_version(folder, manifest, name, earlier[-1]).facts


def _with(manifest: Manifest, versions: dict[str, tuple[Version, ...]]) -> Manifest:
    """The manifest with other versions of some memories, and of the files those of the versions that are kept."""
    changed = replace(manifest, versions={**manifest.versions, **versions})
    files = {path: value for path, value in manifest.files.items() if Path(path).parent.as_posix() in changed.kept}
    return replace(changed, files=files)


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What was found of a bank's files.

    Args:
        files, bytes: that were read, of all versions that are kept.
        faults: path of each file that is not what the manifest says → what is wrong with it.
        orphans: paths that no version names: what a stopped writer left. `lorary gc` removes them.
    """

    files: int
    bytes: int
    faults: dict[str, str]
    orphans: list[str]


def verify(folder: str | Path) -> Verified:
    """Reads every file that a bank vouches for, of earlier versions, too.

    Raises:
        BankError: `bank.json` itself cannot be read.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    faults, size = dict[str, str](), 0
    for path, expected in manifest.files.items():
        file = folder / path
        if fault := fault_of(file, expected):
            faults[path] = f"{fault}, {file.stat().st_size:,} bytes" if file.is_file() else fault
        else:
            size += file.stat().st_size
    for name, own in manifest.versions.items():
        if not {*manifest.hashes(str(own[-1].folder))} & {*faults}:
            _opens(folder, manifest, name, faults)
    orphans = [path.relative_to(folder).as_posix() for path in _orphans(folder, manifest)]
    return Verified(files=len(manifest.files), bytes=size, faults=faults, orphans=orphans)


def _opens(folder: Path, manifest: Manifest, name: str, faults: dict[str, str]) -> None:
    """Notes where a memory whose files are whole is not one that Lorary takes."""
    try:
        place = str(manifest.versions[name][-1].folder)
        open_version(folder, manifest, name, manifest.versions[name][-1]).check(manifest.linears, str(folder / place))
    except LoraryError as error:
        faults[str(manifest.versions[name][-1].folder)] = str(error)


@dataclass(frozen=True, kw_only=True)
class Freed:
    """What `collect_garbage` removed.

    Args:
        versions: how many earlier versions were dropped.
        bytes: of all files that went.
    """

    versions: int
    bytes: int


def collect_garbage(folder: str | Path) -> Freed:
    """Drops the earlier versions of all memories, and what stopped writers left; the current versions stay as they are.

    The history still tells the dropped versions. `bank.json` is written first, so a stop at any moment leaves a bank, and
    the next call removes the rest. Files that no Lorary wrote stay.

    Raises:
        BankError: another writer holds the bank, or it cannot be read or written.
    """
    folder = Path(folder)
    read_manifest(folder)
    with writing(folder):
        settle(folder)
        manifest = read_manifest(folder)
        versions = {name: _dropped(own) for name, own in manifest.versions.items()}
        kept = manifest.kept
        before = sum(_size(folder / place) for place in kept)
        dropped = len([v for own in manifest.versions.values() for v in own if v.folder is not None])
        dropped -= len([v for own in versions.values() for v in own if v.folder is not None])
        if dropped or manifest.left:
            manifest, old = replace(_with(manifest, versions), left=()), manifest
            commit(folder, manifest, old)
        freed = before - sum(_size(folder / place) for place in kept)
        return Freed(versions=dropped, bytes=freed + remove_orphans(folder, manifest))


def remove_orphans(folder: Path, manifest: Manifest) -> int:
    """Removes what stopped writers left in a bank or composite that is held for this writer alone; returns the bytes."""
    freed = 0
    for path in _orphans(folder, manifest):
        freed += _size(path)
        _remove(path)
    return freed


def _dropped(own: tuple[Version, ...]) -> tuple[Version, ...]:
    """A memory's versions without the folders that the current one does not lie in."""
    return tuple(v if v.folder == own[-1].folder else replace(v, folder=None) for v in own)


def _orphans(folder: Path, manifest: Manifest) -> Iterator[Path]:
    """What stopped writers left: parts of files, and folders of versions, or files there, that no version names."""
    known = {*FILES, *OPTIONAL_FILES}
    yield from (path for path in sorted(folder.glob("*.part")) if _PART.fullmatch(path.name))
    for place in sorted((folder / "memories").glob("*")):
        path = place.relative_to(folder).as_posix()
        if place.is_symlink() or not place.is_dir():
            continue
        own = [file for file in sorted(place.iterdir()) if file.name in known or _PART.fullmatch(file.name)]
        if path not in manifest.kept and len(own) == len([*place.iterdir()]):
            yield place
        elif own:
            yield from (file for file in own if f"{path}/{file.name}" not in manifest.files)


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
