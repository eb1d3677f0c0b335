"""Gate: features of a query (or of each token) → logits over the memories and "none"."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

FEATURES = ("embedding", "votes", "hidden")


def mixture_weights(
    probabilities: Float[Tensor, "*batch memories_and_none"], top_k: int
) -> Float[Tensor, "*batch memories"]:
    """The top-k memories' shares of 1 − p_none, 0 for all others."""
    known = probabilities[..., :-1]
    top = known.topk(min(top_k, known.shape[-1]), dim=-1)
    shares = top.values / top.values.sum(-1, keepdim=True).clamp(min=1e-9) * (1 - probabilities[..., -1:])
    return torch.zeros_like(known).scatter(-1, top.indices, shares)


class Gate(nn.Module):
    """logit_m = τ ⟨z, k_m⟩ + α v_m with z = normalise(P · features), and logit_none = b.

    Args:
        keys: [memories, embedding], where the memories' keys start: the means of their facts' embeddings.
        hidden_size: of the base's hidden state at the split.
        features: which of `FEATURES` take part.
    """

    def __init__(
        self, keys: Float[Tensor, "memories embedding"], hidden_size: int, features: tuple[str, ...] = FEATURES[:2]
    ) -> None:
        super().__init__()
        if unknown := sorted(set(features) - set(FEATURES)):
            raise ValueError(f"unknown gate feature {unknown[0]!r}; choose from {list(FEATURES)}")
        dimension = keys.shape[1]
        self.features = tuple(features)
        self.from_embedding = nn.Parameter(torch.eye(dimension))
        # From zero: tokens start from the query's route and learn how to leave it.
        self.from_hidden = nn.Parameter(torch.zeros(dimension, hidden_size if "hidden" in features else 0))
        self.keys = nn.Parameter(functional.normalize(keys.float(), dim=-1))
        self.log_tau = nn.Parameter(torch.tensor(2.3))
        self.vote_weight = nn.Parameter(torch.tensor(10.0))
        self.none = nn.Parameter(torch.tensor(10.0))

    def forward(
        self,
        embedding: Float[Tensor, "*#batch embedding"],
        votes: Float[Tensor, "*#batch memories"],
        hidden: Float[Tensor, "*#batch hidden"] | None = None,
    ) -> Float[Tensor, "*batch memories_and_none"]:
        """Logits over the memories, and none last. With `hidden` for each token, `embedding` and `votes` broadcast."""
        z = functional.linear(embedding, self.from_embedding)
        if "embedding" not in self.features:
            z = torch.zeros_like(z)
        if hidden is not None and "hidden" in self.features:
            z = z + functional.linear(hidden.to(z.dtype), self.from_hidden)
        logits = self.log_tau.exp() * functional.linear(functional.normalize(z, dim=-1), self._unit_keys())
        if "votes" in self.features:
            logits = logits + self.vote_weight * votes
        return torch.cat([logits, self.none.expand(*logits.shape[:-1], 1)], dim=-1)

    def _unit_keys(self) -> Float[Tensor, "memories embedding"]:
        return functional.normalize(self.keys, dim=-1)

    @torch.no_grad()
    def cool(self, temperature: float) -> None:
        """Divides every logit by `temperature` (> 0): the order stays, the probabilities are calibrated."""
        self.log_tau.sub_(math.log(temperature))
        self.vote_weight.div_(temperature)
        self.none.div_(temperature)

    @torch.no_grad()
    def append(self, key: Float[Tensor, " embedding"]) -> None:
        """Adds a memory at the end by its mean fact embedding; no other weight changes."""
        projected = functional.normalize(self.from_embedding @ key.to(self.keys), dim=-1)
        self.keys = nn.Parameter(torch.cat([self.keys, projected[None]]), requires_grad=self.keys.requires_grad)

    @torch.no_grad()
    def keep(self, memories: Int[Tensor, " kept"]) -> None:
        """Keeps only the memories given by number, in that order."""
        self.keys = nn.Parameter(self.keys[memories], requires_grad=self.keys.requires_grad)
