"""What a gate starts from: the keys of its memories, made from their facts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial

import torch
from jaxtyping import Float
from torch import Tensor

from lorary.bank.bank import MemoryBank
from lorary.bank.memory import Memory
from lorary.routing.encoder import Encoder
from lorary.routing.gate import Gate
from lorary.routing.names import Names
from lorary.routing.proper_names import without_names


def mean_key(memory: Memory, dimension: int) -> Float[Tensor, " embedding"]:
    """The mean embedding of what a memory is routed by: where its key starts (zeros where that is nothing)."""
    keys = memory.routing_keys
    return keys.mean(0) if len(keys) else torch.zeros(dimension)


def starting_keys(
    memories: Sequence[Memory],
    get_names: Callable[[], frozenset[str]],
    features: Sequence[str],
    dimension: int,
    get_encoder: Callable[[], Encoder],
) -> Iterator[tuple[Float[Tensor, " embedding"], Float[Tensor, " embedding"] | None]]:
    """What the keys of memories start from: (the mean of its facts, that of its facts without names).

    The latter is None where it is no feature, and no encoder is needed.

    Args:
        get_names: finds the names of the whole bank as it stands. A memory that joins later may tell of a word that it
            is a name, and keys made before do not change: they are saved with the gate.
    """
    for memory in memories:
        asked = mean_asked_key(memory, get_encoder(), get_names()) if "asked" in features else None
        yield mean_key(memory, dimension), asked


def bank_names(bank: MemoryBank) -> frozenset[str]:
    """The names in a bank's trained wordings."""
    return Names.of((memory.name, memory.routing_texts) for memory in bank).all


def mean_asked_key(memory: Memory, encoder: Encoder, names: frozenset[str]) -> Float[Tensor, " embedding"]:
    """The same without names."""
    counts = Counter(without_names(wording, names) for wording in memory.routing_texts)
    weights = torch.tensor([*counts.values()], dtype=torch.float)
    return weights @ encoder.encode([*counts]) / weights.sum().clamp(min=1)


def new_gate(bank: MemoryBank, encoder: Encoder, hidden_size: int, features: tuple[str, ...]) -> Gate:
    """An untrained gate whose keys are the memories' mean fact embeddings."""
    names = cache(partial(bank_names, bank))
    started = list(starting_keys(list(bank), names, features, encoder.dimension, lambda: encoder))
    keys = torch.stack([key for key, _ in started]) if started else torch.zeros(0, encoder.dimension)
    asked = [key for _, key in started if key is not None]
    return Gate(keys, hidden_size, features, torch.stack(asked) if asked else None)
