"""The tokens that an answer's are told from in a step: the answers' own, and a fresh sample of all others.

A softmax over the whole vocabulary is a quarter of a small base's step. Over a uniform sample the loss is near to the same
where the others' logits are raised by log(others / sampled) (Bengio and Senécal 2008, "Adaptive importance sampling").
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class SampledVocabulary:
    """Losses over some of a vocabulary.

    Args:
        wanted: tokens that are labels; always among those compared.
        size: tokens of the vocabulary.
        sampled: how many of the others each draw holds, with repeats; None, or as many as there are: all, each once.
        generator: what draws.
    """

    def __init__(self, wanted: Iterable[int], size: int, sampled: int | None, generator: torch.Generator) -> None:
        self.wanted = torch.tensor(sorted(set(wanted)), dtype=torch.long)
        others = torch.ones(size, dtype=torch.bool)
        others[self.wanted] = False
        self.others = others.nonzero()[:, 0]
        self.sampled = None if sampled is None or sampled >= len(self.others) else sampled
        self._generator = generator

    def draw(self) -> Int[Tensor, " tokens"] | None:
        """The tokens that a step compares, those wanted first; None for the whole vocabulary in its own order."""
        if self.sampled is None:
            return None
        drawn = torch.randint(len(self.others), (self.sampled,), generator=self._generator)
        return torch.cat([self.wanted, self.others[drawn]])

    def losses(
        self, logits: Float[Tensor, "labels tokens"], labels: Int[Tensor, " labels"]
    ) -> Float[Tensor, " labels"]:
        """The cross-entropy of each label among the tokens of a draw, as an estimate of that among all."""
        if self.sampled is None:
            return nn.functional.cross_entropy(logits, labels, reduction="none")
        raised = torch.full((logits.shape[1],), math.log(len(self.others) / self.sampled), device=logits.device)
        raised[: len(self.wanted)] = 0.0
        places = torch.searchsorted(self.wanted.to(labels.device), labels)
        return nn.functional.cross_entropy(logits + raised, places, reduction="none")
