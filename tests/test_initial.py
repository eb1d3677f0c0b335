"""Where a gate's training starts: a gate that was trained before, and how hidden states are read at first."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from lorary.bank.bank import MemoryBank
from lorary.bank.files import BankError
from lorary.router_training.initial import ridge, start_from, start_reading
from lorary.router_training.settings import Training
from lorary.router_training.training import train_router
from lorary.routing.features import Features
from lorary.routing.gate import DEFAULT_FEATURES, Gate
from lorary.routing.starting import new_gate


def test_training_starts_from_a_trained_gate(kept_bank, base, encoder, tmp_path):
    training = Training(max_epochs=3, features=("embedding", *DEFAULT_FEATURES))
    first = train_router(kept_bank, out=tmp_path / "first", training=training, base=base, quiet=True)
    trained = {name: tensor.clone() for name, tensor in first.gate.state_dict().items()}
    names = kept_bank.names
    other = MemoryBank(**{**vars(kept_bank), "memories": {name: kept_bank[name] for name in reversed(names)}})
    gate = new_gate(other, encoder, 32, first.gate.features)
    start_from(gate, other, tmp_path / "first")
    assert torch.equal(gate.from_embedding, trained["from_embedding"])
    assert torch.equal(gate.keys, trained["keys"].flip(0)), "keys follow their memory's name"
    assert torch.equal(gate.asked_keys, trained["asked_keys"].flip(0))
    assert float(gate.none) == float(trained["none"])
    renamed = MemoryBank(**{**vars(kept_bank), "memories": {f"new {name}": kept_bank[name] for name in names}})
    moved = new_gate(renamed, encoder, 32, first.gate.features)
    own = moved.keys.clone()
    start_from(moved, renamed, tmp_path / "first")
    torch.testing.assert_close(moved.keys, first.gate.project(own), msg="new keys lie where the trained gate compares")
    assert not torch.allclose(moved.keys, own)
    kept = load_file(tmp_path / "first" / "model.safetensors")
    del kept["asked_keys"]  # a gate that reads no question without its names
    save_file(kept, tmp_path / "first" / "model.safetensors", metadata={"format": "pt"})
    told = json.loads((tmp_path / "first" / "config.json").read_text())
    (tmp_path / "first" / "config.json").write_text(json.dumps(told | {"features": ["embedding", "names"]}))
    again = new_gate(other, encoder, 32, first.gate.features)
    own = again.asked_keys.clone()
    start_from(again, other, tmp_path / "first")
    assert torch.equal(again.keys, gate.keys)
    assert torch.equal(again.asked_keys, own)
    with pytest.raises(BankError, match="holds no gate"):
        start_from(gate, other, tmp_path)
    with pytest.raises(BankError, match="same base, encoder and features"):
        start_from(Gate(torch.eye(3, 5), 0), other, tmp_path / "first")


def test_keys_that_nothing_trained_are_not_taken_over(kept_bank, base, encoder, tmp_path):
    """A gate that does not read the whole question keeps the keys that it was made with, whatever the facts are now."""
    first = train_router(kept_bank, out=tmp_path, training=Training(max_epochs=1), base=base, quiet=True)
    ormen = kept_bank["ormen"]
    kept_bank.memories["ormen"] = replace(ormen, facts=ormen.facts[:1]).with_keys(encoder)
    gate = new_gate(kept_bank, encoder, 0, ("embedding", *DEFAULT_FEATURES))
    own = gate.keys.clone()
    start_from(gate, kept_bank, tmp_path)
    assert torch.equal(gate.keys, own)
    assert torch.equal(gate.asked_keys, first.gate.asked_keys)


def test_hidden_states_are_read_by_how_they_differ():
    torch.manual_seed(0)
    memory, common = torch.arange(40) % 4, 30 * torch.randn(8)
    told, keys = torch.randn(4, 8)[memory] + 0.1 * torch.randn(40, 8), torch.eye(4, 6)
    embedding, votes = keys[memory] + 0.2, torch.zeros(40, 4)
    gate = Gate(keys, 8, ("hidden",)).requires_grad_(False)
    start_reading(gate, common + told, embedding)
    torch.testing.assert_close(gate.hidden_mean, (common + told).mean(0))
    apart = (common + told - gate.hidden_mean) / gate.hidden_spread
    assert apart.square().sum(-1).mean() == pytest.approx(1)
    found = gate.terms(Features(embedding, votes, hidden=common + told))["embedding"].argmax(-1)
    assert torch.equal(found, memory), "alone, it starts as what the encoder would say"
    assert float(gate._apart(common + 50 * told).norm(dim=-1).max()) <= 1 + 1e-5, "nothing is read as farther than that"
    assert not gate._apart(torch.zeros(1, 8)).any(), "nor is anything where no token was counted"
    learned = gate.from_hidden.clone()
    start_reading(gate, told, embedding)
    assert torch.equal(gate.from_hidden, learned), "what was learned stays"
    assert not torch.equal(gate.hidden_mean, told.mean(0))
    beside = Gate(keys, 8, ("embedding", "hidden")).requires_grad_(False)
    start_reading(beside, common + told, embedding)
    assert not beside.from_hidden.any(), "beside the embedding, it starts from the query's route"
    assert torch.equal(beside.hidden_mean, gate.hidden_mean)
    without = Gate(keys, 8, ("embedding",)).requires_grad_(False)
    start_reading(without, common + told, embedding)
    assert not len(without.hidden_mean)


def test_a_ridge_regression_finds_a_linear_map_and_shrinks_it():
    torch.manual_seed(0)
    inputs, weights = torch.randn(50, 4), torch.randn(3, 4)
    torch.testing.assert_close(ridge(inputs, inputs @ weights.T, 1e-6), weights, atol=1e-4, rtol=1e-4)
    assert ridge(inputs, inputs @ weights.T, 1.0).norm() < 0.7 * weights.norm()


def test_a_gate_of_tokens_does_not_start_from_one_of_queries(kept_bank, base, tmp_path):
    features = ("embedding", "hidden")
    training = Training(max_epochs=1, features=features)
    train_router(kept_bank, out=tmp_path / "first", training=training, base=base, quiet=True)
    token = replace(training, granularity="token")
    given = {"out": tmp_path / "second", "base": base, "quiet": True}
    with pytest.raises(BankError, match="reads the hidden states of whole queries"):
        train_router(kept_bank, training=token, init_from=tmp_path / "first", **given)
    assert not (tmp_path / "second").exists()
