"""Labels by loss: against the composite's own losses, what they know that facts do not, and what they refuse."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import FACTS

from lorary.bank.bank import MemoryBank
from lorary.bank.files import BankError
from lorary.bank.memory import Memory
from lorary.model.active_route import current_route
from lorary.model.composite import assemble
from lorary.research.labels import TEMPERATURE, agreement, check_adapters, measure_losses, soft_labels
from lorary.router_training.data import RoutingData, read_questions
from lorary.router_training.loss_labels import answer_losses
from lorary.router_training.module import loss_terms
from lorary.router_training.settings import Training
from lorary.router_training.training import fit

UNRELATED = read_questions()[:8]


def data(model):
    return RoutingData(model.router, UNRELATED, batch_size=8, seed=0, model=model)


@pytest.mark.parametrize("split", [0, 1])
def test_losses_are_those_of_the_composite_under_each_memory(composite, split):
    if split:
        composite.router.bank.memories.pop("ormen")
        composite.router.bank.memories.pop("velka")
        composite.gate.keep(torch.tensor([2]))
        composite.config.split_layer = 1
        composite._install()
    answers, chunk = data(composite).trained.answers, [2, 0, 3, 1]
    measured = answer_losses(composite, answers, chunk)
    for number, i in enumerate(chunk):
        ids = torch.tensor([answers.rows[i].ids])
        labels = ids.clone()
        labels[:, : answers.rows[i].start] = -100
        for memory, name in enumerate(composite.memories):
            expected = composite(ids, labels=labels, adapter_names=[name]).loss
            assert float(measured[number, memory]) == pytest.approx(float(expected), abs=1e-4)
    assert current_route() is None, "the next pass must not inherit a route"


def test_soft_labels_are_the_softmax_of_the_losses_and_none_is_for_unrelated():
    losses = torch.tensor([[0.1, 0.6], [0.2, 0.2], [0.0, 0.0]])
    target = soft_labels(losses, torch.tensor([0, 1, 2]), 0.5)
    assert target[0].tolist() == pytest.approx([1 / (1 + torch.e**-1), 1 / (1 + torch.e), 0])
    assert target[1].tolist() == [0.5, 0.5, 0], "both memories hold it"
    assert target[2].tolist() == [0, 0, 1]


def test_agreement_counts_known_queries_alone():
    losses = torch.tensor([[0.0, 9.0], [0.0, 9.0], [3.0, 3.0]])
    told = agreement(losses, torch.tensor([0, 1, 2]), 0.1)
    assert told == {"own_least": 0.5, "own_share": 0.5}


def test_a_soft_target_that_is_certain_is_the_label():
    logits, memory = torch.randn(4, 3), torch.tensor([0, 1, 2, 1])
    certain = torch.nn.functional.one_hot(memory, 3).float()
    hard, soft = loss_terms(logits, memory), loss_terms(logits, memory, certain)
    assert all(torch.allclose(hard[name], soft[name]) for name in hard)
    shared = loss_terms(logits[:1], memory[:1], torch.tensor([[0.5, 0.5, 0.0]]))
    assert torch.allclose(shared["route"], -logits[0].log_softmax(-1)[:2].mean())


def test_a_fact_that_two_memories_hold_is_shared_between_them(bank, base, encoder, tmp_path):
    """A twin of a memory, under another name: facts call one of them wrong, losses do not."""
    ormen = bank["ormen"]
    pair = {"ormen": ormen, "twin": replace(ormen, name="twin"), "lamps": bank["lamps"]}
    twins = MemoryBank(**{**vars(bank), "memories": pair})
    distance = {}
    for labels in ("facts", "loss"):
        model = assemble(twins, base, encoder=encoder)
        routing = data(model)
        pair = routing.trained, routing.validation
        both = zip(measure_losses(model, pair, quiet=True), pair, strict=True)
        target, for_validation = (soft_labels(losses, queries.memory, TEMPERATURE) for losses, queries in both)
        assert torch.allclose(target[:, 0], target[:, 1], atol=1e-4)
        if labels == "loss":
            routing.trained.target, routing.validation.target = target, for_validation
        fit(model.router, routing, Training(max_epochs=6, lr=0.02), tmp_path / labels, quiet=True)
        logits = model.gate(routing.trained.features.rows(list(range(len(target)))))
        distance[labels] = float(loss_terms(logits, routing.trained.memory, target)["route"])
    assert distance["loss"] < 0.8 * distance["facts"]


def test_labels_by_loss_need_adapters(bank):
    bare = replace(bank, memories={"ormen": bank["ormen"], "bare": Memory("bare", {}, {}, FACTS["velka"])})
    with pytest.raises(BankError, match="'bare' has none"):
        check_adapters(bare)
