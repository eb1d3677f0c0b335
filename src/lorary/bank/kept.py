"""What is kept of a bank's contents for routing: index, lexicons and names, in two files beside the bank that may always go.

They tell which contents they were made of. A commit that changes or drops one of these memories removes them before, so they
never hold what a bank has lost. Memories that joined since are taken in when they are read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save
from safetensors.torch import load_file
from torch import Tensor

from lorary.bank.files import hash_of, hash_of_file, to_json, write_aside
from lorary.bank.manifest import Manifest

_TENSORS, _SEAL = "contents.safetensors", "contents.json"
_FORMAT = 1


def kept_memories(folder: Path) -> dict[str, str] | None:
    """Name of each memory → the hash of its contents, of what is kept; None where that cannot be told."""
    seal = _seal(folder)
    return None if seal is None else seal["memories"]


def read_kept(folder: Path) -> dict[str, Tensor] | None:
    """What is kept, memory-mapped; None where there is none, or an older or damaged one."""
    try:
        return load_file(folder / _TENSORS) if is_whole(folder) else None
    except Exception:  # whatever is wrong with it, it is made anew
        return None


def is_whole(folder: Path) -> bool:
    """Whether what is kept is there, and as it was written."""
    seal = _seal(folder)
    try:
        return seal is not None and hash_of_file(folder / _TENSORS) == seal.get("sha256")
    except OSError:
        return False


def write_kept(folder: Path, arrays: Mapping[str, np.ndarray], memories: Mapping[str, str]) -> None:
    """Keeps arrays made of memories' contents, given by their hashes."""
    content = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    (folder / _SEAL).unlink(missing_ok=True)  # a seal of before must not vouch for what is new
    write_aside(folder / _TENSORS, content)
    seal = {"format": _FORMAT, "sha256": hash_of(content), "memories": dict(memories)}
    write_aside(folder / _SEAL, to_json(seal, sort_keys=False))


def drop_outdated(folder: Path, manifest: Manifest) -> None:
    """Removes what is kept of contents that a bank with this manifest does not hold."""
    if not (folder / _TENSORS).exists() and not (folder / _SEAL).exists():
        return
    kept = kept_memories(folder)
    now = {name: manifest.contents_hash(name) for name in manifest.versions}
    if kept is None or not kept.items() <= now.items():
        for name in (_TENSORS, _SEAL):
            (folder / name).unlink(missing_ok=True)


def _seal(folder: Path) -> dict[str, Any] | None:
    try:
        seal = json.loads((folder / _SEAL).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(seal, dict) or seal.get("format") != _FORMAT or not isinstance(seal.get("memories"), dict):
        return None
    return seal if all(isinstance(value, str) for value in seal["memories"].values()) else None
