"""The gate's training: losses, checkpoints of the gate alone, resuming, calibration, and gradients through the mixture."""

from __future__ import annotations

import csv

import pytest
import torch

from lorary.router_training.calibration import best_temperature, best_threshold, calibration_error
from lorary.router_training.data import RoutingData, read_questions
from lorary.router_training.module import GateTraining, Weights, loss_terms
from lorary.router_training.training import Training, fit

WEIGHTS = Weights(language=1.0, route=1.0, none=1.0, balance=0.01, z=1e-4)
UNRELATED = read_questions()[:24]


def data(model):
    return RoutingData(model, UNRELATED, batch_size=8, seed=0)


def test_loss_terms_against_their_definitions():
    logits = torch.tensor([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 4.0]])
    terms = loss_terms(logits, torch.tensor([0, 1, 2]))
    own = -torch.log_softmax(logits, -1)[0, 0]
    assert torch.allclose(terms["route"], own)
    assert torch.allclose(terms["none"], own)
    p = logits.softmax(-1)
    balanced = 2 * (0.5 * (p[0, 0] + p[1, 0]) / 2 + 0.5 * (p[0, 1] + p[1, 1]) / 2)
    assert torch.allclose(terms["balance"], balanced)
    assert torch.allclose(terms["z"], logits.logsumexp(-1).square().mean())


def test_the_gate_learns_and_nothing_else_moves(composite, tmp_path):
    frozen = {k: v.clone() for k, v in composite.state_dict().items() if not k.startswith("gate.")}
    routing = data(composite)
    before = loss_terms(composite.gate(routing.trained.embedding, routing.trained.votes), routing.trained.memory)
    fit(composite, routing, Training(max_epochs=8), tmp_path, quiet=True)
    after = loss_terms(composite.gate(routing.trained.embedding, routing.trained.votes), routing.trained.memory)
    assert after["route"] < before["route"]
    assert after["none"] < before["none"]
    assert all(torch.equal(v, frozen[k]) for k, v in composite.state_dict().items() if k in frozen)


def test_every_loss_term_is_logged(composite, tmp_path):
    fit(composite, data(composite), Training(max_epochs=1, language_weight=1.0), tmp_path, quiet=True)
    with next(tmp_path.rglob("metrics.csv")).open() as file:
        columns = csv.DictReader(file).fieldnames
    assert {f"train/{term}" for term in ("route", "none", "balance", "z", "language", "loss")} <= set(columns)


def test_a_checkpoint_holds_the_gate_only_and_resuming_changes_nothing(bank, base, encoder, tmp_path):
    from lorary.composite import assemble

    gates = []
    for name, stages in (("whole", [4]), ("parts", [2, 4])):
        model, checkpoint = assemble(bank, base, encoder=encoder), None
        for epochs in stages:
            folder = tmp_path / f"{name}{epochs}"
            fit(model, data(model), Training(max_epochs=epochs), folder, resume=checkpoint, quiet=True)
            checkpoint = folder / "training" / "checkpoints" / "last.ckpt"
        gates.append(model.gate.state_dict())
        state = torch.load(checkpoint, weights_only=True)["state_dict"]
        assert set(state) == {f"gate.{k}" for k in model.gate.state_dict()}
        assert checkpoint.stat().st_size < 2 * 2**21
    assert max(float((gates[0][k] - gates[1][k]).abs().max()) for k in gates[0] if gates[0][k].numel()) < 1e-6


def test_the_language_loss_reaches_the_gate(composite):
    routing = data(composite)
    module = GateTraining(composite, WEIGHTS, lr=1e-3)
    composite.gate.requires_grad_(True)
    terms, _ = module.terms(routing.trained.collate([0, 1, 2, len(routing.trained) - 1]))
    terms["language"].backward()
    assert composite.gate.from_embedding.grad.abs().sum() > 0
    assert composite.base.model.layers[0].self_attn.k_proj.weight.grad is None


def test_tokens_learn_from_the_hidden_state(token_composite, tmp_path):
    before = token_composite.gate.from_hidden.clone()
    fit(token_composite, data(token_composite), Training(granularity="token", max_epochs=1), tmp_path, quiet=True)
    assert not torch.equal(before, token_composite.gate.from_hidden)


def test_held_out_wordings_are_never_read(composite):
    routing = data(composite)
    asked = {example.text for queries in (routing.trained, routing.validation) for example in queries.examples}
    held = {wording for memory in composite.router.bank for fact in memory.facts for wording in fact.held_out}
    assert held
    assert not asked & held


@pytest.mark.parametrize(
    ("scores", "good", "threshold"),
    [([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], 0.5), ([0.1, 0.9], [1, 1], None), ([0.3, 0.5, 0.7], [0, 1, 1], 0.4)],
)
def test_thresholds(scores, good, threshold):
    found, quality = best_threshold(torch.tensor(scores), torch.tensor(good).bool())
    if threshold is not None:
        assert found == pytest.approx(threshold)
        assert quality == 1.0


def test_a_gate_that_is_too_sure_or_unsure_is_calibrated():
    generator = torch.Generator().manual_seed(0)
    right = torch.randint(0, 3, (400,), generator=generator)
    told = torch.where(torch.rand(400, generator=generator) < 0.8, right, (right + 1) % 3)  # right four times in five
    for scale in (2.0, 6.0):
        logits = torch.nn.functional.one_hot(told, 3) * scale
        cooled = (logits / best_temperature(logits, right)).softmax(-1)
        assert calibration_error(cooled, right) < calibration_error(logits.softmax(-1), right)
        assert calibration_error(cooled, right) < 0.01


def test_cooling_divides_every_logit(composite):
    gate = composite.gate
    embedding, votes = torch.randn(4, gate.keys.shape[1]), torch.rand(4, len(gate.keys))
    before = gate(embedding, votes)
    gate.cool(2.0)
    assert torch.allclose(gate(embedding, votes), before / 2, atol=1e-5)
