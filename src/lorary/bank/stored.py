"""A memory as it lies in a bank: opening reads what its adapter adapts; all else is checked and read when it is first used."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import ItemsView, Iterator, Mapping, ValuesView
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from lorary.bank.adapters import CONFIG, WEIGHTS, check_finite, check_layout, plain_names
from lorary.bank.files import MANIFEST, BankError, fault_of, hash_of
from lorary.bank.lora_config import AdapterError, check_config, plain

Outline = tuple[Mapping[str, Any], Mapping[str, Tensor], int]
"""(adapter_config, tensors on no device that tell names, shapes and dtypes, bytes of the file that holds them)."""
Outlines = dict[tuple[bytes, bytes], Outline]
"""What was read and checked of adapters, by the bytes of the config and of the file's header: most memories share one."""


class StoredFiles:
    """The files of one version of a memory, each checked against the bank's manifest when it is first used.

    Args:
        bank: the folder of the bank.
        hashes: name of each file → sha256 of its content.
        remedy: what else to do than to restore one that is missing or damaged.
    """

    def __init__(
        self, folder: Path, bank: Path, hashes: Mapping[str, str], remedy: str = "build the bank again"
    ) -> None:
        self.folder, self.bank, self.hashes, self.remedy = folder, bank, hashes, remedy
        self._checked: dict[str, tuple[int, ...]] = {}

    def checked(self, name: str) -> Path:
        """The file; it is read and compared with its hash unless that was done, and the file was not touched since.

        Raises:
            BankError: it is missing or damaged, or the bank was changed and holds another.
        """
        path = self.folder / name
        stands = _state(path)
        if stands is None or self._checked.get(name) != stands:
            if fault := fault_of(path, self.hashes[name]):
                if self._left_the_bank(path, self.hashes[name]):
                    raise BankError(
                        f"the bank in {self.bank} was changed after it was loaded, and {path} is no longer what it was; "
                        "load it again"
                    )
                raise BankError(f"{path} {fault}; restore it, or {self.remedy}")
            if stands is not None:
                self._checked[name] = stands
        return path

    def _left_the_bank(self, path: Path, expected: str) -> bool:
        """Whether the bank can be read, and holds no such file any more."""
        try:
            files = json.loads((self.bank / MANIFEST).read_bytes())["files"]
            return bool(files.get(path.relative_to(self.bank).as_posix()) != expected)
        except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
            return False


def _state(path: Path) -> tuple[int, ...] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


class StoredTensors(Mapping[str, Any]):  # not of Tensor: a check of types at run time would read the file
    """An adapter's tensors in a bank's file: memory-mapped while they are used, and not kept.

    The first use compares the file with its hash and searches it for NaN.

    Args:
        outline: name → a tensor on no device that tells shape and dtype.
    """

    def __init__(self, files: StoredFiles, outline: Mapping[str, Tensor]) -> None:
        self.files, self.outline = files, outline
        self._finite = False

    def read(self) -> dict[str, Tensor]:
        """All of them.

        Raises:
            BankError: the file is missing or damaged.
            AdapterError: a tensor holds NaN or infinity.
        """
        tensors = plain_names(load_file(self.files.checked(WEIGHTS)), str(self.files.folder))
        if not self._finite:
            check_finite(tensors, str(self.files.folder))
            self._finite = True
        return tensors

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.outline:
            raise KeyError(name)
        return self.read()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.outline)

    def __len__(self) -> int:
        return len(self.outline)

    def items(self) -> ItemsView[str, Tensor]:
        return self.read().items()

    def values(self) -> ValuesView[Tensor]:
        return self.read().values()


def open_adapter(
    files: StoredFiles, shapes: Mapping[str, tuple[int, int]], outlines: Outlines
) -> tuple[Mapping[str, Any], StoredTensors]:
    """(adapter_config, tensors yet to be read), once config, names and shapes are found to fit the base.

    Args:
        shapes: the base's block linears, path → (d_in, d_out).
        outlines: what was checked of other memories, to which this one's comes.

    Raises:
        BankError: a file is missing or damaged, as far as can be told without reading all of it.
        AdapterError: the adapter is no longer accepted.
    """
    for name in files.hashes:
        if not os.path.isfile(files.folder / name):
            files.checked(name)
    config, weights = (files.folder / CONFIG).read_bytes(), files.folder / WEIGHTS
    if hash_of(config) != files.hashes[CONFIG]:
        files.checked(CONFIG)
    header, size = _header(weights)
    outline = outlines.get((config, header))
    if outline is None or outline[2] != size:
        try:
            outline = (*_outline(files, config), size)
            check_layout(outline[0], outline[1], shapes, str(files.folder))
        except AdapterError:
            files.checked(WEIGHTS)  # where the file is damaged, that is the reason
            raise
        outlines[config, header] = outline
    return outline[0], StoredTensors(files, outline[1])


def _header(file: Path) -> tuple[bytes, int]:
    """(the header of a safetensors file, or what stands in its place; the bytes of the whole file)."""
    with file.open("rb") as stream:
        size, start = os.fstat(stream.fileno()).st_size, stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        return start + stream.read(min(length, size)), size


def _outline(files: StoredFiles, config: bytes) -> tuple[Mapping[str, Any], Mapping[str, Tensor]]:
    """(adapter_config, tensors on no device) of an adapter, whose file is mapped for the time of reading its header."""
    where = str(files.folder)
    try:
        decoded = json.loads(config)
        with safe_open(files.folder / WEIGHTS, framework="pt") as stored:
            tensors = {name: torch.empty_like(stored.get_tensor(name), device="meta") for name in stored.keys()}  # noqa: SIM118
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise AdapterError(f"{where} cannot be read ({error}); give a folder that PEFT saved") from error
    check_config(decoded, where)
    return plain(decoded), plain_names(tensors, where)
