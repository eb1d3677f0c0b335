"""A router goes on from the index, lexicons and names that were kept when its bank was saved, and keeps its own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from lorary.bank.kept import is_whole, kept_memories, read_kept, write_kept
from lorary.bank.memory import Memory
from lorary.errors import LoraryError
from lorary.routing.contents import INDEXES, KEPT, Contents, new_lexicon
from lorary.routing.index import FactIndex
from lorary.routing.lexicon import Lexicon, between_spaces
from lorary.routing.names import Names, StoredNames
from lorary.routing.postings import Postings

if TYPE_CHECKING:
    from lorary.bank.bank import MemoryBank
    from lorary.routing.router import Router

_ARRAYS = ("vocabulary", "starts", "texts", "counts", "lengths", "owner")
_NAMES, _TOLD = "names", "told"
_LATER = 16
"""So many memories may join a bank before what is kept of it is written anew."""


def keep_contents(router: Router, folder: Path, hashes: Mapping[str, str]) -> None:
    """Writes what a router has made of its bank's contents beside the bank, unless that lies there but for a few that joined.

    Args:
        hashes: name of each memory → the hash of its contents, as the bank lies there.
    """
    kept = kept_memories(folder)
    few_joined = (
        kept is not None and kept.items() <= hashes.items() and len(hashes) - len(kept) <= min(_LATER, len(kept))
    )
    if few_joined and is_whole(folder):
        return
    contents, names_lexicon = router.contents, router.names_lexicon
    told: dict[str, Any] = {"dimension": contents.dimension, "bare": sorted(contents.bare)}
    arrays = dict[str, np.ndarray]()
    for kind in KEPT:
        if kind in INDEXES:
            stored, told[kind] = contents.store(kind).stored()
            arrays |= {f"{kind}/{name}": array for name, array in stored.items()}
        else:
            told[kind] = _of_lexicon(kind, contents.store(kind), arrays)
    told[_NAMES] = _of_lexicon(_NAMES, names_lexicon, arrays)
    names = router.name_counts.stored()
    told |= {"words": names.words, "named": names.memories}
    arrays |= {"name counts": names.counts, "name codes": names.codes, "name ends": names.ends}
    arrays[_TOLD] = np.frombuffer(json.dumps(told).encode(), dtype=np.uint8)
    write_kept(folder, arrays, hashes)


def _of_lexicon(kind: str, lexicon: Lexicon, arrays: dict[str, np.ndarray]) -> list[list[str]]:
    """[the memories of a lexicon's postings, those in the order in which they joined]; its arrays come to `arrays`."""
    postings, order = lexicon.stored()
    arrays |= {f"{kind}/{name}": getattr(postings, name) for name in _ARRAYS}
    return [list(postings.memories), order]


def kept_contents(bank: MemoryBank, dimension: int) -> tuple[Contents, Lexicon, Names, list[Memory]] | None:
    """(contents, the lexicon of names, names, the memories that joined since), as they were kept when the bank was saved.

    None where nothing is kept of it, or of other contents, or much has joined since.
    """
    if bank.contents is None:
        return None
    folder, hashes = bank.contents
    now = {name: hashes.get(name) for name, (memory, _) in bank.versions.items() if bank.memories.get(name) is memory}
    kept = kept_memories(folder)
    later = [memory for memory in bank if kept is not None and memory.name not in kept]
    if not kept or not kept.items() <= now.items() or len(later) > min(_LATER, len(kept)):
        return None
    tensors = read_kept(folder)
    if tensors is None:
        return None
    try:
        return _taken(bank, dimension, tensors, [*kept], later)
    except (LoraryError, KeyError, ValueError, IndexError, TypeError):  # whatever is wrong with it, it is made anew
        return None


def _taken(
    bank: MemoryBank, dimension: int, tensors: Mapping[str, Tensor], kept: Sequence[str], later: list[Memory]
) -> tuple[Contents, Lexicon, Names, list[Memory]] | None:
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    told = json.loads(arrays[_TOLD].tobytes())
    if told["dimension"] != dimension:
        return None
    stores: dict[str, Any] = {kind: _index(kind, arrays, told, dimension) for kind in INDEXES}
    stores |= {kind: new_lexicon(kind, *_postings(kind, arrays, told)) for kind in KEPT if kind not in INDEXES}
    contents = Contents(dimension, (bank[name] for name in kept), stores, told["bare"])
    lexicon = Lexicon(between_spaces, *_postings(_NAMES, arrays, told))
    counts, codes, ends = (arrays[f"name {name}"] for name in ("counts", "codes", "ends"))
    names = StoredNames(told["words"], counts, told["named"], codes, ends)
    return contents, lexicon, Names.of_stored(names, {name: _wordings(bank[name]) for name in told["named"]}), later


def _wordings(memory: Memory) -> Any:
    return lambda: memory.routing_texts


def _index(kind: str, arrays: Mapping[str, np.ndarray], told: Mapping[str, Any], dimension: int) -> FactIndex:
    own = {name.removeprefix(f"{kind}/"): array for name, array in arrays.items() if name.startswith(f"{kind}/")}
    return FactIndex.of_stored(dimension, own, told[kind])


def _postings(kind: str, arrays: Mapping[str, np.ndarray], told: Mapping[str, Any]) -> tuple[Postings, Sequence[str]]:
    memories, order = told[kind]
    return Postings(tuple(memories), *(arrays[f"{kind}/{name}"] for name in _ARRAYS)), order
