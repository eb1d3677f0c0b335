"""One decoder block that is built as Llama's, there and back: what leaves it, and the gradients of what is learnt in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lorary.memories import block_math as maths
from lorary.memories.block_math import Attended, Heads, Linear, Rotary

LINEARS = (
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
)  # fmt: skip
"""The linears of a block, in the order of its factors."""
Factors = tuple[Tensor, Tensor] | None


@dataclass(frozen=True)
class Block:
    """A block's frozen weights; `linears` in the order of `LINEARS`."""

    norms: tuple[Tensor, Tensor]
    eps: float
    linears: tuple[nn.Linear, ...]
    keys: int
    shared: int
    scale: float

    def with_factors(self, factors: Sequence[Factors]) -> list[Linear]:
        """Its linears beside the factors of each."""
        return [
            Linear(layer.weight, layer.bias, *(pair or ())) for layer, pair in zip(self.linears, factors, strict=True)
        ]


class Kept(NamedTuple):
    """What a block's gradient needs: what entered each linear, the slots of each, and what its parts keep."""

    entered: tuple[Tensor, Tensor, Tensor, Tensor]
    slots: tuple[Tensor | None, ...]
    norms: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]
    attended: Attended
    gated: tuple[Tensor, Tensor, Tensor]


def forward(
    x: Float[Tensor, "tokens hidden"],
    block: Block,
    linears: Sequence[Linear],
    rotary: Rotary,
    gains: Float[Tensor, "tokens slots"],
    heads: Heads,
    read: Int[Tensor, " read"] | None,
) -> tuple[Float[Tensor, "read hidden"], Kept]:
    """(what leaves a block, what its gradient needs).

    Args:
        read: tokens beyond whose attention nothing is read: of the last block, those that have a label; None: all.
    """
    q, k, v, o, gate, up, down = linears
    entering, *first = maths.normed(x, block.norms[0], block.eps)
    (queries, q_slots), (keys, k_slots), (values, v_slots) = (
        maths.adapted(entering, each, gains) for each in (q, k, v)
    )
    seen, attended = maths.attended(queries, keys, values, rotary, heads)
    if read is not None:
        x, seen, gains = x[read], seen[read], gains[read]
    leaving, o_slots = maths.adapted(seen, o, gains)
    x = leaving.add_(x)
    middle, *second = maths.normed(x, block.norms[1], block.eps)
    (opening, gate_slots), (open_, up_slots) = (maths.adapted(middle, each, gains) for each in (gate, up))
    passed, opened = maths.gated(opening, open_)
    last, down_slots = maths.adapted(passed, down, gains)
    kept = Kept(
        (entering, seen, middle, passed),
        (q_slots, k_slots, v_slots, o_slots, gate_slots, up_slots, down_slots),
        (tuple(first), tuple(second)),
        attended,
        (opening, open_, opened),
    )
    return last.add_(x), kept


def backward(
    g: Float[Tensor, "read hidden"],
    kept: Kept,
    block: Block,
    linears: Sequence[Linear],
    rotary: Rotary,
    gains: Float[Tensor, "tokens slots"],
    heads: Heads,
    read: Int[Tensor, " read"] | None,
    wanted: bool,
) -> tuple[Float[Tensor, "tokens hidden"] | None, list[Factors]]:
    """(the gradient of what enters, where `wanted`, those of the factors of each linear) from that of what leaves."""
    q, k, v, o, gate, up, down = linears
    (entering, seen, middle, passed), slots = kept.entered, kept.slots
    lower, reading = wanted or any(s is not None for s in slots[:3]), gains if read is None else gains[read]
    deeper = lower or slots[3] is not None
    to_passed, of_down = maths.adapted_gradient(g, passed, slots[6], down, reading)
    assert to_passed is not None
    to_gate, to_up = maths.gated_gradient(to_passed, *kept.gated)
    from_gate, of_gate = maths.adapted_gradient(to_gate, middle, slots[4], gate, reading, deeper)
    from_up, of_up = maths.adapted_gradient(to_up, middle, slots[5], up, reading, deeper)
    grads: list[Factors] = [None, None, None, None, of_gate, of_up, of_down]
    if from_gate is None or from_up is None:
        return None, grads
    g = g + maths.normed_gradient(from_gate.add_(from_up), block.norms[1], *kept.norms[1])
    to_seen, grads[3] = maths.adapted_gradient(g, seen, slots[3], o, reading, lower)
    if to_seen is None:
        return None, grads
    if read is not None:
        g, to_seen = (each.new_zeros(len(gains), each.shape[1]).index_add_(0, read, each) for each in (g, to_seen))
    to_each = maths.attended_gradient(to_seen, kept.attended, rotary, heads)
    entered = torch.zeros_like(entering)
    for n, (to_one, layer) in enumerate(zip(to_each, (q, k, v), strict=True)):
        from_one, grads[n] = maths.adapted_gradient(to_one, entering, slots[n], layer, gains, wanted)
        if from_one is not None:
            entered += from_one
    return g + maths.normed_gradient(entered, block.norms[0], *kept.norms[0]) if wanted else None, grads
