"""Which modules a config adapts, and with which rank and alpha: the rules against PEFT's own."""

from __future__ import annotations

import pytest
from peft import LoraConfig
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.other import get_pattern_key

from lorary.bank.targets import by_pattern, targets

PATHS = [f"model.layers.{n}.{m}" for n in (0, 1, 11) for m in ("self_attn.q_proj", "mlp.up_proj", "mlp.experts.1.w")]
PATHS += ["layers.1.up_proj", "gpt_neox.layers.1.attention.dense"]
CHOICES = [
    {"target_modules": wanted, "exclude_modules": excluded, "layers_to_transform": layers, "layers_pattern": lists}
    for wanted in (["q_proj"], ["up_proj", "proj"], ["mlp.up_proj", "w"], ["model.layers.1.mlp.up_proj", "dense"])
    for excluded in (None, [], ["up_proj"], ["model.layers.0.self_attn.q_proj"], r".*\.1\..*")
    for layers, lists in ((None, None), (0, None), ([], None), ([1, 11], []), ([1], "layers"), ([1], ["h", "layers"]))
]
CHOICES += [{"target_modules": wanted} for wanted in (r".*up_proj", r"model\.layers\.1.*", "up_proj")]


@pytest.mark.parametrize("path", PATHS)
def test_modules_are_targeted_by_peft_s_rules(path):
    for choice in CHOICES:
        assert targets(choice, path) == bool(check_target_module_exists(LoraConfig(**choice), path)), choice


@pytest.mark.parametrize("path", PATHS)
def test_the_first_pattern_that_matches_counts_as_in_peft(path):
    for patterns in ({"up_proj": 1, ".*up_proj": 2}, {".*up_proj": 2, "up_proj": 1}, {"proj": 3}, {"^model.*": 4}, {}):
        expected = patterns.get(get_pattern_key(patterns.keys(), path), 8)
        assert by_pattern(patterns, path, 8) == expected
