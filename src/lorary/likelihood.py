"""How likely an answer was to the model that gave it: a fact that was learned comes surely, one that is made up does not."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LogitsProcessor


class Likelihood(LogitsProcessor):
    """Watches `generate` choose tokens, and tells how likely they were together.

    Pass it in `logits_processor`, to one call. It keeps one step's log-probabilities, not all of them as `output_scores`
    would, and follows rows, so it cannot tell of beams, which change places.

    Args:
        ends: the tokens that end a turn; what follows the first of them fills the row of a batch and is not counted.
    """

    def __init__(self, ends: int | Sequence[int] | None) -> None:
        self.ends = torch.tensor(ends if ends is not None else []).reshape(-1)
        self._last: Tensor | None = None
        self._sum, self._count, self._open = (torch.zeros(0) for _ in range(3))

    def __call__(
        self, input_ids: Int[Tensor, "batch seq"], scores: Float[Tensor, "batch vocabulary"]
    ) -> Float[Tensor, "batch vocabulary"]:
        if self._last is None:
            self._sum, self._count, self._open = scores.new_zeros(3, len(scores)).unbind()
            self._open = self._open + 1
        else:
            self._take(input_ids[:, -1])
        self._last = scores.float().log_softmax(-1)
        return scores

    def _take(self, chosen: Int[Tensor, " batch"]) -> None:
        assert self._last is not None
        self._sum = self._sum + self._open * self._last.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
        self._count = self._count + self._open
        self._open = self._open * ~torch.isin(chosen, self.ends.to(chosen.device))

    def probabilities(self, output: Int[Tensor, "batch seq"]) -> list[float]:
        """The geometric mean of the probabilities of each row's tokens, the end of its turn included, 0 to 1.

        A mean over tokens, so that a long answer is not the less sure for being long (length normalisation; Malinin and
        Gales 2021, arXiv 2002.07650). Without a token it is 1.

        Args:
            output: what `generate` returned; its last token is yet to be counted.
        """
        if self._last is None:
            return [1.0] * len(output)
        self._take(output[:, -1])
        self._last = None
        return (self._sum / self._count.clamp(min=1)).exp().tolist()
