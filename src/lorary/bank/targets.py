"""Which modules a LoRA config adapts, and with which rank and scale: PEFT's own rules, without PEFT."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

ALL_LINEAR = "all-linear"
BESIDE_BLOCKS = ("lm_head", "embed_out", "model.embed_tokens", "gpt_neox.embed_in", "transformer.wte")
"""Heads and embeddings, by the paths that families give them."""
PATH_ENDS_IN = r"(.*\.)?({})$"
LAYER_AFTER = r"(?:^|.*?\.){}\.(?P<idx>\d+)\."


def targets(config: Mapping[str, Any], path: str) -> bool:
    """Whether the config adapts the linear at `path`, as PEFT's `check_target_module_exists` decides.

    Args:
        path: of a linear in the decoder blocks, such as `model.layers.0.mlp.up_proj`, or of a head or an embedding.
    """
    excluded, wanted = config.get("exclude_modules"), config["target_modules"]
    if excluded and (re.fullmatch(excluded, path) if isinstance(excluded, str) else _ends_in(path, excluded)):
        return False
    if isinstance(wanted, str):
        # All linears of the blocks: PEFT leaves out the head.
        all_linear = wanted.lower() == ALL_LINEAR and path not in BESIDE_BLOCKS
        return all_linear or re.fullmatch(wanted, path) is not None
    if path in wanted:
        return True
    layers = config.get("layers_to_transform")
    if not _ends_in(path, wanted) or layers is None or layers == []:
        return _ends_in(path, wanted)
    layer = _layer(path, config.get("layers_pattern"))
    return layer is not None and layer in ([layers] if isinstance(layers, int) else layers)


def _ends_in(path: str, names: list[str]) -> bool:
    return any(path == name or path.endswith(f".{name}") for name in names)


def _layer(path: str, lists: str | list[str] | None) -> int | None:
    """The first layer number in `path`, after the name of a module list where names are given."""
    if not lists:
        number = re.match(r".*?\.[^.]*\.(?P<idx>\d+)\.", path)
        return int(number["idx"]) if number else None
    for name in [lists] if isinstance(lists, str) else lists:
        if number := re.match(LAYER_AFTER.format(name), path):
            return int(number["idx"])
    return None


def by_pattern(patterns: Mapping[str, Any] | None, path: str, default: Any) -> Any:
    """The value of the first pattern that `path` ends in, as PEFT's `get_pattern_key` decides: their order counts."""
    for pattern, value in (patterns or {}).items():
        if re.match(PATH_ENDS_IN.format(pattern), path):
            return value
    return default


def rank(config: Mapping[str, Any], path: str) -> int:
    """The rank r of the module at `path`."""
    return by_pattern(config.get("rank_pattern"), path, config.get("r", 8))


def scaling(config: Mapping[str, Any], path: str, r: int) -> float:
    """The factor on B A for the module at `path`: α / r, or α / √r with rsLoRA (arXiv 2312.03732)."""
    alpha = by_pattern(config.get("alpha_pattern"), path, config.get("lora_alpha", 8))
    return alpha / (math.sqrt(r) if config.get("use_rslora") else r)
