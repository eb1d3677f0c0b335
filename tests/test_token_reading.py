"""A gate that decides at each token by the window: read at once or step by step it decides alike, and it learns spans."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import ask
from torch.nn import functional

from lorary.base.questions import clauses_of
from lorary.base.rows import SplitRows
from lorary.errors import LoraryError
from lorary.model.composite import load_composite
from lorary.model.configuration import LoraryConfig
from lorary.research.token_questions import KINDS
from lorary.research.token_study import CONDITIONS, token_study
from lorary.router_training.sequences import text_of
from lorary.router_training.settings import Training
from lorary.router_training.tokens import Drawn, language_loss
from lorary.router_training.training import train_router
from lorary.routing.features import counted_tokens
from lorary.routing.gate import TOKEN_FEATURES
from lorary.routing.parts import settled
from lorary.routing.policy import Policy, decide_tokens
from lorary.routing.reading import PARTS, Reading, window_state

BOTH = "Who cooks at Ormen station? And which oil do the lamplighters burn?"


def test_the_window_is_the_mean_of_the_last_tokens():
    hidden = torch.randn(2, 9, 4, generator=torch.Generator().manual_seed(0))
    counted = counted_tokens((2, 9))
    state, _ = window_state(hidden, counted, window=3)
    units = functional.normalize(hidden, dim=-1)
    torch.testing.assert_close(state[:, 7], torch.cat([units[:, 7], units[:, 5:8].mean(1)], -1))
    torch.testing.assert_close(state[:, 2], torch.cat([units[:, 2], units[:, 1:3].mean(1)], -1))
    assert not state[:, 0].any(), "a row's first token is not counted"


def test_the_window_goes_on_from_the_sums():
    hidden = torch.randn(2, 9, 4, generator=torch.Generator().manual_seed(0))
    counted = counted_tokens((2, 9))
    whole, _ = window_state(hidden, counted, window=3)
    parts, sums = [], None
    for part in (slice(0, 5), slice(5, 6), slice(6, 9)):
        state, sums = window_state(hidden[:, part], counted[:, part], sums, window=3)
        parts.append(state)
    torch.testing.assert_close(torch.cat(parts, 1), whole)


def test_reading_at_once_and_step_by_step_is_alike(window_composite):
    model = window_composite
    ids = ask(model.tokenizer, BOTH)["input_ids"]
    whole = model(ids, routing_text=[BOTH], use_cache=False)
    weights = whole.route_weights
    assert (weights != weights[:, :1]).any(), "the route changes from token to token"
    output = model(ids[:, :7], routing_text=[BOTH])
    logits, routes = [output.logits], [output.route_weights]
    for token in ids[:, 7:].split(1, dim=1):
        output = model(token, past_key_values=output.past_key_values)
        logits.append(output.logits)
        routes.append(output.route_weights)
    torch.testing.assert_close(torch.cat(routes, 1), weights, atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.cat(logits, 1), whole.logits, atol=1e-3, rtol=0)


def test_a_batch_reads_what_each_row_reads_alone(window_composite):
    model, short = window_composite, "Ormen airlock code?"
    batch = ask(model.tokenizer, BOTH, short)
    alone = ask(model.tokenizer, short)
    both = model(**batch, routing_text=[BOTH, short], use_cache=False)
    one = model(**alone, routing_text=[short], use_cache=False)
    width = alone["input_ids"].shape[1]
    torch.testing.assert_close(both.route_weights[1:, -width:], one.route_weights, atol=1e-4, rtol=0)


def test_a_memory_joins_and_leaves_the_reading():
    reading = Reading(3, 4)
    reading.tell.data.normal_()
    parts, state = torch.randn(1, PARTS, 4), torch.randn(1, 2, 8)
    before = reading(parts, state)
    reading.append()
    wider = torch.cat([parts[..., :3], torch.full((1, PARTS, 1), -1e9), parts[..., 3:]], -1)
    after = reading(wider, state)
    assert after.shape == (1, 2, 5)
    reading.keep(torch.tensor([0, 1, 2]))
    torch.testing.assert_close(reading(parts, state), before)


@pytest.mark.parametrize(
    ("question", "clauses"),
    [
        ("Who cooks at Ormen, and who cooks at Velka?", ["Who cooks at Ormen?", "Who cooks at Velka?"]),
        (
            "Name the cook of Ormen. Tell me the code of Velka.",
            ["Name the cook of Ormen.", "Tell me the code of Velka."],
        ),
        ("Who are Ada and Bo?", ["Who are Ada and Bo?"]),
        ("Who cooks at Ormen?", ["Who cooks at Ormen?"]),
    ],
)
def test_clauses(question, clauses):
    assert clauses_of(question) == clauses


def test_each_part_of_a_question_has_its_own_memory(window_composite):
    model = window_composite
    parts = model.router.features([BOTH, "Who cooks at Ormen and Velka stations?"]).parts
    best = parts[..., :-1].argmax(-1)
    assert [model.memories[i] for i in best[0, :2].tolist()] == ["ormen", "lamps"]
    assert best[0, 1:].unique().numel() == 1, "the last part fills up"
    alone = model.router.query_features(["Who cooks at Ormen station?"])
    torch.testing.assert_close(parts[0, 0], model.gate(alone)[0])


def test_the_policy_settles_each_part_before_its_tokens_are_decided():
    told = torch.tensor([[0.6, 0.1, 0.3], [0.3, 0.1, 0.6], [0.45, 0.45, 0.1]]).log()
    settled_ = settled(told, Policy(t_gate=0.5)).softmax(-1)
    torch.testing.assert_close(settled_[0], torch.tensor([6 / 7, 1 / 7, 0]))
    assert settled_[1:].tolist() == [[0, 0, 1], [0, 0, 1]], "below the threshold, or a tie, it is no memory's"
    assert not settled(told[:2], Policy(t_gate=0.0)).softmax(-1)[:, -1].any()


def test_a_requests_policy_settles_its_tokens(window_composite):
    model = window_composite
    features = model.router.features([BOTH])
    hidden = torch.zeros(1, 2, model.gate.reading.mean.shape[0])
    model.gate.reading.point_bias.data = torch.tensor([-50.0, 50.0, 0.0, 0.0, 0.0])
    asked = features.with_hidden(hidden)
    assert model.router.decide(asked, Policy(t_gate=0.0)).weights.any()
    assert not model.router.decide(asked, Policy(t_gate=1.1)).weights.any()


def test_a_token_is_read_by_the_likeliest_or_by_the_base():
    told = torch.tensor([[[0.5, 0.3, 0.1, 0.1], [0.93, 0.03, 0.02, 0.02], [0.2, 0.1, 0.1, 0.6], [0.5, 0.1, 0.1, 0.3]]])
    decision = decide_tokens(told, Policy(t_gate=0.99))
    expected = torch.tensor([[[0.5, 0.3, 0.1], [0.93, 0.03, 0.02], [0, 0, 0], [0, 0, 0]]])
    torch.testing.assert_close(decision.weights, expected)
    assert decision.source.tolist() == [[1, 1, 0, 0]]
    assert not decide_tokens(told, Policy(sources=())).weights.any()


def test_a_gate_of_tokens_learns_spans_and_is_the_same_when_loaded(bank, base, encoder, tmp_path):
    out = tmp_path / "composite"
    for name, memory in bank.memories.items():
        facts = tuple(replace(fact, statement=f"Of {name} it is told: {fact.answer}.") for fact in memory.facts)
        bank.memories[name] = replace(memory, facts=facts).with_keys(encoder)
    training = Training(granularity="token", max_epochs=1, language_weight=0.1, language_rows=2)
    model = train_router(bank, out=out, base=base, training=training, quiet=True)
    told = model.config.router_training["tokens"]
    assert told["parts"] > 0.5
    assert model.router.policy.sources == ("gate",)
    loaded = load_composite(out, dtype="float32")
    ids = ask(model.tokenizer, BOTH)["input_ids"]
    assert torch.equal(model(ids).route_weights, loaded(ids).route_weights)
    results = token_study(out, out=tmp_path / "study", texts=3, questions=2, quiet=True)
    assert set(results["perplexity"]) == set(CONDITIONS)
    assert set(results["questions"]) == set(KINDS)
    assert len(results["answers"]["alone"][0]["said"]) == 2
    assert set(results["unrelated"]) == {"questions", "tokens", "perplexity_ratio"}
    assert results == token_study(out, out=tmp_path / "study", texts=3, questions=2, quiet=True)


def test_the_language_loss_is_that_of_what_memories_predict_by_themselves(window_composite):
    model, texts = window_composite, ["Halvard cooks at Ormen. Moth oil burns.", "Velka has a lamp."]
    sequences = [text_of(model.tokenizer, [(text, number)]) for number, text in enumerate(texts)]
    rows = SplitRows(model.base, model.config.split_layer, sequences, int(model.tokenizer.pad_token_id))
    rows.keep([0, 1])
    states = [rows.hidden[own.ids] for own in sequences]
    windows = tuple(window_state(own[None], counted_tokens((1, len(own))))[0][0] for own in states)
    parts = torch.randn(2, PARTS, len(model.memories) + 1, generator=torch.Generator().manual_seed(0))
    model.gate.reading.requires_grad_(True)
    loss = language_loss(model, Drawn(tuple(sequences), parts, windows, rows), [0, 1])
    loss.backward()
    assert model.gate.reading.tell.grad.abs().sum() > 0
    names, losses = [*model.memories, "__base__"], []
    for own, part, window in zip(sequences, parts, windows, strict=True):
        ids = torch.tensor([own.ids]).expand(len(names), -1)
        said = model(ids, adapter_names=names, use_cache=False).logits[:, :-1].softmax(-1)
        shares = model.gate.reading(part[None], window[None])[0].softmax(-1).T
        mixed = (shares.unsqueeze(-1) * said).sum(0)[torch.arange(len(own.ids) - 1), list(own.ids[1:])]
        losses.append(-mixed.log()[own.start - 1 :])
    torch.testing.assert_close(loss, torch.cat(losses).mean(), atol=1e-4, rtol=1e-4)


def test_a_window_needs_a_route_a_token():
    with pytest.raises(LoraryError, match="the window is read at each token; give granularity 'token'"):
        Training(features=("asked", "window"))
    assert Training(features=("asked", "window"), granularity="token").granularity == "token"


def test_a_composite_that_reads_a_window_decides_at_each_token(window_composite, tmp_path):
    with pytest.raises(LoraryError, match="granularity is 'query'; give granularity 'token'"):
        LoraryConfig(features=TOKEN_FEATURES)
    window_composite.save_pretrained(tmp_path)
    with pytest.raises(LoraryError, match="granularity is 'query'; give granularity 'token'"):
        load_composite(tmp_path, granularity="query")
