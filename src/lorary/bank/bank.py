"""MemoryBank: an ordered set of memories over one base, on disk.

Nothing else knows the format. `bank.json` is the commit point: every file is written aside, synced and renamed,
`bank.json` last, so a crash at any moment leaves the old bank or the new one. Earlier versions of memories stay there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from lorary.bank.documents import Passage
from lorary.bank.facts import NAME, NAME_RULE, Fact, namesake
from lorary.bank.files import MANIFEST, BankError, writing
from lorary.bank.joining import joining_memory
from lorary.bank.manifest import Manifest, hash_of_manifest, read_manifest
from lorary.bank.memory import Memory
from lorary.bank.stored import Outlines
from lorary.bank.storing import open_version, write_bank
from lorary.bank.versions import Version
from lorary.base.layers import layer_of
from lorary.routing.encoder import Encoder


@dataclass
class MemoryBank:
    """An ordered set of memories over one base.

    Args:
        base: name of the base, as `bases.load_base` takes it.
        fingerprint: of the base's weights (`bases.fingerprint`).
        encoder: name of the encoder that made the keys.
        split_layer: no memory adapts a layer below it.
        shapes: the base's block linears, path → (d_in, d_out).
        stored: folder → (hash of its manifest, its memories), as this bank was last loaded from or saved to it.
        versions: name → (the memory, which version it is), as this bank was last loaded or saved.
        contents: (the folder of that, name of each memory → a hash of what it holds).
    """

    base: str
    fingerprint: str
    encoder: str
    shapes: Mapping[str, tuple[int, int]]
    layers_path: str
    revision: str | None = None
    memories: dict[str, Memory] = field(default_factory=dict)
    stored: Mapping[str, tuple[str, Mapping[str, Memory]]] = field(default_factory=dict, repr=False)
    versions: Mapping[str, tuple[Memory, Version]] = field(default_factory=dict, repr=False)
    contents: tuple[Path, Mapping[str, str]] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.memories)

    def __iter__(self) -> Iterator[Memory]:
        return iter(self.memories.values())

    def __getitem__(self, name: str) -> Memory:
        if name not in self.memories:
            raise BankError(f"topic {name!r} has no memory; the bank holds {self.names}")
        return self.memories[name]

    @property
    def names(self) -> list[str]:
        return list(self.memories)

    @property
    def split_layer(self) -> int:
        """The lowest decoder layer that a memory adapts (0 for an empty bank)."""
        return min((layer_of(path, self.layers_path) for path in self.paths), default=0)

    @property
    def paths(self) -> frozenset[str]:
        """The module paths that any memory adapts."""
        kinds = {id(memory.outline): memory for memory in self}  # memories of one kind share one
        return frozenset(path for memory in kinds.values() for path in memory.paths)

    def with_encoder(self, encoder: Encoder) -> MemoryBank:
        """The same memories with keys by another encoder."""
        memories = {memory.name: memory.with_keys(encoder) for memory in self}
        return replace(self, encoder=encoder.name, memories=memories)

    def add(
        self,
        source: Memory | str | Path | None = None,
        *,
        name: str | None = None,
        facts: Sequence[Fact] = (),
        documents: Sequence[Passage] = (),
        encoder: Encoder | None = None,
        same_base: bool = False,
        replace_existing: bool = False,
    ) -> Memory:
        """Adds a memory, any stock PEFT LoRA folder, or documents, at the end; the bank changes only if all is well.

        Args:
            source: None gives the documents to the memory of that name, or to a new one whose adapter adds nothing.
            name: of the memory; its own by default, or the folder's.
            facts: what it holds, instead of a memory's own; they make its keys, without which only `adapter_names` reaches it.
            documents: passages that it holds beside its own; a document takes the place of one of the same source.
            encoder: makes the keys from facts and documents.
            same_base: take the adapter although it names its base otherwise (shapes are still checked).

        Raises:
            AdapterError: what the mixture would compute is not what PEFT computes, or the adapter is for another base.
            BankError: a bad or taken name, one that differs from another by letter case alone, nothing to add, or facts or
                documents without an encoder.
        """
        memory = joining_memory(self, source, name, facts, documents, same_base)
        if (facts or documents) and encoder is None:
            what = "facts" if facts else "documents"
            raise BankError(f"{what} for {memory.name!r} need an encoder to make their keys; give encoder=")
        if not NAME.fullmatch(memory.name):
            raise BankError(f"{memory.name!r} cannot name a memory; give name= (--name): {NAME_RULE}")
        if memory.name in self.memories and source is not None and not replace_existing:
            raise BankError(f"the bank already holds {memory.name!r}; remove it first or give another name")
        if memory.name not in self.memories:
            self.check_new_name(memory.name)
        memory.check(self.shapes, None if source is None or isinstance(source, Memory) else str(source))
        if encoder is not None:
            memory = memory.with_keys(encoder)
        self.memories[memory.name] = memory
        return memory

    def check_new_name(self, name: str) -> None:
        """Raises BankError where a memory of another name would share its folder on a disk that knows no letter case."""
        if (other := namesake(name, self.memories)) is not None:
            raise BankError(
                f"the bank holds {other!r}, which differs from {name!r} by letter case alone; give another name (--name)"
            )

    def remove(self, name: str) -> Memory:
        """Takes a memory out and returns it."""
        self[name]
        return self.memories.pop(name)

    def save(
        self,
        folder: str | Path,
        *,
        overwrite: bool = False,
        note: str | None = None,
        companions: Mapping[str, bytes] | None = None,
    ) -> Path:
        """Writes the bank: a changed memory is a new version, all other files stay, and `bank.json` is written last.

        In a folder that holds a composite a changed memory takes the place of the version before.

        Args:
            overwrite: put the bank in the place of another one that lies there.
            note: what the new versions say that wrote them.
            companions: name → content of files beside the bank that change with it, at once.

        Raises:
            BankError: another writer holds the folder or changed it since this bank was loaded, or another bank lies
                there whose memories this one lacks.
        """
        folder = Path(folder)
        with writing(folder):
            old = read_manifest(folder) if (folder / MANIFEST).exists() else None
            manifest = write_bank(self, folder, old, self._stored(folder, old, overwrite), note, companions or {})
            self._remember(folder, manifest, hash_of_manifest(folder))
        return folder

    def _stored(self, folder: Path, old: Manifest | None, overwrite: bool) -> Mapping[str, Memory] | None:
        """The memories that lie in the folder as they were loaded or saved; None where another bank is to be replaced.

        Raises:
            BankError: others would be lost.
        """
        known = self.stored.get(str(folder.resolve()))
        if old is None or known is None:
            if old is None or overwrite:
                return None
            if lost := [name for name in old.versions if name not in self.memories]:
                raise BankError(
                    f"{folder} holds another bank, with {lost}; load it and add to it, or give another folder"
                )
            return {}
        manifest, memories = known
        if manifest != hash_of_manifest(folder):
            raise BankError(
                f"the bank in {folder} was changed by another writer since it was loaded; load it again and make the "
                "change there (`MemoryBank.change` holds it meanwhile)"
            )
        return memories

    def _remember(self, folder: Path, manifest: Manifest, manifest_hash: str | None) -> None:
        last = {name: (self.memories[name], own[-1]) for name, own in manifest.versions.items()}
        self.versions = {**self.versions, **last}
        self.contents = folder, {name: manifest.contents_hash(name) for name in manifest.versions}
        if manifest_hash is not None:
            self.stored = {**self.stored, str(folder.resolve()): (manifest_hash, dict(self.memories))}

    @staticmethod
    @contextmanager
    def change(
        folder: str | Path,
        note: str | None = None,
        companions: Callable[[MemoryBank], Mapping[str, bytes]] = lambda _: {},
    ) -> Iterator[MemoryBank]:
        """The bank in `folder`, held for this writer alone; it is saved at the end unless an error is raised.

        Args:
            note: what the new versions say that wrote them.
            companions: of the bank as it is then (`save`).

        Raises:
            BankError: what `load` and `save` raise.
        """
        read_manifest(Path(folder))
        with writing(folder):
            bank = MemoryBank.load(folder)
            yield bank
            bank.save(folder, note=note, companions=companions(bank))

    @staticmethod
    def load(folder: str | Path) -> MemoryBank:
        """The bank in `folder`. Its memories are read from there when they are used, so the folder must stay.

        Raises:
            BankError: it is missing, newer or damaged, or names a file outside itself.
            AdapterError: a memory's adapter is no longer accepted.
        """
        folder = Path(folder)
        while True:
            before = hash_of_manifest(folder)
            try:
                return _load(folder, before)
            except BankError:
                # A writer that commits meanwhile takes away what the manifest that was just read names.
                if before == hash_of_manifest(folder):
                    raise


def _load(folder: Path, manifest_hash: str | None) -> MemoryBank:
    """The bank in `folder`, whose manifest has a hash; of each memory the current version alone is opened."""
    manifest, outlines = read_manifest(folder), Outlines()
    memories = {
        name: open_version(folder, manifest, name, own[-1], outlines) for name, own in manifest.versions.items()
    }
    bank = MemoryBank(
        manifest.base,
        manifest.fingerprint,
        manifest.encoder,
        manifest.linears,
        manifest.layers_path,
        manifest.revision,
        memories,
    )
    bank._remember(folder, manifest, manifest_hash)
    return bank
