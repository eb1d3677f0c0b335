"""Prompts asked under many routes run the layers below the split once; what is answered is as if they ran whole."""

from __future__ import annotations

import pytest
import torch
from conftest import ADAPTERS, FACTS, empty_bank, save_adapter

from lorary.base.layers import decoder_layers
from lorary.base.prompts import prompt
from lorary.eval import shared_states
from lorary.eval.asking import Ask, Asker
from lorary.eval.shared_states import LowerStates
from lorary.model.composite import assemble
from lorary.routing.policy import Route

QUESTIONS = ["Who cooks?", "Name the oil that the lamplighters of the town burn in winter.", "Why?"]
NONE = Route((), (), "none", 1.0)


def only(name):
    return Route((name,), (1.0,), "caller", 1.0)


def whole(composite, question, route):
    """The answer where nothing is kept."""
    tokenizer = composite.tokenizer
    weights = torch.tensor([[1.0 if name in route.memories else 0.0 for name in composite.memories]])
    inputs = tokenizer(prompt(tokenizer, question), return_tensors="pt", add_special_tokens=False)
    output = composite.generate(**inputs, route_weights=weights, max_new_tokens=6, do_sample=False)
    return tokenizer.decode(output[0, inputs.input_ids.shape[1] :], skip_special_tokens=True).strip()


@pytest.fixture
def composite(base, encoder, tmp_path):
    """One whose memories leave the lowest layer alone."""
    bank = empty_bank(base)
    for seed, (name, given) in enumerate(ADAPTERS.items()):
        folder = save_adapter(base.model, tmp_path / name, seed, **{**given, "layers_to_transform": [1]})
        bank.add(folder, facts=FACTS[name], encoder=encoder, same_base=True)
    return assemble(bank, base, encoder=encoder)


@pytest.fixture
def lowest_runs(composite):
    """The number of tokens of each pass through the lowest layer (of its MLP: a layer that is skipped is called too)."""
    passes = []
    lowest = decoder_layers(composite.base)[0].mlp
    handle = lowest.register_forward_hook(lambda _, args, out: passes.append(out.shape[1]))
    yield passes
    handle.remove()


def test_each_route_s_answers_are_those_of_whole_prompts_and_the_lower_layers_read_each_prompt_once(
    composite, lowest_runs
):
    asker = Asker(composite, batch_size=8)
    for route in (NONE, *map(only, composite.memories)):
        found = [said.text for said in asker.answers([Ask(q, route=route, new_tokens=6) for q in QUESTIONS])]
        now = list(lowest_runs)
        assert found == [whole(composite, question, route) for question in QUESTIONS], route
        lowest_runs[:] = now
    assert sum(tokens > 1 for tokens in lowest_runs) == 1, "all else are single tokens of answers"


def test_states_are_the_same_for_a_prompt_alone_and_among_longer_ones(composite):
    tokenizer = composite.tokenizer
    weights = torch.eye(len(composite.memories))[:1]
    inputs = tokenizer(
        [prompt(tokenizer, q) for q in QUESTIONS], return_tensors="pt", padding=True, padding_side="left"
    )
    lower = LowerStates(composite.config.split_layer)
    among = lower.started(composite, inputs.input_ids, inputs.attention_mask, weights.expand(3, -1))
    for row in range(3):
        ids = inputs.input_ids[row, inputs.attention_mask[row].bool()][None]
        with torch.no_grad():
            plain = composite(ids, route_weights=weights, use_cache=True).past_key_values
        for layer, own in zip(among.layers, plain.layers, strict=True):
            length = ids.shape[1]
            torch.testing.assert_close(layer.keys[row : row + 1, :, -length:], own.keys, atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(layer.values[row : row + 1, :, -length:], own.values, atol=1e-5, rtol=1e-4)


def test_what_finds_no_room_is_run_anew_and_answered_alike(composite, lowest_runs, monkeypatch):
    monkeypatch.setattr(shared_states, "_HELD", 0)
    asker = Asker(composite, batch_size=8)
    for route in map(only, composite.memories[:2]):
        found = [said.text for said in asker.answers([Ask(q, route=route, new_tokens=6) for q in QUESTIONS])]
        now = list(lowest_runs)
        assert found == [whole(composite, question, route) for question in QUESTIONS]
        lowest_runs[:] = now
    assert sum(tokens > 1 for tokens in lowest_runs) == 2


def test_states_serve_no_model_whose_memories_reach_below_them(composite):
    split = composite.config.split_layer
    assert LowerStates(split).serves(composite)
    assert not LowerStates(split + 1).serves(composite)
    assert not LowerStates(0).serves(composite), "there is nothing below"
