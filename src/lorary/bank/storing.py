"""A bank is written: each changed memory as a new version in a folder of its own, then `bank.json`, which commits it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lorary.bank.companions import settle, write_companions
from lorary.bank.files import MANIFEST, BankError, hash_of, place_inside, write_aside
from lorary.bank.kept import drop_outdated
from lorary.bank.manifest import Manifest, hash_of_manifest, read_manifest
from lorary.bank.memory import Memory
from lorary.bank.stored import Outlines, StoredFiles
from lorary.bank.versions import Version, first_version, next_version

if TYPE_CHECKING:
    from lorary.bank.bank import MemoryBank

_COMPOSITE = "config.json"
"""What makes a bank's folder a composite."""


def write_bank(
    bank: MemoryBank,
    folder: Path,
    old: Manifest | None,
    stored: Mapping[str, Memory] | None,
    note: str | None,
    companions: Mapping[str, bytes],
) -> Manifest:
    """The manifest of a bank, once it and all that it names lie in the folder; nothing is written where nothing changed.

    Args:
        old: the manifest that lies there.
        stored: the memories that lie there, as far as they are known; None where they are another bank's.
        note: what changes the memories that change.
        companions: name → content of files beside the bank that change with it.
    """
    settle(folder)
    with _removed_on_failure(folder) as new:
        versions, files = dict[str, tuple[Version, ...]](), dict[str, str]()
        for memory in bank:
            earlier = old.versions.get(memory.name, ()) if old is not None and stored is not None else ()
            known = (stored or {}).get(memory.name)
            if earlier and known is memory:
                own = earlier
            else:
                place, written = _write(memory, folder, old, new)
                files |= written
                own = _following(bank, memory, earlier, known, place, note)
            own = own if keeps_versions(folder) else own[-1:]
            told = own[-1] if known is memory and own[-1].facts is not None else own[-1].described(memory)
            versions[memory.name] = (*own[:-1], told)
        places = {version.folder for own in versions.values() for version in own}
        files |= {path: value for path, value in (old.files if old else {}).items() if str(Path(path).parent) in places}
        header = (bank.base, bank.revision, bank.fingerprint, bank.layers_path, bank.shapes, bank.encoder)
        manifest = Manifest(*header, versions, files, _left(folder, old if stored is not None else None, versions))
        if old is None or not _same(old, manifest):
            commit(folder, manifest, old, companions)
        else:
            write_companions(folder, companions, str(hash_of_manifest(folder)))
            settle(folder)
    return manifest


@contextmanager
def _removed_on_failure(folder: Path) -> Iterator[list[str]]:
    """A list for the folders that are about to be written; where that fails they go again, as on a disk that is full.

    What `bank.json` names by then stays: it may have been committed already.
    """
    new = list[str]()
    try:
        yield new
    except BaseException:
        named = read_manifest(folder).kept if (folder / MANIFEST).exists() else {}
        for place in {*new} - {*named}:
            shutil.rmtree(folder / place, ignore_errors=True)
        raise


def _left(folder: Path, old: Manifest | None, versions: Mapping[str, tuple[Version, ...]]) -> tuple[str, ...]:
    """The names of memories that have left a bank whose manifest was `old`; a composite tells none."""
    if old is None or not keeps_versions(folder):
        return ()
    return tuple(name for name in (*old.left, *old.versions) if name not in versions)


def keeps_versions(folder: Path) -> bool:
    """Whether earlier versions stay there: in a bank they do, a composite holds the current ones alone."""
    return not (folder / _COMPOSITE).exists()


def commit(
    folder: Path, manifest: Manifest, old: Manifest | None, companions: Mapping[str, bytes] | None = None
) -> None:
    """Writes `bank.json`, with its companions; then the folders that it no longer names go."""
    settle(folder)
    drop_outdated(folder, manifest)
    content = manifest.to_bytes()
    write_companions(folder, companions or {}, hash_of(content))
    write_aside(folder / MANIFEST, content)
    settle(folder)
    for place in {*(old.kept if old else ())} - {*manifest.kept}:
        shutil.rmtree(folder / place, ignore_errors=True)


def open_version(
    folder: Path, manifest: Manifest, name: str, version: Version, outlines: Outlines | None = None
) -> Memory:
    """One version of a memory, of which opening checks what costs little, and the first use the rest.

    Args:
        outlines: what was checked of other memories of the bank.

    Raises:
        BankError: it was dropped, or a file of it is missing or, as far as can be told yet, damaged.
        AdapterError: its adapter is no longer accepted.
    """
    if version.folder is None:
        kept = [own.number for own in manifest.versions[name] if own.folder is not None]
        raise BankError(f"version {version.number} of {name!r} was dropped by `lorary gc`; of it {folder} keeps {kept}")
    hashes = {path.rpartition("/")[2]: value for path, value in manifest.hashes(version.folder).items()}
    earlier = version.folder != manifest.versions[name][-1].folder
    remedy = f"drop earlier versions by `lorary gc {folder}`" if earlier else "build the bank again"
    files = StoredFiles(folder / version.folder, folder, hashes, remedy)
    return Memory.stored(name, files, manifest.linears, {} if outlines is None else outlines)


def _following(
    bank: MemoryBank, memory: Memory, earlier: tuple[Version, ...], known: Memory | None, place: str, note: str | None
) -> tuple[Version, ...]:
    """The versions of a memory that was written to a place.

    Args:
        earlier: its versions in this folder; without any it goes on from the version that it was elsewhere.
        known: the memory as the last of these holds it.
    """
    if earlier and earlier[-1].folder == place:
        return earlier
    if earlier:
        return (*earlier, next_version(earlier[-1], None if known is None else known.facts, memory, place, note))
    if memory.name not in bank.versions:
        return (first_version(memory, place, note),)
    before, version = bank.versions[memory.name]
    if before is memory:
        return (replace(version, folder=place),)
    return (next_version(version, before.facts, memory, place, note),)


def _same(old: Manifest, new: Manifest) -> bool:
    """Whether two manifests name the same versions in the same order; what is told of these may differ."""

    def named(manifest: Manifest) -> list[tuple[str, list[tuple[int, str | None]]]]:
        return [(name, [(v.number, v.folder) for v in own]) for name, own in manifest.versions.items()]

    return named(old) == named(new) and replace(old, versions=new.versions) == new


def _write(memory: Memory, folder: Path, old: Manifest | None, new: list[str]) -> tuple[str, dict[str, str]]:
    """(its folder in the bank, path → sha256 of its files), once they are written, unless a version of it holds them.

    Args:
        new: the folders that were written before, to which this one comes.
    """
    contents = memory.files()
    hashes = {file: hash_of(content) for file, content in contents.items()}
    for version in reversed(old.versions.get(memory.name, ()) if old is not None else ()):
        if version.folder is None:
            continue
        same = {f"{version.folder}/{file}": value for file, value in hashes.items()}
        if old is not None and old.hashes(version.folder) == same:
            return version.folder, same
    # A folder that the old manifest names must stay whole until the new manifest is there, also on a disk without case.
    lowered = {place.lower() for place in {*new, *(old.kept if old else ())}}
    place = f"memories/{memory.name}"
    if place.lower() in lowered:
        place += "+" + hash_of("".join(hashes.values()).encode())[:8]
    place_inside(folder, place)
    new.append(place)
    for file, content in contents.items():
        write_aside(folder / place / file, content)
    return place, {f"{place}/{file}": value for file, value in hashes.items()}
