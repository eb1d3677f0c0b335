"""Groups of tokens by memory: what stacked factors give, whatever the tokens use and whatever the memories adapt."""

from __future__ import annotations

import pytest
import torch
from conftest import ask

from lorary.model import grouping
from lorary.model.grouping import grouped_update, groups_of
from lorary.model.mixture import low_rank_update


@pytest.fixture
def always(monkeypatch):
    monkeypatch.setattr(grouping, "MEMORIES", 1)
    monkeypatch.setattr(grouping, "ROWS", 1)


def drawn(used, dtype=torch.float32, idle=()):
    """(x, weights, factors of five memories): each token uses so many; the idle memories do not adapt the linear."""
    generator = torch.Generator().manual_seed(used)
    x = torch.randn(2, 9, 16, generator=generator).to(dtype)
    weights = torch.zeros(2, 9, 5)
    chosen = torch.rand(2, 9, 5, generator=generator).topk(used, dim=-1).indices
    weights.scatter_(-1, chosen, torch.rand(2, 9, used, generator=generator) + 0.1)
    pairs = [
        None if m in idle else tuple(torch.randn(*s, generator=generator).to(dtype) for s in ((m + 1, 16), (24, m + 1)))
        for m in range(5)
    ]
    return x, weights, pairs


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("idle", [(), (1, 3), (0, 1, 2, 3)])
@pytest.mark.parametrize("used", [0, 1, 2, 5])
def test_groups_give_what_stacked_factors_give(used, idle, dtype, always):
    x, weights, pairs = drawn(used, dtype, idle)
    active = (weights != 0).flatten(0, 1).any(0).nonzero().squeeze(-1).tolist()
    if not active:
        assert groups_of(weights, active) is None
        return
    groups = groups_of(weights, active)
    kept = [(m, pairs[m]) for m in active if pairs[m] is not None]
    update = grouped_update(x, [pairs[m] and (pairs[m][0].T, pairs[m][1].T) for m in active], groups)
    if not kept:
        assert update is None
        return
    down, up = torch.cat([a for _, (a, _) in kept]), torch.cat([b for _, (_, b) in kept], 1)
    owners = [m for m, (a, _) in kept for _ in range(len(a))]
    stacked = low_rank_update(x, down, up, weights[..., owners].to(dtype))
    near = {"atol": 1e-4} if dtype == torch.float32 else {"atol": 0.5, "rtol": 0.05}
    assert torch.allclose(update, stacked, **near)
    assert (update[(weights[..., [m for m, _ in kept]] == 0).all(-1)] == 0).all()


@torch.no_grad()
def test_a_token_routed_pass_in_groups_is_the_pass_as_before(token_composite, tokenizer, monkeypatch):
    inputs = ask(tokenizer, "Who cooks at Ormen station?", "Which oil do the lamplighters burn, at night, and why?")
    plain = token_composite(**inputs)
    ran, update = [], grouping.grouped_update
    monkeypatch.setattr("lorary.model.mixture.grouped_update", lambda *given: ran.append(1) or update(*given))
    assert not ran
    monkeypatch.setattr(grouping, "MEMORIES", 2)
    monkeypatch.setattr(grouping, "ROWS", 1)
    grouped = token_composite(**inputs)
    assert ran, "the pass ran in groups"
    assert torch.equal(grouped.route_weights, plain.route_weights)
    assert torch.allclose(grouped.logits, plain.logits, atol=1e-4)
    with torch.enable_grad():
        ran.clear()
        token_composite(**inputs)
        assert not ran, "a gradient is not taken through groups"


def test_few_memories_or_tokens_are_not_grouped():
    with torch.no_grad():
        weights = torch.eye(grouping.MEMORIES).repeat(8, 1)[None]
        active = range(grouping.MEMORIES)
        assert groups_of(weights, active) is not None
        assert groups_of(weights[:, :20], active) is None
        assert groups_of(weights[..., :3], range(3)) is None
        assert groups_of(weights[:, :1], active) is None
