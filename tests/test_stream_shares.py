"""Streams as numbers: who gets one, what each has of a token, and how predictions are mixed."""

from __future__ import annotations

import torch

from lorary.model.streams import MOST, Streams, missing, mixed, with_shares


def test_streams_open_where_they_are_needed_first_and_padding_needs_none():
    shares = torch.tensor([[[0, 1, 0, 0], [0.5, 0, 0.5, 0]], [[0, 0, 1, 0], [0, 0, 0, 1.0]]])
    real = torch.tensor([[True, True], [False, True]])
    assert missing(shares, real, None) == [(0, 1), (0, 0), (0, 2), (1, 3)]
    before = with_shares([(0, 0), (1, 3)], 1, shares)
    assert missing(shares, real, before) == [(0, 1), (0, 2)]


def test_a_row_has_no_more_than_so_many_memories_and_the_base_reads_the_rest():
    count = MOST + 2
    shares = torch.eye(count, count + 1).unsqueeze(0)
    pairs = missing(shares, torch.ones(1, count, dtype=torch.bool), None)
    assert pairs == [*((0, memory) for memory in range(MOST)), (0, count)]
    streams = with_shares(pairs, 1, shares)
    torch.testing.assert_close(streams.shares.sum(0), torch.ones(count))
    assert streams.shares[-1].tolist() == [0.0] * MOST + [1.0, 1.0]


def test_a_token_with_one_reader_keeps_its_logits_and_others_their_scale():
    logits = torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(0)) + 20
    shares = torch.tensor([[1.0, 0.25], [0.0, 0.75], [1.0, 1.0]])
    streams = Streams(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 2]), 2, 2, 1, shares)
    out = mixed(logits, streams)
    assert torch.equal(out[0, 0], logits[0, 0])
    assert torch.equal(out[1], logits[2])
    expected = 0.25 * logits[0, 1].softmax(-1) + 0.75 * logits[1, 1].softmax(-1)
    torch.testing.assert_close(out[0, 1].softmax(-1), expected)
    size = 0.25 * logits[0, 1].logsumexp(-1) + 0.75 * logits[1, 1].logsumexp(-1)
    torch.testing.assert_close(out[0, 1].logsumexp(-1), size)


def test_padding_without_a_reader_is_read_all_the_same():
    shares = torch.tensor([[[0.0, 0, 1], [0.5, 0.5, 0]]])
    pairs = missing(shares, torch.tensor([[False, True]]), None)
    streams = with_shares(pairs, 1, shares)
    assert pairs == [(0, 0), (0, 1)]
    assert streams.shares.tolist() == [[1.0, 0.5], [0.0, 0.5]]
