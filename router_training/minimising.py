"""The one way in which few weights are fitted: L-BFGS to the end, on all queries at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def minimise(weights: Sequence[Tensor], loss: Callable[[], Tensor]) -> None:
    """Moves the weights in place to where the loss is least (Liu and Nocedal 1989); they require gradients."""
    optimizer = torch.optim.LBFGS(list(weights), max_iter=200, line_search_fn="strong_wolfe")

    def step() -> Tensor:
        optimizer.zero_grad()
        error = loss()
        error.backward()
        return error

    with torch.enable_grad():
        optimizer.step(step)
