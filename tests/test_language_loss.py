"""The language-model loss of the gate's training: against the whole composite, and which answers it sees."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lorary.model.active_route import current_route
from lorary.model.composite import assemble
from lorary.router_training.data import RoutingData, read_questions
from lorary.router_training.module import GateTraining, Weights
from lorary.router_training.settings import Training
from lorary.router_training.training import fit

WEIGHTS = Weights(language=1.0, route=1.0, none=1.0, balance=0.01, z=1e-4)
UNRELATED = read_questions()[:24]


def data(model):
    return RoutingData(model.router, UNRELATED, batch_size=8, seed=0, model=model)


def test_the_language_loss_reaches_the_gate(composite):
    composite.gate.features = ("embedding", "asked", "names")
    routing = data(composite)
    module = GateTraining(composite.gate, WEIGHTS, lr=1e-3, model=composite)
    composite.gate.requires_grad_(True)
    terms, _ = module.terms(routing.trained.collate([0, 1, 2, len(routing.trained) - 1]))
    terms["language"].backward()
    assert composite.gate.from_embedding.grad.abs().sum() > 0
    assert composite.gate.asked_keys.grad.abs().sum() > 0
    assert composite.base.model.layers[0].self_attn.k_proj.weight.grad is None


@pytest.mark.parametrize("split", [0, 1])
def test_the_language_loss_and_its_gradient_are_those_of_the_whole_composite(composite, split):
    composite.gate.features = ("embedding", "asked", "names")
    if split:
        for name in ("ormen", "velka"):
            composite.remove_memory(name)
        composite.config.split_layer = split
        composite._install()
    routing = data(composite)
    module = GateTraining(composite.gate, WEIGHTS, lr=1e-3, model=composite)
    composite.gate.requires_grad_(True)
    assert [name for name, weight in composite.named_parameters() if weight.requires_grad] == [
        f"gate.{name}" for name, _ in composite.gate.named_parameters()
    ]
    numbers = [len(routing.trained) - 1, 3, 0, 2, 1]
    batch = routing.trained.collate(numbers)
    assert batch.answered == {1: 3, 2: 0, 3: 2, 4: 1}, "an unrelated question has no answer"
    features = replace(batch.features, contents=None)  # as in training
    ids = torch.full((4, 99), 0)
    labels = torch.full_like(ids, -100)
    for i, row in enumerate(routing.trained.answers.rows[number] for number in numbers[1:]):
        ids[i, : len(row.ids)] = torch.tensor(row.ids)
        labels[i, row.start : len(row.ids)] = torch.tensor(row.ids[row.start :])
    weights = composite.gate(features)[1:].softmax(-1)[:, :-1]
    plain = composite(ids, labels=labels, route_weights=weights, use_cache=False).loss
    trained = [composite.gate.from_embedding, composite.gate.keys, composite.gate.asked_keys, composite.gate.none]
    expected = torch.autograd.grad(plain, trained)
    for _ in range(2):  # the second time the hidden states stand
        loss = module.language_loss(composite.gate(features), batch)
        found = torch.autograd.grad(loss, trained)
        assert float(loss) == pytest.approx(float(plain), abs=1e-5)
        assert expected[-1].abs() > 1e-6
        assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-7) for a, b in zip(found, expected, strict=True))
    assert current_route() is None, "the next pass must not inherit a route"


def test_some_answers_of_each_step_are_seen_and_others_in_the_next_epoch(kept_bank, base, encoder):
    routing = data(assemble(kept_bank, base, encoder=encoder))
    known = {i for i, example in enumerate(routing.trained.examples) if example.answer is not None}

    def seen(loader):
        return [set(batch.answered.values()) for batch in loader]

    assert not any(seen(routing.train_dataloader()) + seen(routing.val_dataloader())), "none unless asked for"
    routing.language_rows = 2
    epochs = []
    for epoch in (0, 1, 0):
        loader = routing.train_dataloader()
        loader.sampler.set_epoch(epoch)
        order = list(loader.sampler)
        epochs.append(seen(loader))
        assert epochs[-1] == [{*order[at : at + 2]} & known for at in range(0, len(order), 8)]
    assert epochs[0] == epochs[2] != epochs[1]
    drawn = []
    for routing.seed in range(12):
        drawn.append(set.union(*seen(routing.val_dataloader())))
        assert drawn[-1] == set.union(*seen(routing.val_dataloader()))
    assert len(routing.validation) == 12
    assert max(map(len, drawn)) == 3, "the same share: 2 of 8"
    assert set.union(*drawn) == set(range(6)), "the others are unrelated"
    routing.language_rows = 64
    assert set.union(*seen(routing.train_dataloader())) == known
    assert set.union(*seen(routing.val_dataloader())) == set(range(6))
    with pytest.raises(ValueError, match="language_rows 0 must be 1 or more"):
        Training(language_rows=0)


def test_what_a_validation_pass_leaves_behind_serves_the_next_step(kept_bank, base, encoder, tmp_path):
    """In bf16 the mixtures keep converted factors of the memories that a pass chose; training goes on with them."""
    model = assemble(kept_bank, base, encoder=encoder)
    base.model.to(torch.bfloat16)
    before = model.gate.asked_keys.clone()
    training = Training(max_epochs=4, patience=4, language_weight=1.0, batch_size=4)
    fit(model.router, data(model), training, tmp_path, model=model, quiet=True)
    assert not torch.equal(before, model.gate.asked_keys)
