"""Grouping: tokens that a pass routes apart are multiplied by the factors of the memories that they use, and by no others.

Stacked factors cost each token the slots of all active memories. With a product a group (as SGMV does, Chen et al. 2023,
arXiv 2310.18547) each token pays for its own, and the memories' factors need not be stacked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

MEMORIES, ROWS = 12, 64
"""From so many active memories and rows on, groups are faster than stacked factors (measured on a CPU at 128 rows)."""
Pair = tuple[Tensor, Tensor]
"""A memory's (Aᵀ [d_in, r], Bᵀ [r, d_out] with the scaling folded in) for one linear."""


@dataclass(frozen=True)
class Groups:
    """The rows of one pass by the memory that they use; a row that mixes two memories stands in two groups.

    Args:
        rows: the number of each entry's row, group after group.
        gains: the weight of each entry.
        sizes: how many entries each active memory's group has.
        place: for each row its entry, where every row has exactly one.
    """

    rows: Int[Tensor, " entries"]
    gains: Float[Tensor, "entries 1"]
    sizes: tuple[int, ...]
    place: Int[Tensor, " rows"] | None


def groups_of(weights: Float[Tensor, "batch seq memories"], active: Sequence[int]) -> Groups | None:
    """The groups of a pass; None where stacked factors are as fast, or a gradient is wanted.

    Args:
        active: the numbers of the memories that any row uses.
    """
    count = weights.shape[0] * weights.shape[1]
    if len(active) < MEMORIES or weights.shape[1] == 1 or count < ROWS or torch.is_grad_enabled():
        return None
    used = weights.flatten(0, 1).T[list(active)]
    place, rows = used.nonzero(as_tuple=True)
    sizes = place.bincount(minlength=len(active)).tolist()
    alone = len(rows) == count and len(rows.unique()) == count
    return Groups(rows, used[place, rows].unsqueeze(-1), tuple(sizes), rows.argsort() if alone else None)


def grouped_update(
    x: Float[Tensor, "*batch d_in"], pairs: Sequence[Pair | None], groups: Groups
) -> Float[Tensor, "*batch d_out"] | None:
    """What `mixture.low_rank_update` gives, up to rounding: B A (g x) of each row's own memories.

    Args:
        pairs: the factors of each active memory, None for one that does not adapt this linear; None is given back where
            none does.
    """
    rows, flat = groups.rows, x.flatten(0, -2)
    parts = (flat.index_select(0, rows) * groups.gains.to(x.dtype)).split(groups.sizes)
    taken = [number for number, pair in enumerate(pairs) if pair is not None]
    if not taken:
        return None
    mm = torch.mm
    update = torch.cat(
        [mm(mm(part, pair[0]), pair[1]) for part, pair in zip(parts, pairs, strict=True) if pair is not None]
    )
    if len(taken) < len(pairs):
        own = rows.split(groups.sizes)
        rows = torch.cat([own[number] for number in taken])
    elif groups.place is not None:
        return update.index_select(0, groups.place).unflatten(0, x.shape[:-1])
    return update.new_zeros(len(flat), update.shape[1]).index_add_(0, rows, update).unflatten(0, x.shape[:-1])
