"""MemoryBank: an ordered set of memories over one base, on disk.

Nothing else knows the format. `bank.json` is the commit point: every file is written aside, synced and renamed,
`bank.json` last, so a crash at any moment leaves the old bank or the new one.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lorary.bank.adapters import WEIGHTS, AdapterError, read_adapter
from lorary.bank.facts import NAME, NAME_RULE, Fact
from lorary.bank.files import FORMAT, MANIFEST, BankError, hash_of, read_manifest, to_json, write_aside
from lorary.bank.memory import Memory
from lorary.routing.encoder import Encoder

_CARD, _FACTS, _KEYS = "memory.json", "facts.jsonl", "keys.safetensors"


@dataclass
class MemoryBank:
    """An ordered set of memories over one base.

    Args:
        base: name of the base, as `bases.load_base` takes it.
        fingerprint: of the base's weights (`bases.fingerprint`).
        encoder: name of the encoder that made the keys.
        split_layer: no memory adapts a layer below it.
        shapes: the base's block linears, path → (d_in, d_out).
    """

    base: str
    fingerprint: str
    encoder: str
    shapes: Mapping[str, tuple[int, int]]
    layers_path: str
    revision: str | None = None
    memories: dict[str, Memory] = field(default_factory=dict)

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
        prefix = self.layers_path + "."
        found = [int(p.removeprefix(prefix).split(".")[0]) for memory in self for p in memory.factors()]
        return min(found, default=0)

    def with_encoder(self, encoder: Encoder) -> MemoryBank:
        """The same memories with keys by another encoder."""
        memories = {memory.name: memory.with_keys(encoder) for memory in self}
        return replace(self, encoder=encoder.name, memories=memories)

    def add(
        self,
        source: Memory | str | Path,
        *,
        name: str | None = None,
        facts: Sequence[Fact] = (),
        encoder: Encoder | None = None,
        same_base: bool = False,
        replace_existing: bool = False,
    ) -> Memory:
        """Adds a memory, or any stock PEFT LoRA folder, at the end; the bank changes only if all is well.

        Args:
            name: of the memory; a folder's own name by default.
            facts: what a PEFT folder holds; they make its keys, without which only `adapter_names` reaches it.
            encoder: makes the keys from the facts.
            same_base: take the adapter although it names its base otherwise (shapes are still checked).

        Raises:
            AdapterError: DoRA, bias, modules_to_save, another base, another shape.
            BankError: a bad or taken name, or facts without an encoder.
        """
        if isinstance(source, Memory):
            memory = source
        else:
            folder = Path(source)
            config, tensors = read_adapter(folder)
            self._check_base(config, str(folder), same_base)
            memory = Memory(name or folder.resolve().name, config, tensors, tuple(facts), card={"recipe": "imported"})
            if facts and encoder is None:
                raise BankError(f"facts for {memory.name!r} need an encoder to make their keys; give encoder=")
        if encoder is not None:
            memory = memory.with_keys(encoder)
        if not NAME.fullmatch(memory.name):
            raise BankError(f"{memory.name!r} cannot name a memory; a name is {NAME_RULE}")
        if memory.name in self.memories and not replace_existing:
            raise BankError(f"the bank already holds {memory.name!r}; remove it first or give another name")
        memory.factors(self.shapes)
        self.memories[memory.name] = memory
        return memory

    def _check_base(self, config: Mapping[str, Any], where: str, same_base: bool) -> None:
        named = str(config.get("base_model_name_or_path") or "")
        same = named == self.base or Path(named).name.lower() == Path(self.base).name.lower()
        if not same and not same_base:
            raise AdapterError(
                f"{where}: is for the base {named!r}, the bank for {self.base!r}; "
                "give same_base=True (--same-base) if these are two names of one model"
            )

    def remove(self, name: str) -> Memory:
        """Takes a memory out and returns it."""
        self[name]
        return self.memories.pop(name)

    def save(self, folder: str | Path) -> Path:
        """Writes the bank; unchanged files stay, `bank.json` is written last, then what it no longer names goes."""
        folder = Path(folder)
        old = read_manifest(folder) if (folder / MANIFEST).exists() else {}
        before = {entry["name"]: entry["folder"] for entry in old.get("memories", [])}
        hashes: dict[str, str] = {}
        entries = []
        for memory in self:
            files = memory.files()
            place = before.get(memory.name, f"memories/{memory.name}")
            known = {file: old.get("files", {}).get(f"{place}/{file}") for file in files}
            if any(known.values()) and known != {file: hash_of(content) for file, content in files.items()}:
                # A folder that the old manifest names must stay whole until the new manifest is there.
                place = f"memories/{memory.name}+{hash_of(files[WEIGHTS] + files[_FACTS])[:8]}"
            for file, content in files.items():
                path = f"{place}/{file}"
                hashes[path] = hash_of(content)
                if old.get("files", {}).get(path) != hashes[path]:
                    write_aside(folder / path, content)
            entries.append({"name": memory.name, "folder": place})
        write_aside(folder / MANIFEST, to_json(self._header() | {"memories": entries, "files": hashes}))
        for entry in {e["folder"] for e in old.get("memories", [])} - {e["folder"] for e in entries}:
            shutil.rmtree(folder / entry, ignore_errors=True)
        return folder

    def _header(self) -> dict[str, Any]:
        base = {"name": self.base, "revision": self.revision, "fingerprint": self.fingerprint}
        shapes = {path: list(shape) for path, shape in self.shapes.items()}
        return {
            "format_version": FORMAT,
            "base": base | {"layers_path": self.layers_path, "linears": shapes},
            "encoder": self.encoder,
        }

    @staticmethod
    def load(folder: str | Path) -> MemoryBank:
        """The bank in `folder`. Raises BankError for a missing, newer or damaged one, naming the file."""
        folder = Path(folder)
        manifest = read_manifest(folder)
        for path, expected in manifest["files"].items():
            file = (folder / path).resolve()
            if folder.resolve() not in file.parents:
                raise BankError(f"{folder / MANIFEST} names {path!r}, which lies outside the bank")
            if not file.is_file():
                raise BankError(f"{file} is missing; restore it, or build the bank again")
            if hash_of(file.read_bytes()) != expected:
                raise BankError(
                    f"{file} is damaged (its sha256 is not the one in {MANIFEST}); restore it or build again"
                )
        base = manifest["base"]
        shapes = {path: (d_in, d_out) for path, (d_in, d_out) in base["linears"].items()}
        memories = {e["name"]: Memory.open(folder / e["folder"], e["name"]) for e in manifest["memories"]}
        return MemoryBank(
            base["name"],
            base["fingerprint"],
            manifest["encoder"],
            shapes,
            base["layers_path"],
            base["revision"],
            memories,
        )
