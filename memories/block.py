"""One decoder block that is built as Llama's, there and back: what leaves it, and the gradients of what is learnt in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
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


class Batch(NamedTuple):
    """What all blocks are told of the rows that pass.

    Args:
        gains: [tokens, slots], what each slot of each linear counts.
        read: tokens beyond whose attention nothing is read: of the last block, those that have a label; None: all.
    """

    heads: Heads
    rotary: Rotary
    gains: Tensor
    read: Tensor | None = None

    @property
    def gains_read(self) -> Tensor:
        """The gains of the tokens that are read beyond attention."""
        return self.gains if self.read is None else self.gains[self.read]


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
    batch: Batch,
) -> tuple[Float[Tensor, "read hidden"], Kept]:
    """(what leaves a block, what its gradient needs)."""
    q, k, v, o, gate, up, down = linears
    entering, *first = maths.normed(x, block.norms[0], block.eps)
    (queries, q_slots), (keys, k_slots), (values, v_slots) = (
        maths.adapted(entering, each, batch.gains) for each in (q, k, v)
    )
    seen, attended = maths.attended(queries, keys, values, batch.rotary, batch.heads)
    gains = batch.gains_read
    if batch.read is not None:
        x, seen = x[batch.read], seen[batch.read]
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
    batch: Batch,
    wanted: bool,
) -> tuple[Float[Tensor, "tokens hidden"] | None, list[Factors]]:
    """(the gradient of what enters, where `wanted`, those of the factors of each linear) from that of what leaves."""
    q, k, v, o, gate, up, down = linears
    (entering, seen, middle, passed), slots = kept.entered, kept.slots
    gains, lower = batch.gains_read, wanted or any(s is not None for s in slots[:3])
    deeper = lower or slots[3] is not None
    to_passed, of_down = maths.adapted_gradient(g, passed, slots[6], down, gains)
    assert to_passed is not None
    to_gate, to_up = maths.gated_gradient(to_passed, *kept.gated)
    from_gate, of_gate = maths.adapted_gradient(to_gate, middle, slots[4], gate, gains, deeper)
    from_up, of_up = maths.adapted_gradient(to_up, middle, slots[5], up, gains, deeper)
    grads: list[Factors] = [None, None, None, None, of_gate, of_up, of_down]
    if from_gate is None or from_up is None:
        return None, grads
    g = g + maths.normed_gradient(from_gate.add_(from_up), block.norms[1], *kept.norms[1])
    to_seen, grads[3] = maths.adapted_gradient(g, seen, slots[3], o, gains, lower)
    if to_seen is None:
        return None, grads
    if batch.read is not None:
        g, to_seen = (
            each.new_zeros(entering.shape[0], each.shape[1]).index_add_(0, batch.read, each) for each in (g, to_seen)
        )
    to_each = maths.attended_gradient(to_seen, kept.attended, batch.rotary, batch.heads)
    entered = torch.zeros_like(entering)
    for n, (to_one, layer) in enumerate(zip(to_each, (q, k, v), strict=True)):
        from_one, grads[n] = maths.adapted_gradient(to_one, entering, slots[n], layer, batch.gains, wanted)
        if from_one is not None:
            entered += from_one
    return g + maths.normed_gradient(entered, block.norms[0], *kept.norms[0]) if wanted else None, grads
