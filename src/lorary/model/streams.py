"""Streams: above the split each memory that a row uses reads all of the row by itself, and what they predict is mixed.

    p(x_{t+1} | x_≤t) = Σ_m g_{t,m} p_m(x_{t+1} | x_≤t)

over the memories and the base; g_t is what the gate decides at token t, and p_m reads every token up to t under m. So a
mixture of experts' predictions (Jacobs et al. 1991; of language models, DEMix, Gururangan et al. 2021, arXiv 2108.05036).
A weighted sum of updates would read each token under another mixture: a memory would attend to keys that others wrote, and
half a memory recalls nothing. A row that one memory answers has one stream, and costs what it costs by query.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional
from transformers.utils import ModelOutput

from lorary.base.rows import hidden_argument
from lorary.model.active_route import current_route

MOST = 8
"""Memories that have a stream of one row, at most: those that were asked for first."""
Output = TypeVar("Output", bound=ModelOutput)
_NOTHING = 1e-9
_UNLIKELY = -1e30
"""The logarithm of no probability: of minus infinity twice the sum has no gradient."""


@dataclass(frozen=True)
class Streams:
    """Who reads which row above the split.

    Args:
        rows: the row of each stream; those of a pass that begins stand row by row, later ones follow.
        memories: the number of each one's memory; the number of memories stands for the base.
        count: how many memories there are.
        batch: how many rows.
        split_layer: the layer from which on each reads by itself.
        shares: what the prediction of each weighs at each token whose prediction is asked for; they sum to 1 in a row.
    """

    rows: Int[Tensor, " streams"]
    memories: Int[Tensor, " streams"]
    count: int
    batch: int
    split_layer: int
    shares: Float[Tensor, "streams tokens"]

    @property
    def weights(self) -> Float[Tensor, "streams 1 memories"]:
        """What each stream applies: its memory as it is, or none."""
        return one_hot(self.memories, self.count)

    @property
    def several(self) -> bool:
        """Whether a row has more than one."""
        return len(self.rows) > self.batch

    def of(self, rows: Int[Tensor, " chosen"]) -> Int[Tensor, " streams"]:
        """The streams of the rows given by number, row by row."""
        owners = self.rows.to(rows.device)
        return torch.cat([(owners == row).nonzero()[:, 0] for row in rows])

    def chosen(self, rows: Int[Tensor, " chosen"]) -> Streams:
        """Those of the rows given by number, which are then the rows in this order."""
        index = self.of(rows).to(self.rows.device)
        sizes = torch.stack([(self.rows == row).sum() for row in rows.to(self.rows.device)])
        numbers = torch.arange(len(rows), device=self.rows.device).repeat_interleave(sizes)
        return replace(self, rows=numbers, memories=self.memories[index], batch=len(rows), shares=self.shares[index])


def one_hot(memories: Int[Tensor, " streams"], count: int) -> Float[Tensor, "streams 1 memories"]:
    """The weights of streams that apply a memory each, the base where its number is `count`."""
    return functional.one_hot(memories, count + 1)[:, None, :-1].float()


def missing(
    shares: Float[Tensor, "batch tokens memories_and_base"], real: Bool[Tensor, "batch tokens"], before: Streams | None
) -> list[tuple[int, int]]:
    """(row, memory) of the streams that a pass needs and that are not open, row by row, memories in the order of their need.

    A row has at most `MOST` memories. The base reads, too, where a token would have none of its memories.

    Args:
        real: False for padding, which needs none.
    """
    base = shares.shape[-1] - 1
    known = {*pairs_of(before)}
    asked = (shares > 0) & real.unsqueeze(-1)
    first = asked.long().argmax(1).tolist()
    new: list[tuple[int, int]] = []
    for row, used in enumerate(asked.any(1).tolist()):
        order = sorted((memory for memory in range(base) if used[memory]), key=lambda memory: first[row][memory])
        own = [memory for memory in range(base) if (row, memory) in known]
        opened = [memory for memory in order if memory not in own][: max(0, MOST - len(own))]
        unread = (shares[row][:, [*own, *opened]].sum(-1) <= _NOTHING) & real[row]
        if (used[base] or bool(unread.any()) or not (own or opened)) and (row, base) not in known:
            opened.append(base)
        new += [(row, memory) for memory in opened]
    return new


def with_shares(
    pairs: Sequence[tuple[int, int]], split_layer: int, shares: Float[Tensor, "batch tokens memories_and_base"]
) -> Streams:
    """The streams of a pass: (row, memory) of each, and its share of each token among those of its row.

    What has no stream leaves its share to those that have. Where none has a share, the base's stream has all, or, of padding,
    the row's first.
    """
    device, base = shares.device, shares.shape[-1] - 1
    rows, memories = (torch.tensor(each, device=device) for each in zip(*pairs, strict=True))
    own, is_base = shares[rows, :, memories], memories == base
    whole = own.new_zeros(shares.shape[:2]).index_add_(0, rows, own)[rows]
    with_base = torch.zeros(len(shares), dtype=torch.bool, device=device).index_fill_(0, rows[is_base], True)[rows]
    alone = torch.where(with_base, is_base, _places(rows) == 0).to(own.dtype)[:, None].expand_as(own)
    own = torch.where(whole > _NOTHING, own / whole.clamp(min=_NOTHING), alone)
    return Streams(rows, memories, base, len(shares), split_layer, own)


def pairs_of(streams: Streams | None) -> list[tuple[int, int]]:
    """(row, memory) of each."""
    return [] if streams is None else list(zip(streams.rows.tolist(), streams.memories.tolist(), strict=True))


def mixed(
    logits: Float[Tensor, "streams tokens vocabulary"], streams: Streams
) -> Float[Tensor, "batch tokens vocabulary"]:
    """ln Σ_m g_m softmax(ℓ_m) + Σ_m g_m ln Σ exp ℓ_m of each token; where one stream has the whole share, its logits.

    The second sum is the same for the whole vocabulary: it gives what is mixed the scale of what is not.
    """
    if not streams.several:
        return logits
    rows, shares = streams.rows.to(logits.device), streams.shares.to(logits.device).unsqueeze(-1)
    place = _places(rows)
    whole = logits.new_full((streams.batch, *logits.shape[1:]), _UNLIKELY, dtype=torch.float32)
    scale = whole.new_zeros(*whole.shape[:2], 1)
    for number in range(int(place.max()) + 1):
        at = place == number
        said, share = logits[at].float(), shares[at]
        size = said.logsumexp(-1, keepdim=True)
        told = torch.where(share > 0, said - size + share.clamp(min=_NOTHING).log(), _UNLIKELY)
        whole = whole.index_copy(0, rows[at], torch.logaddexp(whole[rows[at]], told))
        scale = scale.index_add(0, rows[at], share * size)
    stream, token = (shares[..., 0] == 1).nonzero(as_tuple=True)
    return (whole + scale).to(logits.dtype).index_put((rows[stream], token), logits[stream, token])


def mix(
    output: Output, streams: Streams, base: Any, labels: Int[Tensor, "batch seq"] | None = None, **kwargs: Any
) -> Output:
    """The output of a base over streams as one over rows, with the loss of the mixed predictions.

    Hidden states and attentions above the split are those of the stream that weighs most at a row's last token.
    """
    changed: dict[str, Any] = {"logits": mixed(output["logits"], streams)}
    if labels is not None:
        size = base.config.get_text_config().vocab_size
        changed["loss"] = base.loss_function(logits=changed["logits"], labels=labels, vocab_size=size, **kwargs)
    names = [name for name in ("hidden_states", "attentions") if streams.several and output.get(name) is not None]
    if names:
        last = streams.shares[:, -1]
        own = [streams.of(row) for row in torch.arange(streams.batch).split(1)]
        heaviest = torch.stack([these[last[these].argmax()] for these in own])
        for name in names:
            changed[name] = tuple(each[heaviest] if len(each) > streams.batch else each for each in output[name])
    return type(output)(**{**output, **changed})


def _places(rows: Int[Tensor, " streams"]) -> Int[Tensor, " streams"]:
    """The place of each stream among those of its row, from 0."""
    return (rows[:, None] == rows[None]).tril(-1).sum(-1)


def widen(
    layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """The hook before each layer from the split on: every stream has the mask and the positions of its row."""
    route = current_route()
    if route is None or route.streams is None or not route.streams.several:
        return None
    rows, batch = route.streams.rows, route.streams.batch

    def wide(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value[rows.to(value.device)] if value.ndim > 1 and len(value) == batch else value
        if isinstance(value, dict):
            return {name: wide(own) for name, own in value.items()}
        return tuple(map(wide, value)) if isinstance(value, tuple) else value

    hidden = hidden_argument(args, kwargs)
    entering = len(hidden) == batch
    others = {name: wide(value) for name, value in kwargs.items() if name != "hidden_states"}
    if args:
        return (wide(hidden) if entering else hidden, *map(wide, args[1:])), others
    return (), {"hidden_states": wide(hidden) if entering else hidden, **others}


widen.belongs_to_composite = True  # type: ignore[attr-defined]
