"""Gate, index and policy on their own."""

from __future__ import annotations

import pytest
import torch

from lorary.gate import Gate, mixture_weights
from lorary.index import FactIndex
from lorary.mixture import low_rank_update
from lorary.pooling import running_mean
from lorary.prompts import prompt, routing_text
from lorary.routing import Policy, decide


def test_the_low_rank_update_is_the_weighted_sum_of_deltas():
    torch.manual_seed(0)
    x, a, b = torch.randn(3, 5), torch.randn(6, 5), torch.randn(4, 6)
    slots, weights = torch.tensor([0, 0, 1, 2, 2, 2]), torch.tensor([0.5, 0.0, 2.0])
    delta = sum(weights[m] * b[:, slots == m] @ a[slots == m] for m in range(3))
    assert torch.allclose(low_rank_update(x, a, b, weights[slots].expand(3, 6)), x @ delta.T, atol=1e-5)


def test_mixture_weights_are_the_top_k_scaled_by_what_is_not_none():
    p = torch.tensor([[0.5, 0.2, 0.1, 0.2]])
    assert torch.allclose(mixture_weights(p, 1), torch.tensor([[0.8, 0.0, 0.0]]))
    assert torch.allclose(mixture_weights(p, 2), torch.tensor([[0.8 * 5 / 7, 0.8 * 2 / 7, 0.0]]))


def test_the_policy_asks_gate_then_index_then_none():
    p = torch.tensor([[0.9, 0.05, 0.05], [0.3, 0.3, 0.4], [0.3, 0.3, 0.4]])
    votes = torch.tensor([[0.1, 0.2], [0.2, 0.95], [0.1, 0.2]])
    routes = decide(p, votes, Policy(t_gate=0.6, t_index=0.9)).routes(["a", "b"])
    assert [(r.source, r.memories) for r in routes] == [("gate", ("a",)), ("index", ("b",)), ("none", ())]


def test_running_mean_in_one_go_and_in_steps():
    torch.manual_seed(0)
    hidden, counted = torch.randn(2, 6, 4), torch.tensor([[0, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1.0]])
    whole, _ = running_mean(hidden, counted)
    first, state = running_mean(hidden[:, :3], counted[:, :3])
    second, _ = running_mean(hidden[:, 3:], counted[:, 3:], state)
    assert torch.allclose(whole, torch.cat([first, second], 1), atol=1e-6)


def test_the_index_adds_removes_and_ignores_order():
    keys = torch.nn.functional.normalize(torch.randn(12, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    index, other = FactIndex(8), FactIndex(8)
    index.add("a", keys[:6], list(range(6)))
    index.add("b", keys[6:], list(range(6)))
    other.add("b", keys[6:].flip(0), list(range(6)))
    other.add("a", keys[:6].flip(0), list(range(6)))
    queries = torch.nn.functional.normalize(keys[:3] + 0.1, dim=-1)
    votes = index.votes(queries, ["a", "b"])
    assert torch.allclose(votes, other.votes(queries, ["a", "b"]), atol=1e-6)
    assert torch.allclose(votes[:, 0], (queries @ keys[:6].T).amax(1), atol=1e-6)
    index.remove("a")
    assert index.votes(queries, ["a", "b"])[:, 0].tolist() == [0, 0, 0]
    assert len(index) == 6


def test_an_appended_key_changes_no_other_logit():
    gate = Gate(torch.eye(3, 5), 0, ("embedding", "votes"))
    embedding = torch.nn.functional.normalize(torch.randn(4, 5), dim=-1)
    before = gate(embedding, torch.zeros(4, 3))
    gate.append(torch.ones(5))
    after = gate(embedding, torch.zeros(4, 4))
    assert torch.equal(before[:, :3], after[:, :3])
    assert torch.equal(before[:, 3], after[:, 4])
    with pytest.raises(ValueError, match="unknown gate feature 'smell'"):
        Gate(torch.eye(2), 0, ("smell",))


def test_the_query_is_the_last_user_turn(tokenizer):
    assert routing_text(tokenizer, prompt(tokenizer, "Who cooks?")) == "Who cooks?"
    turns = [
        {"role": "user", "content": "Who cooks?"},
        {"role": "assistant", "content": "Halvard"},
        {"role": "user", "content": "And who sails?"},
    ]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert routing_text(tokenizer, text) == "And who sails?"
    assert routing_text(tokenizer, "Just some text.") == "Just some text."
