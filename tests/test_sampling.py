"""Losses over a sample of the vocabulary: an estimate of those over all, and the same where nothing is left out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lorary.memories.sampling import SampledVocabulary

SIZE, WANTED = 500, (7, 3, 490, 7)


def vocabulary(sampled, seed=0):
    return SampledVocabulary(WANTED, SIZE, sampled, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("sampled", [None, SIZE - 3, 10_000])
def test_of_the_whole_vocabulary_the_losses_are_the_cross_entropy(sampled):
    made = vocabulary(sampled)
    logits, labels = torch.randn(4, SIZE), torch.tensor([3, 490, 7, 3])
    assert made.draw() is None
    assert torch.equal(made.losses(logits, labels), nn.functional.cross_entropy(logits, labels, reduction="none"))


def test_a_draw_holds_each_wanted_token_once_and_fresh_others():
    made = vocabulary(40)
    draws = [made.draw().tolist() for _ in range(20)]
    assert all(tokens[:3] == [3, 7, 490] and len(tokens) == 43 for tokens in draws)
    assert all(set(tokens[3:]).isdisjoint(WANTED) for tokens in draws)
    assert len(set(map(tuple, draws))) == 20
    assert draws == [vocabulary(40).draw().tolist(), *draws[1:]], "a seed repeats it"


def test_the_sampled_loss_and_its_gradient_are_near_those_of_the_whole_vocabulary():
    torch.manual_seed(0)
    logits, labels = torch.randn(4, SIZE, requires_grad=True), torch.tensor([3, 490, 7, 3])
    whole = nn.functional.cross_entropy(logits, labels, reduction="none")
    [slope] = torch.autograd.grad(whole.sum(), logits)
    made, losses, slopes = vocabulary(100), [], []
    for _ in range(400):
        tokens = made.draw()
        loss = made.losses(logits[:, tokens], labels)
        losses.append(loss.detach())
        slopes.append(torch.autograd.grad(loss.sum(), logits)[0])
    assert torch.stack(losses).mean(0) == pytest.approx(whole.detach(), rel=0.01)
    assert torch.stack(slopes).mean(0)[:, list(WANTED)] == pytest.approx(slope[:, list(WANTED)], abs=0.01)
    bare = [nn.functional.cross_entropy(logits.detach()[:, made.draw()], torch.tensor([0, 2, 1, 0])) for _ in range(20)]
    assert float(torch.stack(bare).mean()) < float(whole.detach().mean()) - 1, (
        "without the raise the sample's loss is far too low"
    )
