"""Several memories merged into one by combining their factors, as PEFT does: for the conditions that compare with it.

The exact weighted sum of updates needs no merging: it is a route that gives several memories a weight.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from lorary.bank.adapters import PREFIX, scaling
from lorary.bank.memory import Memory
from lorary.errors import LoraryError

DENSITY = 0.2
"""The share of each factor's entries that TIES keeps."""


class MergeError(LoraryError):
    """Memories that cannot be merged so: says which, and why."""


def linear(
    tensors: Float[Tensor, "memories rows columns"], weights: Float[Tensor, " memories"]
) -> Float[Tensor, "rows columns"]:
    """The weighted sum."""
    return torch.einsum("m,mij->ij", weights, tensors)


def ties(
    tensors: Float[Tensor, "memories rows columns"], weights: Float[Tensor, " memories"]
) -> Float[Tensor, "rows columns"]:
    """Trim, elect, merge (Yadav et al. 2023, arXiv 2306.01708): of each tensor only its largest entries count; where
    signs differ, those of the greater total; the mean of what is left."""
    flat = tensors.flatten(1)
    largest = flat.abs().topk(int(DENSITY * flat.shape[1]), dim=-1).indices
    trimmed = torch.zeros_like(flat).scatter(-1, largest, flat.gather(-1, largest)).view_as(tensors)
    elected = torch.where(trimmed.sum(0) >= 0, 1, -1)
    agree = trimmed.sign() == elected
    return linear(trimmed * agree, weights) / agree.sum(0).clamp(min=1)


HOWS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"ties": ties, "linear": linear}


def merged(name: str, memories: Sequence[Memory], how: str) -> Memory:
    """One memory of several with equal weights: their A and their B are combined apart, as PEFT does, so that the
    update has cross terms A_i B_j.

    Raises:
        MergeError: memories of different ranks or targets.
    """
    first = memories[0]
    for memory in memories[1:]:
        if {k: t.shape for k, t in memory.tensors.items()} != {k: t.shape for k, t in first.tensors.items()}:
            raise MergeError(
                f"{how} needs memories of one rank and the same targets; {memory.name} and {first.name} differ"
            )
    tensors, ranks = dict[str, Tensor](), dict[str, int]()
    for key in first.tensors:
        path = key.removeprefix(PREFIX).rpartition(".lora_")[0]
        ranks[path] = first.tensors[f"{PREFIX}{path}.lora_A.weight"].shape[0]
        scales = [scaling(memory.adapter_config, path, ranks[path]) / len(memories) for memory in memories]
        stacked = torch.stack([memory.tensors[key].float() for memory in memories])
        tensors[key] = HOWS[how](stacked, torch.tensor([math.sqrt(scale) for scale in scales]))
    # An alpha equal to the rank of each module: the scaling is 1, it is in the factors.
    config = {"peft_type": "LORA", "r": max(ranks.values()), "rank_pattern": ranks, "alpha_pattern": ranks}
    return Memory(name, config, tensors)
