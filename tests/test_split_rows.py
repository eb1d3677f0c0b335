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
