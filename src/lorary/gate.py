"""Gate: features of a query (or of each token) → logits over the memories and "none"."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

FEATURES = ("facts", "embedding", "votes", "hidden")
DEFAULT_FEATURES = ("embedding", "votes")  # the best on validation wordings of `lorary route-bench`
TOKEN_FEATURES = ("embedding", "votes", "hidden")


def mixture_weights(
    probabilities: Float[Tensor, "*batch memories_and_none"], top_k: int, top_p: float = 1.0
) -> Float[Tensor, "*batch memories"]:
    """The best memories' shares of 1 − p_none, 0 for all others.

    The best are the fewest that together have at least `top_p` of what is not none, and at most `top_k`
    (nucleus; Holtzman et al. 2020, arXiv 1904.09751).
    """
    known = probabilities[..., :-1]
    top = known.topk(min(top_k, known.shape[-1]), dim=-1)
    before = top.values.cumsum(-1) - top.values
    kept = before < top_p * known.sum(-1, keepdim=True)
    values = torch.where(kept, top.values, 0.0)
    shares = values / values.sum(-1, keepdim=True).clamp(min=1e-9) * (1 - probabilities[..., -1:])
    return torch.zeros_like(known).scatter(-1, top.indices, shares)


def evidence(
    scores: Float[Tensor, "queries wordings"],
    owner: Int[Tensor, "queries wordings"],
    memories: int,
    floor: Float[Tensor, "queries 1"] | None = None,
) -> Float[Tensor, "queries memories"]:
    """log Σ exp(score) over each memory's wordings: a kernel vote (Goldberger et al. 2004, NCA).

    Args:
        owner: the memory of each wording.
        floor: where only the nearest wordings are given, the last one's score; no memory has less.
    """
    top = scores.amax(-1, keepdim=True).detach()
    floor = torch.full_like(top, -30.0) + top if floor is None else floor
    shares = (scores - top).exp()
    return (
        torch.zeros(len(scores), memories).to(shares).scatter_add(1, owner, shares) + (floor - top).exp()
    ).log() + top


class Gate(nn.Module):
    """logit_m = ω · log Σ_f exp(σ ⟨P e, P e_f⟩) + τ ⟨z, k_m⟩ + α v_m with z = normalise(P e + H h), logit_none = b.

    The first term compares the question with every fact in a learned space; the second with a key a memory; each term
    is there if its feature is.

    Args:
        keys: [memories, embedding], where the memories' keys start: the means of their facts' embeddings.
        hidden_size: of the base's hidden state at the split.
        features: which of `FEATURES` take part.
    """

    def __init__(
        self, keys: Float[Tensor, "memories embedding"], hidden_size: int, features: tuple[str, ...] = DEFAULT_FEATURES
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
        self.log_sigma = nn.Parameter(torch.tensor(3.0))
        self.fact_weight = nn.Parameter(torch.tensor(1.0))
        self.vote_weight = nn.Parameter(torch.tensor(10.0))
        self.none = nn.Parameter(torch.tensor(10.0))
        # The router sets it: embeddings → evidence from the facts, which the gate itself does not hold.
        self.ask_facts: Callable[[Tensor], Tensor] | None = None

    def forward(
        self,
        embedding: Float[Tensor, "*#batch embedding"],
        votes: Float[Tensor, "*#batch memories"],
        hidden: Float[Tensor, "*#batch hidden"] | None = None,
        facts: Float[Tensor, "*#batch memories"] | None = None,
    ) -> Float[Tensor, "*batch memories_and_none"]:
        """Logits over the memories, and none last. With `hidden` for each token, the others broadcast.

        Args:
            facts: the evidence from the facts; the router is asked for it where it is None.
        """
        logits = torch.zeros_like(votes)
        if "facts" in self.features:
            if facts is None:
                assert self.ask_facts is not None, "a gate with the feature 'facts' needs a router"
                facts = self.ask_facts(embedding)
            logits = logits + self.fact_weight * facts
        if {"embedding", "hidden"} & set(self.features):
            z = torch.zeros_like(embedding)
            if "embedding" in self.features:
                z = functional.linear(embedding, self.from_embedding)
            if hidden is not None and "hidden" in self.features:
                z = z + functional.linear(hidden.to(z.dtype), self.from_hidden)
            keys = functional.normalize(self.keys, dim=-1)
            logits = logits + self.log_tau.exp() * functional.linear(functional.normalize(z, dim=-1), keys)
        if "votes" in self.features:
            logits = logits + self.vote_weight * votes
        return torch.cat([logits, self.none.expand(*logits.shape[:-1], 1)], dim=-1)

    def parts_of(self, feature: str) -> tuple[nn.Parameter, ...]:
        """The weights that a feature uses."""
        parts: dict[str, tuple[nn.Parameter, ...]] = {
            "facts": (self.from_embedding, self.log_sigma, self.fact_weight),
            "embedding": (self.from_embedding, self.keys, self.log_tau),
            "votes": (self.vote_weight,),
            "hidden": (self.from_hidden, self.keys, self.log_tau),
        }
        return parts[feature]

    def project(self, embedding: Float[Tensor, "*batch embedding"]) -> Float[Tensor, "*batch embedding"]:
        """P e, normalised: where the gate compares questions with facts."""
        return functional.normalize(functional.linear(embedding, self.from_embedding), dim=-1)

    def evidence(
        self,
        embedding: Float[Tensor, "queries embedding"],
        keys: Float[Tensor, "wordings embedding"],
        owner: Int[Tensor, " wordings"],
        leave_out: Bool[Tensor, "queries wordings"],
        memories: int,
    ) -> Float[Tensor, "queries memories"]:
        """The evidence from the wordings given, with gradients, for training: `leave_out` hides some from a query."""
        scores = self.log_sigma.exp() * self.project(embedding) @ self.project(keys).T
        return evidence(scores.masked_fill(leave_out, -1e4), owner.expand_as(scores), memories)

    @torch.no_grad()
    def cool(self, temperature: float) -> None:
        """Divides every logit by `temperature` (> 0): the order stays, the probabilities are calibrated."""
        self.log_tau.sub_(math.log(temperature))
        for weight in (self.fact_weight, self.vote_weight, self.none):
            weight.div_(temperature)

    @torch.no_grad()
    def append(self, key: Float[Tensor, " embedding"]) -> None:
        """Adds a memory at the end by its mean fact embedding; no other weight changes."""
        projected = self.project(key.to(self.keys))
        self.keys = nn.Parameter(torch.cat([self.keys, projected[None]]), requires_grad=self.keys.requires_grad)

    @torch.no_grad()
    def keep(self, memories: Int[Tensor, " kept"]) -> None:
        """Keeps only the memories given by number, in that order."""
        self.keys = nn.Parameter(self.keys[memories], requires_grad=self.keys.requires_grad)
