"""Trains what a gate reads at each token (`routing.reading`), on sequences that pass from memory to memory."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from lorary.base.rows import SplitRows
from lorary.model.active_route import ActiveRoute, apply_route
from lorary.model.modeling import LoraryForCausalLM
from lorary.model.streams import one_hot
from lorary.progress import progress_bars
from lorary.router_training.data import RoutingData
from lorary.router_training.queries import Queries
from lorary.router_training.sequences import (
    IGNORED,
    Asked,
    TokenSequence,
    asked_in_turn,
    drawn_pairs,
    drawn_prose,
    drawn_texts,
    prose,
    sentences_by_memory,
)
from lorary.router_training.settings import Training
from lorary.routing.features import counted_tokens
from lorary.routing.mixing import AT_TOKEN
from lorary.routing.parts import settled
from lorary.routing.reading import PARTS, Reading, window_state

_PAIRS, _SINGLE, _TEXTS, _PROSE = 160, 64, 640, 96
"""Sequences of each kind."""
_LEAST = 1e-4
"""Of a spread, so that a value that never changes is no division by nothing."""
_KEPT = 8
"""Every so manieth sequence is kept to measure by."""
_STEPS, _TOKENS, _LR, _DECAY = 1200, 4096, 5e-3, 0.1
"""Half of a step's tokens are of texts, half of questions with their answers, however many there are of either."""
_LANGUAGE_STEPS = 160
"""The last steps, in which the language model's loss takes part: one of them takes as long as hundreds of the others."""


@dataclass(frozen=True)
class Drawn:
    """Sequences with what the gate says of the parts of their questions, and the state of each of their tokens, [seq, state]."""

    sequences: tuple[TokenSequence, ...]
    parts: Float[Tensor, "sequences parts memories_and_none"]
    states: tuple[Tensor, ...]
    rows: SplitRows


@dataclass(frozen=True)
class Tokens:
    """The tokens of sequences without their first, which is not counted: each one's sequence, state, right memory, right part."""

    owner: Int[Tensor, " tokens"]
    states: Float[Tensor, "tokens state"]
    memory: Int[Tensor, " tokens"]
    part: Int[Tensor, " tokens"]

    @staticmethod
    def of(drawn: Drawn, chosen: Sequence[int]) -> Tokens:
        """Those of the sequences given by number."""
        counts = torch.tensor([len(drawn.states[i]) - 1 for i in chosen])
        memory, part = (
            torch.cat([torch.tensor(right[1:-1]) for right in own])
            for own in zip(*((drawn.sequences[i].memory, drawn.sequences[i].part) for i in chosen), strict=True)
        )
        states = torch.cat([drawn.states[i][1:] for i in chosen])
        return Tokens(torch.tensor(chosen).repeat_interleave(counts), states, memory, part)

    def drawn_by(self, generator: torch.Generator, count: int) -> Int[Tensor, " drawn"]:
        """The numbers of so many of them, half of texts and half of questions, as far as there are both."""
        pools = [pool for pool in ((self.part == 0).nonzero()[:, 0], (self.part != 0).nonzero()[:, 0]) if len(pool)]
        return torch.cat(
            [pool[torch.randint(len(pool), (count // len(pools),), generator=generator)] for pool in pools]
        )


def train_reading(
    model: LoraryForCausalLM, data: RoutingData, training: Training, *, quiet: bool = False
) -> dict[str, Any]:
    """Trains the reading of a composite's gate in place, all else frozen; tells what it does on kept sequences."""
    reading = model.gate.reading
    assert reading is not None, "only a gate that reads the window is trained at each token"
    drawn = draw(model, data, training.seed)
    kept = [i for i in range(len(drawn.sequences)) if i % _KEPT == _KEPT - 1]
    trained = [i for i in range(len(drawn.sequences)) if i % _KEPT != _KEPT - 1]
    tokens, generator = Tokens.of(drawn, trained), torch.Generator().manual_seed(training.seed)
    with torch.no_grad():
        reading.mean.copy_(tokens.states.mean(0))
        reading.spread.copy_(tokens.states.std(0) + _LEAST)
    reading.requires_grad_(True)
    optimizer = torch.optim.AdamW(reading.parameters(), lr=_LR, weight_decay=_DECAY)
    chance = random.Random(training.seed)
    try:
        with progress_bars(quiet) as bars, torch.enable_grad():
            bar = bars.start("training the gate at each token", _STEPS)
            for step in range(_STEPS):
                for group in optimizer.param_groups:
                    group["lr"] = _LR * min(1.0, (step + 1) / 20) * (1 - step / _STEPS)
                loss = _loss(reading, drawn.parts, tokens, tokens.drawn_by(generator, _TOKENS))
                if training.language_weight and step >= _STEPS - _LANGUAGE_STEPS:
                    read = chance.sample(trained, min(training.language_rows, len(trained)))
                    loss = loss + training.language_weight * language_loss(model, drawn, read)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                bar.advance()
    finally:
        reading.requires_grad_(False)
    return figures(reading, drawn, kept)


def draw(model: LoraryForCausalLM, data: RoutingData, seed: int) -> Drawn:
    """The sequences of a bank: single questions, two at once, and texts of several memories."""
    chance, tokenizer, router = random.Random(seed), model.tokenizer, model.router
    queries, none = data.trained, len(router.bank)
    asked = [Asked(e.text, e.memory, e.answer) for e in queries.examples]
    known = [question for question in asked if question.memory < none]
    single = chance.sample(asked, min(_SINGLE, len(asked)))
    unrelated = [question.text for question in asked if question.memory == none]
    unrelated += [sentence for paragraph in prose() for sentence in paragraph]
    sequences = [asked_in_turn(tokenizer, (question,), question.text) for question in single]
    sequences += drawn_pairs(tokenizer, known, _PAIRS, chance)
    sequences += drawn_texts(tokenizer, sentences_by_memory(router.bank), unrelated, _TEXTS, chance)
    sequences += drawn_prose(tokenizer, none, _PROSE, chance)
    chance.shuffle(sequences)
    said = _said(model, queries)
    row = {question.text: i for i, question in enumerate(asked)}
    some = torch.randint(len(asked), (len(sequences),), generator=torch.Generator().manual_seed(seed)).tolist()
    parts = torch.stack(
        [
            _filled([said[row[q]] for q in s.questions]) if s.part[0] else said[some[i]].expand(PARTS, -1)
            for i, s in enumerate(sequences)
        ]
    )
    rows = SplitRows(model.base, model.config.split_layer, sequences, int(tokenizer.pad_token_id))
    by_length = sorted(range(len(sequences)), key=lambda i: len(sequences[i].ids))
    for start in range(0, len(by_length), 32):
        rows.keep(by_length[start : start + 32])
    hidden = rows.hidden
    states = [hidden[s.ids].float() for s in sequences]
    windows = [window_state(h[None], counted_tokens((1, len(h))))[0][0] for h in states]
    return Drawn(tuple(sequences), parts, tuple(windows), rows)


@torch.no_grad()
def _said(model: LoraryForCausalLM, queries: Queries) -> Float[Tensor, "queries memories_and_none"]:
    """What the gate says of each trained question, which does not find itself, as the policy settles it."""
    said = [model.gate(queries.features.rows(part)) for part in torch.arange(len(queries)).split(1024)]
    return settled(torch.cat(said), model.router.policy)


def _filled(parts: Sequence[Tensor]) -> Float[Tensor, "parts memories_and_none"]:
    own = list(parts[:PARTS])
    return torch.stack([*own, *[own[-1]] * (PARTS - len(own))])


def _batch(
    drawn: Drawn, chosen: Sequence[int]
) -> tuple[Tensor, Tensor, Int[Tensor, "rows seq"], Int[Tensor, "rows seq"]]:
    """(parts, states, the right memory, the right part) of sequences; the last token of each leads to nothing."""

    def padded(values: Sequence[Tensor]) -> Tensor:
        return pad_sequence(list(values), batch_first=True, padding_value=IGNORED)

    states = pad_sequence([drawn.states[i] for i in chosen], batch_first=True)
    memory = padded([torch.tensor(drawn.sequences[i].memory[:-1]) for i in chosen])
    part = padded([torch.tensor(drawn.sequences[i].part[:-1]) for i in chosen])
    memory[:, 0] = part[:, 0] = IGNORED  # a row's first token is not counted, so nothing is read there
    return drawn.parts[list(chosen)], states, memory, part


def _loss(
    reading: Reading,
    parts: Float[Tensor, "sequences parts memories_and_none"],
    tokens: Tokens,
    drawn: Int[Tensor, " drawn"],
) -> Float[Tensor, ""]:
    """The cross-entropy of the right memory and of the right part at some tokens, and of what the text itself tells."""
    states, memory, part = (own[drawn].unsqueeze(1) for own in (tokens.states, tokens.memory, tokens.part))
    logits = reading(parts[tokens.owner[drawn]], states)
    apart = memory.masked_fill(part != 0, IGNORED)
    losses = torch.zeros(())
    for each, right in ((logits, memory), (reading.pointer(states), part), (reading.told(states), apart)):
        if bool((right != IGNORED).any()):
            entropy = functional.cross_entropy(each.flatten(0, 1), right.flatten(), ignore_index=IGNORED)
            losses = losses + entropy
    return losses


def language_loss(model: LoraryForCausalLM, drawn: Drawn, chosen: Sequence[int]) -> Float[Tensor, ""]:
    """The language model's mean loss on sequences whose tokens several memories predict, as the gate weighs them there.

    What each predicts by itself is fixed (`model.streams`), so only the gate has a gradient. Beside the sequences' own memories
    the likeliest take part.
    """
    parts, states, _, _ = _batch(drawn, chosen)
    reading = model.gate.reading
    assert reading is not None
    told, rows = reading(parts, states), [drawn.sequences[i] for i in chosen]
    logs = torch.cat([own[s.start - 1 : len(s.ids) - 1] for own, s in zip(told, rows, strict=True)])
    likeliest = logs.detach().logsumexp(0).topk(min(AT_TOKEN, logs.shape[1])).indices.tolist()
    readers = sorted({*likeliest, *(memory for s in rows for memory in s.memory)})
    said = [_likelihoods(model, drawn, chosen, reader) for reader in readers]
    return -(logs[:, readers].log_softmax(-1) + torch.stack(said, -1)).logsumexp(-1).mean()


@torch.no_grad()
def _likelihoods(
    model: LoraryForCausalLM, drawn: Drawn, chosen: Sequence[int], reader: int
) -> Float[Tensor, " labels"]:
    """The log-probability of each counted token of sequences that one memory reads, or the base, whose number is last."""
    weights = one_hot(torch.tensor([reader]), len(model.memories))
    with apply_route(ActiveRoute(weights), model.factors):
        logits, labels, _ = drawn.rows.logits(chosen)
    return -functional.cross_entropy(logits, labels, reduction="none")


@torch.no_grad()
def figures(reading: Reading, drawn: Drawn, kept: Sequence[int]) -> dict[str, Any]:
    """On kept sequences: the share of tokens whose right memory is likeliest, in texts and at answers, and of right parts."""
    shares: dict[str, list[bool]] = {"text_tokens": [], "answer_tokens": [], "parts": []}
    for i in kept:
        parts, states, memory, part = _batch(drawn, [i])
        start = drawn.sequences[i].start - 1
        right = (reading(parts, states).argmax(-1) == memory)[0, 1:].tolist()
        if drawn.sequences[i].part[0] == 0:
            shares["text_tokens"] += right
        else:
            shares["answer_tokens"] += right[max(0, start - 1) :]
            shares["parts"] += (reading.pointer(states).argmax(-1) == part)[0, max(1, start) :].tolist()
    told = {name: round(sum(own) / len(own), 4) for name, own in shares.items() if own}
    return {"sequences": len(drawn.sequences), "kept": len(kept), **told}
