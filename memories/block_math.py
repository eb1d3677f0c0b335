"""The parts of a decoder block with their gradients, written out: fewer operations than autograd makes of the base's code.

Only what an adapter learns from has a gradient. Weights of the base are frozen, so they have none.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear, silu

Tokens = Float[Tensor, "tokens _"]


class Linear(NamedTuple):
    """A frozen linear layer, and the factors that are learnt beside it, where there are any.

    Args:
        weight: [d_out, d_in].
        down, up: A [slots, d_in] and B [d_out, slots], B with the scaling folded in.
    """

    weight: Tensor
    bias: Tensor | None = None
    down: Tensor | None = None
    up: Tensor | None = None


class Rotary(NamedTuple):
    """What turns queries and keys by their position: [seq, size] each, the first half of the sines negated."""

    cos: Tensor
    sin: Tensor


class Heads(NamedTuple):
    """How rows and heads lie in [tokens, heads · size]; `shared` queries read one key."""

    rows: int
    seq: int
    keys: int
    shared: int
    scale: float


def normed(x: Tokens, weight: Tensor, eps: float) -> tuple[Tokens, Tokens, Float[Tensor, "tokens 1"]]:
    """(RMSNorm of x, x at unit size, by what it was multiplied for that), in fp32 as transformers computes it."""
    wide = x.float()
    by = torch.rsqrt(wide.square().mean(-1, keepdim=True).add_(eps))
    unit = (wide * by).to(x.dtype)
    return unit * weight, unit, by


def normed_gradient(g: Tokens, weight: Tensor, unit: Tokens, by: Tensor) -> Tokens:
    """The gradient of x from that of `normed`."""
    wide, unit = (g * weight).float(), unit.float()
    along = (wide * unit).mean(-1, keepdim=True)
    return wide.addcmul_(unit, along, value=-1).mul_(by).to(g.dtype)


def adapted(x: Tokens, layer: Linear, gains: Float[Tensor, "tokens slots"]) -> tuple[Tokens, Tensor | None]:
    """(W x + B (g ∘ (A x)), g ∘ (A x)), the second None where there are no factors."""
    y = linear(x, layer.weight, layer.bias)
    if layer.down is None or layer.up is None:
        return y, None
    slots = (x @ layer.down.T).mul_(gains)
    return y.addmm_(slots, layer.up.T), slots


def adapted_gradient(
    g: Tokens, x: Tokens, slots: Tensor | None, layer: Linear, gains: Tensor, wanted: bool = True
) -> tuple[Tokens | None, tuple[Tensor, Tensor] | None]:
    """(the gradient of x, those of A and B) from that of `adapted`.

    Args:
        wanted: whether the gradient of x is, too.
    """
    dx = g @ layer.weight if wanted else None
    if slots is None or layer.down is None or layer.up is None:
        return dx, None
    to_slots = (g @ layer.up).mul_(gains)
    if dx is not None:
        dx.addmm_(to_slots, layer.down)
    return dx, (to_slots.T @ x, g.T @ slots)


def _swapped(x: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return torch.cat((second, first), -1)


def rotated(x: Float[Tensor, "rows heads seq size"], rotary: Rotary) -> Float[Tensor, "rows heads seq size"]:
    """Rotary position embedding (Su et al. 2021, arXiv 2104.09864), halves as Llama pairs them."""
    return torch.addcmul(x * rotary.cos, _swapped(x), rotary.sin)


def rotated_gradient(g: Float[Tensor, "rows heads seq size"], rotary: Rotary) -> Float[Tensor, "rows heads seq size"]:
    """The gradient of x from that of `rotated`."""
    return (g * rotary.cos).add_(_swapped(g * rotary.sin))


class Attended(NamedTuple):
    """What attention's gradient needs: queries, keys and values as they were multiplied, and the weights."""

    queries: Tensor
    keys: Tensor
    values: Tensor
    weights: Tensor


def attended(q: Tokens, k: Tokens, v: Tokens, rotary: Rotary, heads: Heads) -> tuple[Tokens, Attended]:
    """Causal attention of each row; queries that share a key stand in one product."""
    size = k.shape[-1] // heads.keys
    apart = torch.cat((q, k, v), -1).view(heads.rows, heads.seq, -1, size).transpose(1, 2).contiguous()
    turned = rotated(apart[:, : -heads.keys], rotary)
    pairs = heads.rows * heads.keys
    queries = turned[:, : -heads.keys].reshape(pairs, heads.shared * heads.seq, size)
    keys = turned[:, -heads.keys :].reshape(pairs, heads.seq, size)
    values = apart[:, -heads.keys :].reshape(pairs, heads.seq, size)
    wide = torch.promote_types(q.dtype, torch.float32)  # and a softmax over few bf16 values is five times as slow
    later = torch.full((heads.seq, heads.seq), float("-inf"), dtype=wide, device=q.device).triu_(1)
    scores = (queries @ keys.transpose(1, 2)).to(wide).mul_(heads.scale).add_(later.repeat(heads.shared, 1))
    weights = scores.softmax(-1).to(q.dtype)
    return _joined(weights @ values, heads), Attended(queries, keys, values, weights)


def attended_gradient(g: Tokens, kept: Attended, rotary: Rotary, heads: Heads) -> tuple[Tokens, Tokens, Tokens]:
    """The gradients of q, k and v from that of `attended`."""
    size, queries = kept.keys.shape[-1], heads.keys * heads.shared
    apart = g.view(heads.rows, heads.seq, queries, size).transpose(1, 2).reshape(kept.queries.shape)
    to_values = kept.weights.transpose(1, 2) @ apart
    wide = torch.promote_types(g.dtype, torch.float32)
    weights, to_weights = kept.weights.to(wide), (apart @ kept.values.transpose(1, 2)).to(wide)
    along = (weights * to_weights).sum(-1, keepdim=True)
    to_scores = to_weights.sub_(along).mul_(weights).mul_(heads.scale).to(g.dtype)
    to_queries, to_keys = to_scores @ kept.keys, to_scores.transpose(1, 2) @ kept.queries
    shape = (heads.rows, -1, heads.seq, size)
    turned = rotated_gradient(torch.cat((to_queries.view(shape), to_keys.view(shape)), 1), rotary)
    together = torch.cat((turned, to_values.view(shape)), 1).transpose(1, 2).reshape(len(g), -1)
    q, k, v = together.split((queries * size, heads.keys * size, heads.keys * size), -1)
    return q, k, v


def _joined(read: Tensor, heads: Heads) -> Tokens:
    """[rows · keys, shared · seq, size] → [tokens, heads · size]."""
    apart = read.view(heads.rows, heads.keys * heads.shared, heads.seq, -1)
    return apart.transpose(1, 2).reshape(heads.rows * heads.seq, -1)


def gated(gate: Tokens, up: Tokens) -> tuple[Tokens, Tokens]:
    """(SiLU(gate) ∘ up, SiLU(gate))."""
    opened = silu(gate)
    return opened * up, opened


def gated_gradient(g: Tokens, gate: Tokens, up: Tokens, opened: Tokens) -> tuple[Tokens, Tokens]:
    """The gradients of gate and up from that of `gated`."""
    return torch.ops.aten.silu_backward(g * up, gate), g * opened
