"""Vectors of sentences, each worked out once: a run's routers all meet the same questions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from lorary.base.loading import Base
from lorary.base.rows import default_split
from lorary.router_training.queries import Read
from lorary.routing.pooling import pooled_prompts


class Remembered:
    """An encoder that gives what a function works out, and works each sentence out once.

    Args:
        work_out: sentences → vectors of `dimension` numbers.
        name: of the encoder, where it is one that a bank can name.
    """

    def __init__(self, work_out: Read, dimension: int, name: str = "") -> None:
        self.work_out, self.dimension, self.name = work_out, dimension, name
        self._known: dict[str, Tensor] = {}

    def encode(self, sentences: Sequence[str]) -> Float[Tensor, "sentences dimension"]:
        """The vectors of sentences, in their order."""
        new = [sentence for sentence in dict.fromkeys(sentences) if sentence not in self._known]
        self._known.update(zip(new, self.work_out(new), strict=True))
        return torch.stack([self._known[s] for s in sentences]) if sentences else torch.zeros(0, self.dimension)


def hidden_states(base: Base | None) -> Remembered:
    """What a gate reads of a base's hidden state at the split, of questions; vectors of no size where there is no base."""
    if base is None:
        return Remembered(lambda sentences: torch.zeros(len(sentences), 0), 0)
    reads = partial(pooled_prompts, base.model, base.tokenizer, default_split(base.model))
    return Remembered(reads, base.model.config.get_text_config().hidden_size)
