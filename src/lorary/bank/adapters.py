"""Stock PEFT LoRA folders: read as factors for the mixture, or refused with the reason."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from lorary.errors import LoraryError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
# Settings that change what the adapter computes in a way that ΔW = scale · B A does not hold.
_REFUSED = {
    "use_dora": "DoRA rescales the base's own weights",
    "modules_to_save": "whole modules are replaced",
    "lora_bias": "the update has a bias",
    "fan_in_fan_out": "its weights are stored transposed (Conv1D)",
    "layer_replication": "it changes the base's layers",
    "target_parameters": "it targets bare parameters, not linears",
    "trainable_token_indices": "it replaces embeddings",
    "alora_invocation_tokens": "it acts on some tokens only",
    "arrow_config": "it is a router, not a memory",
    "use_bdlora": "it is block-diagonal",
    "velora_config": "it changes the update",
    "kasa_config": "it changes the update",
}


class AdapterError(LoraryError):
    """An adapter that cannot be a memory of this bank: says which, why, and what is allowed."""


def read_adapter(folder: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(adapter_config, tensors) of a stock PEFT LoRA folder. Raises AdapterError where it is not one, or refused."""
    folder = Path(folder)
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS)
    except FileNotFoundError as error:
        missing = Path(error.filename or folder / WEIGHTS).name
        raise AdapterError(f"{folder} has no {missing}; a PEFT LoRA folder holds {CONFIG} and {WEIGHTS}") from error
    except (json.JSONDecodeError, SafetensorError, UnicodeDecodeError) as error:
        raise AdapterError(f"{folder} cannot be read ({error}); give a folder that PEFT saved") from error
    check_config(config, str(folder))
    return config, tensors


def check_config(config: Mapping[str, Any], where: str) -> None:
    """Raises AdapterError for a kind of adapter that a weighted sum of low-rank updates cannot represent."""
    if config.get("peft_type") != "LORA":
        raise AdapterError(f"{where}: a {config.get('peft_type')!r} adapter cannot be a memory; it must be LORA")
    for key, why in _REFUSED.items():
        if config.get(key):
            raise AdapterError(f"{where}: {key}={config[key]!r} cannot be represented ({why}); use plain LoRA")
    if config.get("bias", "none") != "none":
        raise AdapterError(f"{where}: bias={config['bias']!r} cannot be represented; use bias='none'")
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.split("_")[0] in ("pissa", "corda", "olora", "loftq"):
        raise AdapterError(
            f"{where}: init_lora_weights={start!r} changed the base's own weights; convert it to plain LoRA with PEFT"
        )


def scaling(config: Mapping[str, Any], path: str, r: int) -> float:
    """The factor on B A for the module at `path`: α / r, or α / √r with rsLoRA (arXiv 2312.03732)."""
    alpha = config.get("lora_alpha", 8)
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", path):
            alpha = value
            break
    return alpha / (math.sqrt(r) if config.get("use_rslora") else r)


def factors_of(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, int]] | None, where: str
) -> dict[str, tuple[Tensor, Tensor]]:
    """Module path → (A [r, d_in], B [d_out, r] with the scaling folded in).

    Args:
        shapes: the base's block linears, path → (d_in, d_out); None skips the check against the base.

    Raises:
        AdapterError: a tensor that is not a LoRA factor of a block linear, or has another shape than the base's.
    """
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        match = re.fullmatch(re.escape(PREFIX) + r"(.+)\.lora_([AB])\.weight", key)
        if match is None:
            raise AdapterError(
                f"{where}: tensor {key!r} is no LoRA factor of a linear; only lora_A and lora_B are allowed"
            )
        found.setdefault(match[1], {})[match[2]] = tensor
    factors = {}
    for path, pair in found.items():
        if set(pair) != {"A", "B"}:
            raise AdapterError(f"{where}: {path} has only lora_{next(iter(pair))}; it needs lora_A and lora_B")
        a, b = pair["A"], pair["B"]
        if shapes is not None and path not in shapes:
            raise AdapterError(
                f"{where}: {path} is no linear of the base's decoder blocks; the adapter is for another base or shape"
            )
        if shapes is not None and (a.shape[1], b.shape[0]) != shapes[path]:
            raise AdapterError(
                f"{where}: {path} is {a.shape[1]}→{b.shape[0]} in the adapter and {shapes[path][0]}→{shapes[path][1]} "
                "in the base; the adapter is for another base"
            )
        factors[path] = (a.float(), b.float() * scaling(config, path, a.shape[0]))
    if not factors:
        raise AdapterError(f"{where}: holds no LoRA factors")
    return factors
