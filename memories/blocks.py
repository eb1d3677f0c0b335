"""The decoder above the split by formulas of our own, for bases whose blocks are built as Llama's; others run as they are.

Half of a step's time goes into operations that are no products, and the base's own code takes more of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lorary.base.layers import decoder_layers, layers_path
from lorary.base.rows import lower, upper
from lorary.memories.block import LINEARS, Batch, Block, backward, forward
from lorary.memories.block_math import Heads, Linear, Rotary
from lorary.model.mixture import MixtureLinear

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_OTHERS = {"", "self_attn", "mlp", "mlp.act_fn", "input_layernorm", "post_attention_layernorm"}
_SILU = {"SiLU", "SiLUActivation"}
_NEAR = {torch.bfloat16: 0.03, torch.float16: 0.01, torch.float32: 1e-4, torch.float64: 1e-4}
"""How far the last hidden state may be off that of the base's own code, as a share of its size."""


class _Above(torch.autograd.Function):
    """All blocks above the split, one after the other, as one operation of autograd."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, blocks: Blocks, batch: Batch, *factors: Tensor) -> Tensor:
        ctx.passed = []
        every, last = blocks.with_factors(x.dtype, factors), blocks.blocks[-1]
        for block, linears in zip(blocks.blocks, every, strict=True):
            own = batch if block is last else batch._replace(read=None)
            x, kept = forward(x, block, linears, own)
            ctx.passed.append((kept, block, linears, own))
        return x

    @staticmethod
    def backward(ctx: Any, leaving: Tensor) -> tuple[Tensor | None, ...]:
        g: Tensor | None = leaving
        found: list[Tensor] = []
        for number, (kept, block, linears, own) in reversed(list(enumerate(ctx.passed))):
            assert g is not None
            g, grads = backward(g, kept, block, linears, own, number > 0)
            found = [grad.float() for pair in grads if pair is not None for grad in pair] + found
        return None, None, None, *found


class Blocks:
    """The blocks above the split with the factors that are learnt in them."""

    def __init__(self, model: PreTrainedModel, split_layer: int, layers: Mapping[str, MixtureLinear]) -> None:
        above, prefix = decoder_layers(model)[split_layer:], layers_path(model)
        self.decoder: Any = model.get_decoder()
        self.blocks = [_block(layer) for layer in above]
        self.layers = [
            [layers.get(f"{prefix}.{split_layer + n}.{name}") for name in LINEARS] for n in range(len(self.blocks))
        ]

    @property
    def factors(self) -> list[Tensor]:
        """A and B of each adapted linear, in order."""
        return [factor for own in self.layers for layer in own if layer for factor in (layer.down, layer.up)]

    def with_factors(self, dtype: torch.dtype, factors: Sequence[Tensor]) -> list[list[Linear]]:
        """Each block's linears beside the factors given, in this dtype."""
        left = iter([factor.to(dtype) for factor in factors])
        pairs = [[(next(left), next(left)) if layer else None for layer in own] for own in self.layers]
        return [block.with_factors(own) for block, own in zip(self.blocks, pairs, strict=True)]

    def __call__(
        self, hidden: Float[Tensor, "rows seq hidden"], read: Int[Tensor, " read"], gains: Float[Tensor, "rows slots"]
    ) -> Float[Tensor, "read hidden"]:
        """The decoder's last hidden state at some tokens, numbered row by row, from what enters the split.

        Args:
            gains: of each row, what each slot of each linear counts.
        """
        rows, seq, size = hidden.shape
        one, places = self.blocks[0], torch.arange(seq, device=hidden.device).unsqueeze(0)
        cos, sin = (table[0] for table in self.decoder.rotary_emb(hidden, places))
        sin = torch.cat((-sin[:, : sin.shape[1] // 2], sin[:, sin.shape[1] // 2 :]), 1)
        heads = Heads(rows, seq, one.keys, one.shared, one.scale)
        slots = gains.to(hidden.dtype).repeat_interleave(seq, 0)
        batch = Batch(heads, Rotary(cos, sin), slots, read)
        return self.decoder.norm(_Above.apply(hidden.reshape(-1, size), self, batch, *self.factors))


def blocks_above(
    model: PreTrainedModel, split_layer: int, layers: Mapping[str, MixtureLinear], probe: Int[Tensor, "rows seq"]
) -> Blocks | None:
    """The blocks above the split, where they are built as Llama's and give what the base's own code gives; else None.

    Args:
        layers: the mixtures that learn, by path; every one of them has the same slots.
        probe: token ids that both are asked.
    """
    if model.device.type != "cpu":  # measured on processors alone
        return None
    if not all(map(_like_llama, decoder_layers(model)[split_layer:])) or not _sees_all(model):
        return None
    with torch.no_grad():
        blocks, hidden = Blocks(model, split_layer, layers), lower(model, split_layer, probe)
        slots = next(iter(layers.values())).up.shape[1]
        ours = blocks(
            hidden, torch.arange(probe.numel(), device=probe.device), hidden.new_zeros(len(probe), slots)
        ).float()
        theirs = upper(model, split_layer, hidden).flatten(0, 1).float()
    return blocks if (ours - theirs).norm() <= _NEAR.get(hidden.dtype, 0.0) * theirs.norm() else None


def _like_llama(layer: Any) -> bool:
    """Whether a block has the parts of a Llama block, each of the same kind, and no others."""
    names = {name.removesuffix(".base_layer") for name, _ in layer.named_modules()}
    if names != {*LINEARS, *_OTHERS}:
        return False
    norms = (layer.input_layernorm, layer.post_attention_layernorm)
    return (
        type(layer.mlp.act_fn).__name__ in _SILU
        and all({name for name, _ in norm.named_parameters()} == {"weight"} for norm in norms)
        and all(hasattr(norm, "variance_epsilon") for norm in norms)
        and all(hasattr(layer.self_attn, name) for name in ("head_dim", "scaling"))
    )


def _sees_all(model: PreTrainedModel) -> bool:
    """Whether every layer attends to all that came before, and positions are turned by one table."""
    config, decoder = model.config.get_text_config(decoder=True), model.get_decoder()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None)
    return kinds == {"full_attention"} and not window and hasattr(decoder, "rotary_emb") and hasattr(decoder, "norm")


def _block(layer: Any) -> Block:
    linears = [layer.get_submodule(name) for name in LINEARS]
    plain = tuple(each.base_layer if isinstance(each, MixtureLinear) else each for each in linears)
    norms, size = (layer.input_layernorm, layer.post_attention_layernorm), layer.self_attn.head_dim
    keys = plain[1].out_features // size
    return Block(
        (norms[0].weight, norms[1].weight),
        norms[0].variance_epsilon,
        plain,
        keys,
        plain[0].out_features // size // keys,
        layer.self_attn.scaling,
    )
