"""Rows past the split: against the whole model, each row run once below it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from conftest import FAMILIES, pico_model

from lorary.base import rows as split_rows
from lorary.base.rows import SplitRows


@dataclass(frozen=True)
class Row:
    ids: tuple[int, ...]
    start: int


ROWS = [Row(tuple(range(4, 4 + size)), start) for size, start in ((9, 6), (5, 1), (12, 9))]


@pytest.mark.parametrize("family", list(FAMILIES))
def test_logits_are_those_of_the_whole_model_where_there_is_a_label(family, monkeypatch):
    model, ran = pico_model(family), []
    lower = split_rows.lower
    monkeypatch.setattr(split_rows, "lower", lambda *args: (ran.append(len(args[2])), lower(*args))[1])
    held = SplitRows(model, 1, ROWS, 0)
    for chunk in ([0, 2], [2, 1, 0]):
        logits, labels, place = held.logits(chunk)
        assert labels.tolist() == [token for i in chunk for token in ROWS[i].ids[ROWS[i].start :]]
        assert place.tolist() == [at for at, i in enumerate(chunk) for _ in ROWS[i].ids[ROWS[i].start :]]
        whole = [model(torch.tensor([ROWS[i].ids])).logits[0, ROWS[i].start - 1 : -1] for i in chunk]
        assert torch.allclose(logits, torch.cat(whole), atol=1e-4)
        few = torch.tensor([17, 4, 4, 300])
        assert torch.allclose(held.logits(chunk, tokens=few)[0], logits[:, few], atol=1e-5)
    assert ran == [2, 1], "each row runs once below the split"


@pytest.mark.parametrize("reach", [0, 2, 50])
@pytest.mark.parametrize("family", list(FAMILIES))
def test_a_gradient_of_short_reach_leaves_the_logits_as_they_are(family, reach):
    model = pico_model(family, num_hidden_layers=3)
    held = SplitRows(model, 1, ROWS, 0)
    for chunk in ([0, 2, 1], [2], [1]):
        logits, labels, place = held.logits(chunk)
        again = held.logits(chunk, reach)
        assert torch.allclose(again[0], logits, atol=1e-4)
        assert torch.equal(again[1], labels)
        assert torch.equal(again[2], place)


def test_the_gradient_reaches_as_many_tokens_before_the_answer_as_it_may():
    model = pico_model(num_hidden_layers=3)
    held = SplitRows(model, 1, ROWS, 0)
    held.keep([2])
    held._hidden[2].requires_grad_(True)
    for reach, first in ((0, 8), (3, 5), (None, 0)):
        logits, labels, _ = held.logits([2], reach)
        (gradient,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, labels), held._hidden[2])
        assert gradient.abs().sum(-1).nonzero()[0, 0] == first
