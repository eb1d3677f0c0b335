"""Spoken: which memories told an answer that was decided token by token, each by its mean share of the answer's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from lorary.model.cache import Plan
from lorary.routing.policy import Route

LEAST_SPOKEN = 0.05
"""The mean share of an answer's tokens from which on a memory is said to have told of it."""


def count_spoken(plan: Plan, input_ids: Int[Tensor, "batch seq"] | None, settings: Any) -> None:
    """Lets a plan count what each memory has of the token that its last pass predicts; a prompt begins the count anew.

    Args:
        settings: of `generate`; behind a token that ends an answer nothing is counted.
    """
    assert plan.latest is not None, "the base ran without its layer at the split"
    last = plan.latest.weights[:, -1].detach()
    last = torch.cat([last, 1 - last.sum(-1, keepdim=True)], -1)
    if input_ids is None or input_ids.shape[1] > 1 or plan.spoken is None:
        plan.spoken = last
        return
    ends = [*_listed(getattr(settings, "eos_token_id", None)), *_listed(getattr(settings, "pad_token_id", None))]
    going_on = ~torch.isin(input_ids[:, -1], torch.tensor(ends, dtype=torch.long, device=input_ids.device))
    plan.spoken = plan.spoken + last * going_on.to(last.device).unsqueeze(-1)


def spoken_routes(plan: Plan, routes: Sequence[Route]) -> list[Route]:
    """The routes of answers: of each row the memories that told it, by their mean share of its tokens.

    Args:
        routes: those by which the answers began, which tell how sure the gate was.
    """
    if plan.spoken is None or len(plan.spoken) != len(routes):
        return [*routes]
    shares = plan.spoken[:, :-1] / plan.spoken.sum(-1, keepdim=True)
    told = []
    for route, own in zip(routes, shares.tolist(), strict=True):
        order = sorted((n for n, share in enumerate(own) if share >= LEAST_SPOKEN), key=lambda n: -own[n])
        memories, weights = tuple(plan.memories[n] for n in order), tuple(own[n] for n in order)
        told.append(replace(route, memories=memories, weights=weights, source="gate" if memories else "none"))
    return told


def _listed(ids: int | Sequence[int] | None) -> list[int]:
    return [] if ids is None else [ids] if isinstance(ids, int) else [*ids]
