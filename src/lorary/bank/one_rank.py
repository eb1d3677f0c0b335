"""Factors of one rank: what formats take that know neither patterns of ranks nor scaling of their own."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from lorary.bank.memory import Memory


def of_one_rank(memory: Memory) -> dict[str, tuple[Tensor, Tensor]]:
    """Module path → (A [r, d_in], B [d_out, r]) in fp32, r the memory's greatest rank; B A is the whole update.

    All scaling (alpha, rsLoRA, patterns) is folded into B. Factors of a lower rank are filled up with zeros, which add nothing.
    """
    factors = memory.factors()
    rank = greatest_rank(factors)
    return {path: (_filled(a, rank, 0), _filled(b, rank, 1)) for path, (a, b) in factors.items()}


def greatest_rank(factors: Mapping[str, tuple[Tensor, Tensor]]) -> int:
    """The greatest rank of any module."""
    return max(len(a) for a, _ in factors.values())


def _filled(factor: Float[Tensor, "rows columns"], size: int, axis: int) -> Float[Tensor, "_rows _columns"]:
    """The factor with zeros behind it along an axis, up to a size."""
    missing = size - factor.shape[axis]
    shape = [missing if number == axis else length for number, length in enumerate(factor.shape)]
    return torch.cat([factor, factor.new_zeros(shape)], axis).contiguous()
