"""Parts of a memory: its files in a bank, and how each part is read from them when it is first used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from lorary.bank.adapters import CONFIG, WEIGHTS
from lorary.bank.documents import parse_passage
from lorary.bank.facts import parse_fact, read_lines
from lorary.bank.files import BankError
from lorary.bank.stored import StoredFiles
from lorary.tables import counted

if TYPE_CHECKING:
    from lorary.bank.memory import Memory

CARD, FACTS, KEYS = "memory.json", "facts.jsonl", "keys.safetensors"
PASSAGES, EXAMPLES = "passages.jsonl", "examples.jsonl"
FILES = (CONFIG, WEIGHTS, CARD, FACTS, KEYS)
"""What lies in every memory's folder."""
OPTIONAL_FILES = (PASSAGES, EXAMPLES)
"""What lies there only where the memory holds documents, or was routed to by examples."""
CONTENTS = (FACTS, PASSAGES, KEYS)
"""What tells all that a question is routed by."""


def _read_facts(memory: Memory, files: StoredFiles) -> dict[str, Any]:
    lines = read_lines(files.checked(FACTS))
    return {"facts": tuple(parse_fact(given, topic=memory.name, where=where) for where, given in lines)}


def _read_documents(_: Memory, files: StoredFiles) -> dict[str, Any]:
    lines = read_lines(files.checked(PASSAGES)) if PASSAGES in files.hashes else ()
    return {"documents": tuple(parse_passage(given, where) for where, given in lines)}


def _read_examples(_: Memory, files: StoredFiles) -> dict[str, Any]:
    lines = read_lines(files.checked(EXAMPLES)) if EXAMPLES in files.hashes else ()
    return {"examples": tuple(_parse_example(given, where) for where, given in lines)}


def _parse_example(given: Any, where: str) -> str:
    prompt = given.get("prompt") if set(given) == {"prompt"} else None
    if not isinstance(prompt, str) or not prompt.strip():
        raise BankError(f"{where}: a stored example is an object with 'prompt', a string, not {given!r}"[:300])
    return prompt


def _read_keys(memory: Memory, files: StoredFiles) -> dict[str, Any]:
    return dict(zip(_OF_KEYS, _keys_of(files.checked(KEYS), memory), strict=True))


_OF_KEYS = ("keys", "key_facts", "passage_keys", "example_keys")


READ: dict[str, Callable[[Memory, StoredFiles], dict[str, Any]]] = {
    "facts": _read_facts,
    "documents": _read_documents,
    "examples": _read_examples,
    "card": lambda _, files: {"card": _read_card(files.checked(CARD))},
    **dict.fromkeys(_OF_KEYS, _read_keys),
}
"""What reads each part that is not read when a bank is opened; it may read others along."""


def _keys_of(file: Path, memory: Memory) -> tuple[Tensor, tuple[int, ...], Tensor, Tensor]:
    """(keys [wordings, embedding], the fact of each, passage keys [passages, embedding], or [0, 0] in an older file, keys of
    examples [examples, embedding], [0, 0] without any).

    Raises:
        BankError: the file holds something else, or keys that do not stand for what the memory holds.
    """
    try:
        tensors = load(file.read_bytes())
        keys, key_facts = tensors["keys"].float(), tuple(map(int, tensors["facts"].tolist()))
        passage_keys, example_keys = (
            tensors[kind].float() if kind in tensors else torch.zeros(0, 0) for kind in ("passages", "examples")
        )
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise BankError(f"{file} holds no keys ({error}); restore it, or build the bank again") from error
    numbers = set(range(len(memory.facts)))
    for kind, held, of_kind, fits in (
        ("fact", memory.facts, keys, len(keys) == len(key_facts) and set(key_facts) <= numbers),
        ("passage", memory.passages, passage_keys, len(passage_keys) in (0, len(memory.passages))),
        ("example", memory.examples, example_keys, len(example_keys) == len(memory.examples)),
    ):
        if of_kind.dim() != 2 or not fits:
            shape, count = list(of_kind.shape), counted(len(held), kind)
            raise BankError(f"{file}: keys of shape {shape} do not stand for {count}; restore it or build again")
        if not bool(torch.isfinite(of_kind).all()):
            raise BankError(f"{file} holds NaN or infinity; restore it, or build the bank again")
    return keys, key_facts, passage_keys, example_keys


def _read_card(file: Path) -> dict[str, Any]:
    try:
        card = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise BankError(f"{file} is not JSON ({error}); restore it, or build the bank again") from error
    if not isinstance(card, dict):
        raise BankError(f"{file} holds {type(card).__name__}, not a JSON object; restore it, or build the bank again")
    return card
