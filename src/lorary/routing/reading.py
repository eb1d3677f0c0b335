"""Reading: what a gate adds where it decides at each token, from the hidden state there and from the parts of the question."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from lorary.routing.features import Sums

PARTS = 4
"""Parts of a question that are told apart; a later one counts as the last of these."""
_LEAST = 1e-9
"""Of a probability, so that it has a logarithm."""
WINDOW = 8
"""Tokens that the mean beside a token's own hidden state looks back on."""


class Reading(nn.Module):
    """p_t = Σ_p β_{t,p} softmax(ℓ_p) + β_{t,0} softmax(W u_t + b), with β_t = softmax(V u_t + c).

    ℓ_p is what the gate says of part p of the question, over the memories and none. Probabilities are mixed, not their
    logarithms: of two sure parts those would leave "none" the likeliest, as all that neither rules out. β_t tells which
    part token t belongs to, or answers: it knows no memory, so what one bank's questions teach holds for all. Where it
    points at none of them (β_{t,0}), the text so far tells the memory. u_t is the hidden state at the split and its mean
    over the last tokens (`window_state`), less its mean over what was trained on and divided by its spread there, value
    by value.

    A memory that joins has no row in W: it is reached by parts alone until the gate is trained again.
    """

    def __init__(self, memories: int, hidden_size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(2 * hidden_size))
        self.register_buffer("spread", torch.ones(2 * hidden_size))
        self.mean: Tensor
        self.spread: Tensor
        self.point = nn.Parameter(torch.zeros(PARTS + 1, 2 * hidden_size))
        self.point_bias = nn.Parameter(torch.tensor([0.0, 2.0, *[0.0] * (PARTS - 1)]))
        self.tell = nn.Parameter(torch.zeros(memories + 1, 2 * hidden_size))
        self.tell_bias = nn.Parameter(torch.zeros(memories + 1))

    def apart(self, state: Float[Tensor, "batch seq state"]) -> Float[Tensor, "batch seq state"]:
        """u: what tells one state from others."""
        return (state - self.mean) / self.spread

    def pointer(self, state: Float[Tensor, "batch seq state"]) -> Float[Tensor, "batch seq parts_and_text"]:
        """The logits of β: of the text itself, then of each part."""
        return functional.linear(self.apart(state), self.point, self.point_bias)

    def told(self, state: Float[Tensor, "batch seq state"]) -> Float[Tensor, "batch seq memories_and_none"]:
        """What the text so far tells at each token, as logits over the memories and none."""
        return functional.linear(self.apart(state), self.tell, self.tell_bias)

    def forward(
        self, parts: Float[Tensor, "batch parts memories_and_none"], state: Float[Tensor, "batch seq state"]
    ) -> Float[Tensor, "batch seq memories_and_none"]:
        """The logarithms of p over the memories and none at each token."""
        shares = self.pointer(state).softmax(-1)
        mixed = shares[..., :1] * self.told(state).softmax(-1) + shares[..., 1:] @ parts.softmax(-1)
        return mixed.clamp(min=_LEAST).log()

    @torch.no_grad()
    def append(self) -> None:
        """Adds a memory at the end, of which the text tells nothing."""
        rows = torch.cat([self.tell[:-1], torch.zeros_like(self.tell[:1]), self.tell[-1:]])
        least = self.tell_bias.min()[None]
        self._set(rows, torch.cat([self.tell_bias[:-1], least, self.tell_bias[-1:]]))

    @torch.no_grad()
    def keep(self, memories: Int[Tensor, " kept"]) -> None:
        """Keeps only the memories given by number, in that order, and none."""
        kept = torch.cat([memories.to(self.tell.device), torch.tensor([len(self.tell) - 1], device=self.tell.device)])
        self._set(self.tell[kept], self.tell_bias[kept])

    def _set(self, tell: Tensor, bias: Tensor) -> None:
        self.tell = nn.Parameter(tell, requires_grad=self.tell.requires_grad)
        self.tell_bias = nn.Parameter(bias, requires_grad=self.tell_bias.requires_grad)


def window_state(
    hidden: Float[Tensor, "batch seq hidden"],
    counted: Float[Tensor, "batch seq"],
    before: Sums | None = None,
    window: int = WINDOW,
) -> tuple[Float[Tensor, "batch seq state"], tuple[Float[Tensor, "batch all hidden"], Float[Tensor, "batch all"]]]:
    """(each token's normalised hidden state beside the mean of those of the last `window` counted tokens, all sums so far).

    Args:
        before: the sums up to each token before these, as an earlier call gave them.
    """
    own = functional.normalize(hidden.float(), dim=-1) * counted.unsqueeze(-1)
    total, count = own.cumsum(1), counted.cumsum(1)
    seen = 0
    if before is not None:
        seen = before[0].shape[1]
        total = torch.cat([before[0], total + before[0][:, -1:]], 1)
        count = torch.cat([before[1], count + before[1][:, -1:]], 1)
    behind = [functional.pad(total, (0, 0, window, 0)), functional.pad(count, (window, 0))]
    sums, counts = total - behind[0][:, : total.shape[1]], count - behind[1][:, : count.shape[1]]
    mean = sums / counts.clamp(min=1).unsqueeze(-1)
    return torch.cat([own, mean[:, seen:]], -1), (total, count)
