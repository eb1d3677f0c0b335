"""Traces: what the files of a bank or composite still hold of facts, as text or as embeddings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from lorary.bank.facts import Fact, comparable
from lorary.bank.memory import Memory
from lorary.routing.encoder import Encoder

_SAME = 0.9999
"""The cosine from which a row of a file is a text's embedding."""
_NEAR = 1e-5
"""How far two roundings of one embedding's number may lie apart."""
_BLOCK = 1 << 20
"""Numbers of a file that are compared with all embeddings at once."""
_BY_CHANCE = 6
"""Bytes of a text from which on a file of numbers does not hold it by chance: of fewer, a megabyte may hold any."""


def texts_of(facts: Iterable[Fact], kept: Iterable[Memory] = ()) -> list[str]:
    """All texts of facts: wordings, answers and statements, without those that kept memories hold as a part of theirs."""
    texts = [t for f in facts for t in (*f.wordings, *f.held_out, f.answer, f.statement) if t]
    others = [text for memory in kept for fact in memory.facts for text in _all(fact)]
    others += [passage.text for memory in kept for passage in memory.documents]
    known = "\n".join(map(comparable, others))
    return [text for text in dict.fromkeys(texts) if comparable(text) not in known]


def _all(fact: Fact) -> list[str]:
    return [text for text in (*fact.wordings, *fact.held_out, fact.answer, fact.statement, fact.source) if text]


def traces(folder: str | Path, texts: Sequence[str], encoder: Encoder) -> dict[str, list[str]]:
    """The files under a folder that hold one of the texts, or its embedding → which texts each holds.

    Every file is searched for the bytes of each text, as it is and as JSON writes it, and for the fp32 numbers of its
    embedding, which may differ in their last digits: other batches and machines round otherwise. The rows of safetensors
    files are compared with the embeddings besides.
    """
    vectors = encoder.encode(list(texts)) if texts else torch.zeros(0, encoder.dimension)
    ways = [_ways(text) for text in texts]
    found: dict[str, list[str]] = {}
    for file in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
        content = file.read_bytes()
        shortest = 0 if _is_text(content) else _BY_CHANCE
        searched = [(text, own) for text, own in zip(texts, ways, strict=True) if len(text.encode()) >= shortest]
        held = {text for text, own in searched if any(_stands(way, content) for way in own)}
        held |= {texts[number] for number in (*_rows(file, vectors), *_numbers(content, vectors))}
        if held:
            found[file.relative_to(folder).as_posix()] = [text for text in texts if text in held]
    return found


def _ways(text: str) -> set[bytes]:
    """The bytes of a text, as it is and as JSON writes it."""
    return {
        text.encode(),
        *(json.dumps(text, ensure_ascii=ascii_alone)[1:-1].encode() for ascii_alone in (True, False)),
    }


def _stands(way: bytes, content: bytes) -> bool:
    """Whether a text's bytes stand in others; not as a part of more digits, such as those of a hash."""
    if way not in content:
        return False
    return not re.fullmatch(b"[0-9a-f]+", way) or bool(re.search(b"(?<![0-9a-f])%s(?![0-9a-f])" % way, content))


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _numbers(content: bytes, vectors: torch.Tensor) -> set[int]:
    """The numbers of the vectors that stand in some bytes as fp32 numbers, at any place.

    Of a text that the encoder cannot read the vector is zero, which tells nothing.
    """
    found, size = set[int](), vectors.shape[1]
    read = vectors.any(-1).nonzero()[:, 0]
    order = read[vectors[read, 0].argsort()].numpy()
    sought = vectors.numpy()[order]
    for offset in range(4):
        count = (len(content) - offset) // 4
        held = np.frombuffer(content, np.float32, count, offset) if count >= size else np.zeros(0, np.float32)
        for first in range(0, max(0, len(held) - size + 1), _BLOCK):
            found |= {int(order[i]) for i in _standing(held[first : first + _BLOCK + size - 1], sought)}
    return found


def _standing(held: np.ndarray, sought: np.ndarray) -> set[int]:
    """The rows of vectors, in the order of their first numbers, that stand somewhere in a run of numbers."""
    with np.errstate(invalid="ignore"):
        starts = held[: len(held) - sought.shape[1] + 1].astype(np.float64)
    firsts = sought[:, 0].astype(np.float64)
    lowest, behind = (np.searchsorted(firsts, starts + beside) for beside in (-2 * _NEAR, 2 * _NEAR))
    near = np.flatnonzero(behind > lowest)
    counts = behind[near] - lowest[near]
    # Each place with each of the vectors that may begin there.
    places = near.repeat(counts)
    vectors = lowest[near].repeat(counts) + np.arange(len(places)) - (counts.cumsum() - counts).repeat(counts)
    for column in range(sought.shape[1]):
        with np.errstate(invalid="ignore"):
            alike = np.abs(held[places + column] - sought[vectors, column]) <= _NEAR
        places, vectors = places[alike], vectors[alike]
        if not len(places):
            break
    return set(vectors.tolist())


def _rows(file: Path, vectors: torch.Tensor) -> set[int]:
    """The numbers of the vectors that are rows of a tensor in a safetensors file."""
    if file.suffix != ".safetensors" or not len(vectors):
        return set()
    found = set[int]()
    try:
        with safe_open(file, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118 (it is no dict)
                tensor = opened.get_tensor(name)
                if tensor.dim() == 2 and tensor.shape[1] == vectors.shape[1] and tensor.is_floating_point():
                    rows = torch.nn.functional.normalize(tensor.float(), dim=-1)
                    found |= {int(i) for i in ((vectors @ rows.T) >= _SAME).any(-1).nonzero()}
    except SafetensorError:
        return found
    return found
