"""What a recipe leaves open follows the base: which layers are adapted, and how fast each linear learns."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from conftest import FACTS, pico_model

from lorary.base.loading import Base
from lorary.base.rows import default_split
from lorary.memories.rates import LARGE, share_of_rate
from lorary.memories.recipe import Recipe
from lorary.memories.writing import Writer, write


@pytest.mark.parametrize(
    ("layers", "split"),
    [(2, 1), (4, 2), (12, 6), (16, 8), (18, 9), (24, 14), (28, 18), (30, 20), (36, 24), (80, 53)],
)
def test_the_split_leaves_ten_layers_or_half_of_them(layers, split):
    config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(num_hidden_layers=layers))
    assert default_split(SimpleNamespace(config=config)) == split
    assert layers - split >= min(10, layers // 2)


def test_small_weights_learn_slower_and_large_ones_at_the_recipe_s_rate():
    weights = torch.randn(64, 32, generator=torch.Generator().manual_seed(0))
    unit = weights / weights.square().mean().sqrt()
    assert share_of_rate(0.0395 * unit) == pytest.approx(0.0395 / LARGE, abs=1e-3)
    assert share_of_rate((0.0395 * unit).bfloat16()) == pytest.approx(0.0395 / LARGE, rel=1e-2)
    assert share_of_rate(LARGE * unit) == pytest.approx(1)
    assert share_of_rate(5 * unit) == 1.0


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_a_memory_over_weights_of_half_the_size_moves_half_as_far(family, tokenizer):
    recipe, moved = Recipe(r=2, lora_alpha=4, max_epochs=1, recall=None), []
    for size in (LARGE, LARGE / 2):
        model = pico_model(family)
        for name, weight in model.named_parameters():
            if ".mlp." in name:
                weight.data *= size / weight.square().mean().sqrt()
        base = Base("pico", None, model, tokenizer)
        (group,) = Writer(base, [FACTS["velka"]], recipe, 1).optimizer().param_groups
        assert group["share"] == size / LARGE
        [written] = write(base, [FACTS["velka"]], recipe, 1)
        moved.append(sum(float(up.abs().mean()) for _, up in written.factors.values()))
    assert moved[1] == pytest.approx(moved[0] / 2, rel=0.1), "AdamW moves each number by about its rate"
