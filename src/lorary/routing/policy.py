"""The policy: gate → index → none, with or without passages in the prompt. Scores become a route."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lorary.errors import LoraryError
from lorary.routing.mixing import AT_TOKEN, EQUAL, LEAST_AT_TOKEN, NONE_AT_TOKEN, mixture_weights
from lorary.tables import counted

SOURCES = ("none", "gate", "index", "caller", "lookup")
DECIDERS = ("gate", "index")
OUTCOMES = ("memory", "hybrid", "passages", "base", "lookup")
"""What an answer can come from: a memory; a memory and passages in the prompt; passages alone; the base alone; the stored
answer of the nearest fact."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What turns scores into a route, and whether passages stand in the prompt.

    Its switches give the `OUTCOMES`: without `sources` no memory answers, with `passages` the prompt holds what the index
    finds (`passages.with_passages` puts them there; `generate` takes tokens and leaves them as they are), with `lookup` a
    stored answer is given where it is likelier to be right than the memory's (`answering.sources`; `generate` gives none).

    Args:
        t_gate: the gate decides where what it mixes has at least this probability, together: a question on two topics
            parts it between two memories.
        t_index: else the index decides where its best similarity is at least this; else none.
        top_k: memories that the gate may mix at most.
        top_p: it mixes the fewest that together have this share of its probability of any memory.
        whole: the weights of what it mixes sum to 1, since the threshold has decided against none and a part of a memory
            recalls nothing; else to 1 − p_none. Training sets it for routes of whole queries. Composites that were saved
            before it keep the weights that they had.
        sources: which deciders are asked, of "gate" and "index"; with neither, no memory takes part.
        passages: how many of the index's passages stand in the prompt.
        lookup: whether the stored answer of the nearest fact may be given, where the composite is calibrated for it.
        t_exchange: from this similarity on, `ask` puts a question to its memory in the nearest trained wording: where sources
            are not weighed (an answer is streamed, the composite is not calibrated for it), and, with `lookup` off, where a
            stored answer would be given. None: never. `generate` never does, nor `ask` where a caller names memories.

    Raises:
        LoraryError: an unknown decider, or a number of passages below 0.
    """

    t_gate: float = 0.5
    t_index: float = 0.8
    top_k: int = 1
    top_p: float = 1.0
    whole: bool = False
    sources: tuple[str, ...] = DECIDERS
    passages: int = 0
    lookup: bool = True
    t_exchange: float | None = None

    def __post_init__(self) -> None:
        if unknown := sorted({*self.sources} - {*DECIDERS}):
            raise LoraryError(f"the policy cannot ask {unknown[0]!r}; choose from {list(DECIDERS)}, or neither")
        if self.passages < 0:
            raise LoraryError(f"{self.passages} passages cannot stand in a prompt; give 0 or more")

    def __str__(self) -> str:
        thresholds = {"gate": self.t_gate, "index": self.t_index}
        asked = [f"{decider} from {thresholds[decider]:.3g}" for decider in DECIDERS if decider in self.sources]
        passages = f", with {counted(self.passages, 'passage')}" if self.passages else ""
        return ", else ".join([*asked, "the base"]) + passages


@dataclass(frozen=True)
class Route:
    """The decision for one query: memories with their weights, who decided, how sure, and passages in the prompt.

    Args:
        right: the calibrated probability that the answer is right (`answering.sources`); None where nothing was judged.
    """

    memories: tuple[str, ...]
    weights: tuple[float, ...]
    source: str
    confidence: float
    passages: int = 0
    right: float | None = None

    @property
    def outcome(self) -> str:
        """What the answer comes from, of `OUTCOMES`."""
        memory, hybrid, passages, base, lookup = OUTCOMES
        if self.source == lookup:
            return lookup
        if self.memories:
            return hybrid if self.passages else memory
        return passages if self.passages else base

    def __str__(self) -> str:
        held = ", ".join(f"{name} ({weight:.2f})" for name, weight in zip(self.memories, self.weights, strict=True))
        told = f"{held or 'none'} by {self.source}, confidence {self.confidence:.2f}"
        told += f", right with probability {self.right:.2f}" if self.right is not None else ""
        return f"{told}; {self.outcome}, {self.passages} in the prompt" if self.passages else told


@dataclass(frozen=True)
class Decision:
    """Routes as tensors, for a batch of queries or of tokens."""

    weights: Float[Tensor, "*batch memories"]
    source: Int[Tensor, "*batch"]
    confidence: Float[Tensor, "*batch"]

    def rows(self, index: Int[Tensor, " kept"]) -> Decision:
        """The decisions of the rows given by number."""
        return Decision(self.weights[index], self.source[index], self.confidence[index])

    def routes(self, names: Sequence[str]) -> list[Route]:
        """A route a row, heaviest memory first; of tokens, the last one's."""
        weights, source, confidence = (rows.detach().cpu() for rows in (self.weights, self.source, self.confidence))
        if weights.ndim == 3:
            weights, source, confidence = weights[:, -1], source[:, -1], confidence[:, -1]
        places = weights.nonzero()
        shares: list[list[tuple[float, str]]] = [[] for _ in range(len(weights))]
        for (row, memory), weight in zip(places.tolist(), weights[tuple(places.T)].tolist(), strict=True):
            shares[row].append((weight, names[memory]))
        routes = []
        for heaviest, number, sure in zip(shares, source.tolist(), confidence.tolist(), strict=True):
            heaviest.sort(reverse=True)
            memories, parts = tuple(name for _, name in heaviest), tuple(weight for weight, _ in heaviest)
            routes.append(Route(memories, parts, SOURCES[number] if memories else "none", sure))
        return routes


def mixed_and_sure(
    probabilities: Float[Tensor, "*batch memories_and_none"], policy: Policy
) -> tuple[Float[Tensor, "*batch memories"], Float[Tensor, "*batch"]]:
    """(the weights of the memories that the gate would mix, its probability of them together)."""
    mixed = mixture_weights(probabilities, policy.top_k, policy.top_p)
    if policy.whole:
        mixed = mixed / mixed.sum(-1, keepdim=True).clamp(min=1e-9)
    return mixed, (probabilities[..., :-1] * (mixed != 0)).sum(-1)


def nearest_memory(
    votes: Float[Tensor, "*batch memories"],
) -> tuple[Float[Tensor, "*batch"], Int[Tensor, "*batch"]]:
    """(the best of the index's votes, the memory that has it); 0 where two memories share the best.

    A tie is not a finding: which of the two comes first would tell nothing of the question.
    """
    near, nearest = votes.max(-1)
    shared = (votes > near.unsqueeze(-1) - EQUAL).sum(-1) > 1
    return near.masked_fill(shared, 0.0), nearest


def decide(
    probabilities: Float[Tensor, "*batch memories_and_none"],
    votes: Float[Tensor, "*#batch memories"],
    policy: Policy,
) -> Decision:
    """Gate where it is confident, else index where it is similar enough, else none.

    Neither decides between memories that it cannot tell apart (`mixture_weights`, `nearest_memory`). The confidence is the
    gate's probability of what it mixes, the index's similarity, or the gate's probability of none.
    """
    mixed, best = mixed_and_sure(probabilities, policy)
    near, nearest = nearest_memory(votes.expand_as(probabilities[..., :-1]))
    by_gate = (best >= policy.t_gate) & (best > 0) & ("gate" in policy.sources)
    by_index = (near >= policy.t_index) & (near > 0) & ("index" in policy.sources) & ~by_gate
    one_hot = torch.nn.functional.one_hot(nearest, votes.shape[-1]).to(probabilities.dtype)
    weights = mixed * by_gate.unsqueeze(-1) + one_hot * by_index.unsqueeze(-1)
    confidence = torch.where(by_gate, best, torch.where(by_index, near, probabilities[..., -1]))
    return Decision(weights, by_gate.long() + 2 * by_index.long(), confidence)


def decide_tokens(probabilities: Float[Tensor, "batch seq memories_and_none"], policy: Policy) -> Decision:
    """At each token the likeliest memories by their share, beside the base by that of none (`AT_TOKEN`, `LEAST_AT_TOKEN`); or
    the base alone where none is likely (`NONE_AT_TOKEN`).

    The thresholds of the policy hold for questions, and have been put to them already (`parts.settled`).
    """
    mixed, none = mixture_weights(probabilities, AT_TOKEN), probabilities[..., -1]
    mixed, base = (torch.where(share >= LEAST_AT_TOKEN, share, 0.0) for share in (mixed, none))
    sure = (probabilities[..., :-1] * (mixed != 0)).sum(-1)
    by_gate = (none < NONE_AT_TOKEN) & (sure > 0) & ("gate" in policy.sources)
    weights = mixed / (mixed.sum(-1) + base).clamp(min=1e-9).unsqueeze(-1) * by_gate.unsqueeze(-1)
    return Decision(weights, by_gate.long(), torch.where(by_gate, sure, none))


def by_caller(weights: Float[Tensor, "batch memories"]) -> Decision:
    """The decision of a caller who gives the weights."""
    source = (weights != 0).any(-1).long() * SOURCES.index("caller")
    return Decision(weights, source, torch.ones(len(weights)))


def named_weights(
    adapter_names: Sequence[str], names: Sequence[str], base_name: str = "__base__"
) -> Float[Tensor, "batch memories"]:
    """One-hot weights for a caller's `adapter_names`, a row each; `__base__` is the base alone.

    Raises:
        LoraryError: a name that the bank does not hold.
    """
    weights = torch.zeros(len(adapter_names), len(names))
    for row, name in enumerate(adapter_names):
        if name != base_name:
            if name not in names:
                raise LoraryError(f"topic {name!r} has no memory; the bank holds {list(names)}, or give {base_name!r}")
            weights[row, list(names).index(name)] = 1.0
    return weights
