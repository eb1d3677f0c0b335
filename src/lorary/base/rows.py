"""The base in two parts, below and above `split_layer`, and rows of prompt and answer that run each part once.

What lies below the split no memory touches, so it runs once a row; logits stand only at the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.rnn import pad_sequence

from lorary.base.layers import decoder_layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.cache_utils import Cache

_ADAPTED = 10
"""Layers that memories adapt by default at least, where the base has twice as many."""


def default_split(model: PreTrainedModel) -> int:
    """The first layer that memories adapt by default: two thirds up, but ten layers are adapted, or half of a base that has
    fewer than twenty.

    Of SmolLM2-135M memories in fewer layers recall less (docs/results/writing.md), and so it is of Gemma 3 270M, whose upper
    third is six layers (docs/results/second-base.md). Below that, more layers cost time.
    """
    layers = int(model.config.get_text_config().num_hidden_layers)
    return min(2 * layers // 3, max(layers // 2, layers - _ADAPTED))


class _Reached(Exception):
    """Ends a forward pass at the split; carries the hidden state that enters it."""

    def __init__(self, hidden: Tensor) -> None:
        self.hidden = hidden


def hidden_argument(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """The hidden state among a decoder layer's arguments, [batch, seq, hidden]."""
    return args[0] if args else kwargs["hidden_states"]


def positions(attention_mask: Int[Tensor, "batch seq"]) -> Int[Tensor, "batch seq"]:
    """The position of each token; padding, on either side, counts for none."""
    return (attention_mask.cumsum(-1) - 1).clamp(min=0)


@torch.no_grad()
def lower(
    model: PreTrainedModel,
    split_layer: int,
    input_ids: Int[Tensor, "batch seq"],
    attention_mask: Int[Tensor, "batch seq"] | None = None,
    cache: Cache | None = None,
) -> Float[Tensor, "batch seq hidden"]:
    """The hidden state that enters layer `split_layer`; nothing above it runs.

    Args:
        attention_mask: 0 for padding; positions count the tokens that are none.
        cache: gets the keys and values of the layers that run.
    """

    def stop(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        raise _Reached(hidden_argument(args, kwargs))

    handle = decoder_layers(model)[split_layer].register_forward_pre_hook(stop, with_kwargs=True)
    try:
        given: dict[str, Any] = {
            "attention_mask": attention_mask,
            "past_key_values": cache,
            "use_cache": cache is not None,
        }
        if attention_mask is not None:
            given["position_ids"] = positions(attention_mask)
        model.get_decoder()(input_ids=input_ids, **given)
    except _Reached as reached:
        return reached.hidden
    finally:
        handle.remove()
    raise AssertionError("the forward pass never reached the split")


@contextmanager
def skipped(layers: list[nn.Module]) -> Iterator[None]:
    """Lets `layers` pass their input through, keeping every attribute that the model reads of them."""
    for layer in layers:
        layer.forward = lambda *args, **kwargs: hidden_argument(args, kwargs)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def upper(
    model: PreTrainedModel, split_layer: int, hidden: Float[Tensor, "batch seq hidden"]
) -> Float[Tensor, "batch seq hidden"]:
    """The decoder's last hidden state, from the hidden state that enters `split_layer`."""
    with skipped(list(decoder_layers(model)[:split_layer])):
        return model.get_decoder()(inputs_embeds=hidden, use_cache=False).last_hidden_state


Above = Callable[[Tensor, Tensor], Tensor]
"""([rows, seq, hidden] that enters the split, tokens numbered row by row) → their last hidden state, [tokens, hidden]."""


@runtime_checkable
class TokenRow(Protocol):
    """One row of tokens: `ids[start:]` is what is to be predicted."""

    @property
    def ids(self) -> tuple[int, ...]: ...

    @property
    def start(self) -> int: ...


_WIDTHS, _LABELS = 4, 16
"""Batches are padded to such multiples: a product of a shape that a CPU's library has not met yet compiles code for it first,
which takes as long as two to fifteen products of a known shape (bf16; `findings/`)."""


def rounded(count: int, multiple: int) -> int:
    """The least multiple that is not below a count."""
    return -(-count // multiple) * multiple


def pad(batch: Sequence[TokenRow], pad_id: int) -> tuple[Int[Tensor, "batch seq"], Int[Tensor, "batch seq"]]:
    """Right-padded ids and labels; a label is the *next* token where that token is part of the answer, else -100.

    Right padding needs no attention mask: what follows a token cannot reach it.
    """
    width = rounded(max(len(row.ids) for row in batch) - 1, _WIDTHS)
    ids = torch.full((len(batch), width), pad_id)
    labels = torch.full((len(batch), width), -100)
    for i, row in enumerate(batch):
        known = torch.tensor(row.ids)
        ids[i, : len(known) - 1] = known[:-1]
        labels[i, row.start - 1 : len(known) - 1] = known[row.start :]
    return ids, labels


def _head(
    model: PreTrainedModel, last: Float[Tensor, "labels hidden"], tokens: Int[Tensor, " tokens"] | None
) -> Float[Tensor, "labels tokens"]:
    """The logits of some tokens of the vocabulary, or of all."""
    head = model.get_output_embeddings()
    if tokens is None:
        return head(last)
    tokens = tokens.to(last.device)
    return nn.functional.linear(last, head.weight[tokens], None if head.bias is None else head.bias[tokens])


class SplitRows:
    """Rows with their hidden state at the split: run when first asked for, then kept (rows · tokens · hidden values).

    Args:
        model: a base, with mixtures or without, none of them below `split_layer`.
        known: the hidden state of rows by their tokens (another's `hidden`); these are not run again.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        split_layer: int,
        rows: Sequence[TokenRow],
        pad_id: int,
        known: Mapping[tuple[int, ...], Tensor] | None = None,
    ) -> None:
        self.model, self.split_layer, self.rows, self.pad_id = model, split_layer, rows, pad_id
        stand = {i: known.get(row.ids) for i, row in enumerate(rows)} if known else {}
        self._hidden = {i: state for i, state in stand.items() if state is not None}

    @property
    def hidden(self) -> dict[tuple[int, ...], Float[Tensor, "seq hidden"]]:
        """The hidden state at the split of each row that was run, by the row's tokens."""
        return {self.rows[i].ids: state for i, state in self._hidden.items()}

    def keep(self, chunk: Sequence[int]) -> None:
        """Runs the layers below the split for those of the rows given by number that have not been run."""
        new = [i for i in chunk if i not in self._hidden]
        if not new:
            return
        ids, _ = pad([self.rows[i] for i in new], self.pad_id)
        states = lower(self.model, self.split_layer, ids.to(self.model.device))
        for i, state in zip(new, states, strict=True):
            self._hidden[i] = state[: len(self.rows[i].ids) - 1].clone()

    def logits(
        self, chunk: Sequence[int], tokens: Int[Tensor, " tokens"] | None = None, above: Above | None = None
    ) -> tuple[Float[Tensor, "labels tokens"], Int[Tensor, " labels"], Int[Tensor, " labels"]]:
        """(logits where there is a label, those labels, the place in `chunk` of each), under the route that is set.

        Args:
            tokens: those of the vocabulary whose logits are computed, in this order; None: all.
            above: what runs in place of the base's own code above the split.
        """
        self.keep(chunk)
        labels = pad([self.rows[i] for i in chunk], self.pad_id)[1]
        states = pad_sequence([self._hidden[i] for i in chunk], batch_first=True)
        hidden = nn.functional.pad(states, (0, 0, 0, labels.shape[1] - states.shape[1]))
        labels = labels.to(hidden.device)
        row, column = (labels != -100).nonzero(as_tuple=True)
        wanted = row * labels.shape[1] + column
        read = nn.functional.pad(wanted, (0, rounded(len(wanted), _LABELS) - len(wanted)))
        if above is not None:
            last = above(hidden, read)
        else:
            # Rows are short: on a CPU the fused kernel's backward pass takes a sixth of a step, plain products almost none.
            with sdpa_kernel(SDPBackend.MATH):
                last = upper(self.model, self.split_layer, hidden).flatten(0, 1)[read]
        return _head(self.model, last, tokens)[: len(wanted)].float(), labels[row, column], row
