"""What the terms of a gate weigh against each other: fitted to queries that none of them was fitted to."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from lorary.router_training.minimising import minimise
from lorary.router_training.queries import Queries
from lorary.routing.features import KINDS
from lorary.routing.gate import Gate, weighed

_NOTHING = -20.0
"""The logarithm of a scale at which a term says nothing."""
_KEPT = ("wordings", "wording_grams")
"""Scales that are not fitted."""
_APART = 0.5
"""How far, as a standard deviation, the logarithm of a scale lies from its start before any query is seen."""
_PULL = 1e-3
"""Of the squared distance of a scale's logarithm from its start, beside nats a query."""


def fit_scales(
    terms: Mapping[str, Float[Tensor, "queries memories"]],
    start: Mapping[str, Float[Tensor, ""]],
    right: Int[Tensor, " queries"],
    kept: Collection[str] = (),
    pull: float = _PULL,
) -> dict[str, Float[Tensor, ""]]:
    """The logarithms of the terms' scales, and the logit of none, with the least negative log-likelihood.

    Temperature scaling (Guo et al. 2017, arXiv 1706.04599) with a temperature for each term: stacking (Wolpert 1992), on
    queries that no term was fitted to. A term that means nothing here (embeddings of invented names, say) looks good on
    what trained it, and is found out. Where every query is routed rightly the likelihood asks for ever more certainty;
    a small pull to where the scales started ends that.

    Args:
        right: the number of each query's memory, or of none.
        kept: scales that stay as they are.
        pull: of the squared distance of a scale's logarithm from its start, beside nats a query.
    """
    logarithms = {name: scale.detach().clone().requires_grad_(True) for name, scale in start.items()}
    fitted = [logarithm for name, logarithm in logarithms.items() if name not in kept]

    def loss() -> Tensor:
        moved = sum(((logarithms[name] - start[name].detach()).square() for name in terms), torch.zeros(()))
        return functional.cross_entropy(_weighed(terms, logarithms), right) + pull * moved

    minimise(fitted, loss)
    return {name: scale.detach() for name, scale in logarithms.items()}


def _weighed(terms: Mapping[str, Tensor], logarithms: Mapping[str, Tensor]) -> Float[Tensor, "queries classes"]:
    return weighed(terms, {name: logarithms[name].exp() for name in terms}, logarithms["none"])


@torch.no_grad()
def fit_ranking(
    terms: Mapping[str, Float[Tensor, "queries memories"]],
    start: Mapping[str, Float[Tensor, ""]],
    right: Int[Tensor, " queries"],
    kept: Collection[str] = (),
) -> tuple[dict[str, Float[Tensor, ""]], float]:
    """(the logarithms of the terms' scales, the negative log-likelihood of a known query under them)."""
    pull = 1 / (2 * _APART**2 * len(right))  # few queries say little against where the scales start
    scales = fit_scales(terms, {name: start[name] for name in (*terms, "none")}, right, kept, pull)
    return scales, float(functional.cross_entropy(_weighed(terms, scales), right))


def ranking_scales(gate: Gate, seen: Sequence[Queries], *, trained: bool = False) -> dict[str, Float[Tensor, ""]]:
    """The scales of a gate's terms, fitted to questions and strangers; where the trained terms add nothing, without them. So a
    gate that learned less than the sum of what it reads is that sum.

    How much a near wording says stays as it is: wordings that were kept from one memory are nearer to its others than those
    that will be asked.

    Args:
        trained: the gate was trained on these questions, so that what it learned of them proves nothing.
    """
    memory = torch.cat([queries.memory for queries in seen])
    terms = _joined([gate.terms(queries.features) for queries in seen])
    start = {name: scale for name, scale in gate.scales.items() if name in (*terms, "none")}
    learned = [name for name in terms if name not in (*KINDS, "names")]
    plain = {name: term for name, term in terms.items() if name not in learned}
    plain_scales, plain_error = fit_ranking(plain, start, memory, _KEPT)
    scales, error = (plain_scales, plain_error) if trained else fit_ranking(terms, start, memory, _KEPT)
    # A fit of more weights is better by about one nat a weight though they mean nothing (Akaike 1974).
    if (plain_error - error) * len(memory) <= len(learned):
        return plain_scales | {name: torch.tensor(_NOTHING) for name in learned}
    return scales


def _joined(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
