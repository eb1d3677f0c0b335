"""Parts: what the gate says of each part of a question, for one that decides at each token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from lorary.base.questions import clauses_of, parts_of
from lorary.routing.policy import Policy, mixed_and_sure
from lorary.routing.reading import PARTS

if TYPE_CHECKING:
    from lorary.routing.features import Features
    from lorary.routing.router import Router


def settled(
    logits: Float[Tensor, "*batch memories_and_none"], policy: Policy
) -> Float[Tensor, "*batch memories_and_none"]:
    """What a gate says of parts once a policy has decided each.

    A part that a memory answers is not none's, and one that none does is no memory's: its threshold was calibrated for
    questions, so the tokens that belong to one need no other.
    """
    best = mixed_and_sure(logits.softmax(-1), policy)[1]
    sure = (best >= policy.t_gate) & (best > 0)
    none = torch.zeros_like(logits, dtype=torch.bool)
    none[..., -1] = True
    return logits.masked_fill(none == sure.unsqueeze(-1), float("-inf"))


@torch.no_grad()
def told_of_parts(
    router: Router, texts: Sequence[str], features: Features
) -> Float[Tensor, "texts parts memories_and_none"]:
    """What a router's gate says of the first parts of each text, over the memories and none; the last one fills up.

    Sentences that ask are parts (`questions.parts_of`); so are clauses (`clauses_of`), where the gate is sure of a memory
    for each of them. A part of which it is not sure is told of as the whole text is.

    Args:
        features: of the texts.
    """
    whole = router.gate(features)
    pieces = [(parts, False) if len(parts := parts_of(text)) > 1 else (clauses_of(text), True) for text in texts]
    distinct = list(dict.fromkeys(part for parts, _ in pieces if len(parts) > 1 for part in parts))
    if not distinct:
        return whole.unsqueeze(1).expand(-1, PARTS, -1)
    told = router.gate(router.query_features(distinct))
    sure = told.softmax(-1)[:, :-1].amax(-1) >= router.policy.t_gate
    place = {part: row for row, part in enumerate(distinct)}
    rows = []
    for number, (parts, within) in enumerate(pieces):
        own = [place[part] for part in parts[:PARTS]] if len(parts) > 1 else []
        if not own or (within and not bool(sure[own].all())):
            rows.append(whole[number].expand(PARTS, -1))
            continue
        chosen = torch.where(sure[own].unsqueeze(-1), told[own], whole[number])
        rows.append(torch.cat([chosen, chosen[-1:].expand(PARTS - len(own), -1)]))
    return torch.stack(rows)
