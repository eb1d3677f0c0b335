"""Blocks written out by formulas: what they give and how they learn is what the base's own code does."""

from __future__ import annotations

import pytest
import torch
from conftest import FACTS, FAMILIES, pico_model

from lorary.base.layers import block_linears, decoder_layers
from lorary.base.rows import lower, upper
from lorary.memories.blocks import Blocks, blocks_above
from lorary.memories.recipe import Recipe
from lorary.memories.rows import kept_for_validation
from lorary.memories.writing import write
from lorary.model.active_route import ActiveRoute, apply_route
from lorary.model.mixture import install

IDS = torch.tensor([[5, 17, 230, 9, 41, 12, 7, 88], [301, 4, 4, 62, 5, 0, 0, 0], [9, 8, 7, 6, 5, 4, 390, 200]])
READ = torch.tensor([1, 7, 12, 12, 16, 0])  # one is read twice, as in a batch filled up
LIKE_LLAMA = {
    "llama": {},
    "mistral": {},
    "every head its own key": {"num_key_value_heads": 4},
    "one key for all": {"num_key_value_heads": 1},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "wide heads": {"head_dim": 16},
    "scaled positions": {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}},
}
TARGETS = {
    "mlp": ("gate_proj", "up_proj", "down_proj"),
    "attention": ("q_proj", "o_proj"),
    "one": ("v_proj",),
    "up": ("up_proj",),
}


def adapted(model, targets, memories=2, rank=3, split=1):
    """Learning mixtures of some memories in the layers from the split on."""
    chance = torch.Generator().manual_seed(1)
    shapes = {
        path: shape
        for path, shape in block_linears(model).items()
        if path.split(".")[-1] in targets and int(path.split(".")[2]) >= split
    }
    made = [
        {
            path: (torch.randn(rank, i, generator=chance) / 4, torch.randn(o, rank, generator=chance) / 4)
            for path, (i, o) in shapes.items()
        }
        for _ in range(memories)
    ]
    layers = install(model, made)
    for layer in layers.values():
        layer.down.requires_grad_(True)
        layer.up.requires_grad_(True)
    return layers


def pico(name, dtype=torch.float32, layers=3):
    family = name if name in FAMILIES else "llama"
    model = pico_model(family, num_hidden_layers=layers, **LIKE_LLAMA.get(name, {}))
    for parameter in model.parameters():  # norms at one and biases at zero would hide a fault
        if parameter.dim() == 1:
            parameter.data += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)) / 3
    return model.to(dtype)


def learnt(layers, last):
    """The gradients of all factors, of a loss over the last hidden state."""
    factors = [factor for layer in layers.values() for factor in (layer.down, layer.up)]
    shares = torch.linspace(-1, 1, last.numel()).view(last.shape).to(last)
    return torch.autograd.grad((last * shares).sum(), factors, allow_unused=True)


@pytest.mark.parametrize("targets", list(TARGETS))
@pytest.mark.parametrize("name", list(LIKE_LLAMA))
@pytest.mark.parametrize("split", [0, 1])
def test_states_and_gradients_are_those_of_the_base_s_own_code(name, targets, split):
    model = pico(name)
    layers = adapted(model, TARGETS[targets], split=split)
    blocks = blocks_above(model, split, layers, IDS)
    assert blocks is not None
    one_hot = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    hidden = lower(model, split, IDS)
    ours = blocks(hidden, READ, one_hot.repeat_interleave(3, 1))
    with apply_route(ActiveRoute(one_hot.unsqueeze(1))):
        theirs = upper(model, split, hidden).flatten(0, 1)[READ]
    assert torch.allclose(ours, theirs, atol=1e-5)
    for own, their in zip(learnt(layers, ours), learnt(layers, theirs), strict=True):
        assert torch.allclose(own, their, rtol=1e-3, atol=1e-4)


def test_half_the_digits_give_the_same_but_for_rounding():
    model = pico("llama", torch.bfloat16)
    layers = adapted(model, TARGETS["mlp"])
    for layer in layers.values():
        layer.float()
        layer.base_layer.bfloat16()
    blocks = blocks_above(model, 1, layers, IDS)
    assert blocks is not None
    gains, hidden = torch.ones(3, 6, dtype=torch.bfloat16), lower(model, 1, IDS)
    ours = blocks(hidden, READ, gains)
    with apply_route(ActiveRoute(torch.ones(3, 1, 2, dtype=torch.bfloat16))):
        theirs = upper(model, 1, hidden).flatten(0, 1)[READ]
    assert ours.dtype == torch.bfloat16
    assert (ours - theirs).float().norm() < 0.02 * theirs.float().norm()
    for own, their in zip(learnt(layers, ours), learnt(layers, theirs), strict=True):
        assert own.dtype == torch.float32
        assert (own - their).norm() < 0.05 * their.norm()


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"llama", "mistral"}))
def test_blocks_of_another_build_run_as_they_are(family):
    model = pico_model(family, num_hidden_layers=3)
    names = {path.split(".")[-1] for path in block_linears(model)}
    assert blocks_above(model, 1, adapted(model, names), IDS) is None


@pytest.mark.parametrize("odd", ["activation", "window", "own code"])
def test_blocks_that_differ_in_what_their_parts_do_run_as_they_are(odd):
    changes = {"activation": {"hidden_act": "gelu"}, "window": {"sliding_window": 4}}.get(odd, {})
    model = pico_model("mistral" if odd == "window" else "llama", num_hidden_layers=3, **changes)
    layers = adapted(model, TARGETS["mlp"])
    if odd == "own code":
        mlp = decoder_layers(model)[2].mlp
        mlp.forward, plain = lambda x: 0.8 * plain(x), mlp.forward
    assert blocks_above(model, 1, layers, IDS) is None


def test_the_base_s_weights_have_no_gradient_and_are_not_copied():
    model = pico("llama")
    layers = adapted(model, TARGETS["mlp"])
    blocks = Blocks(model, 1, layers)
    held = {parameter.data_ptr() for parameter in model.parameters()}
    assert {layer.weight.data_ptr() for block in blocks.blocks for layer in block.linears} <= held
    blocks(lower(model, 1, IDS), READ, torch.ones(3, 6)).sum().backward()
    assert all(parameter.grad is None for parameter in model.parameters() if not parameter.requires_grad)


def test_a_memory_is_written_as_by_the_base_s_own_code(base):
    recipe = Recipe(max_epochs=2, recall=None, memories_at_once=2)
    memories = [kept_for_validation(own) for own in FACTS.values()]
    ours, theirs = (write(base, memories, recipe, 1, plain=plain) for plain in (False, True))
    for own, their in zip(ours, theirs, strict=True):
        assert own.validation == their.validation
        assert own.shown == their.shown
        for path, pair in own.factors.items():
            for factor, other in zip(pair, their.factors[path], strict=True):
                assert torch.allclose(factor, other, rtol=1e-2, atol=1e-3)
