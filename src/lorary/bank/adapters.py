"""Stock PEFT LoRA folders: read as factors for the mixture, or refused with the reason."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from lorary.bank.lora_config import AdapterError, check_config, plain
from lorary.bank.targets import BESIDE_BLOCKS, rank, scaling, targets
from lorary.base.layers import layer_of

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
_PICKLE = "adapter_model.bin"
_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
_WRAPPERS = {"_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""What torch.compile, DDP, FSDP and activation checkpointing put into a module's path."""
_FACTOR = re.compile(re.escape(PREFIX) + r"(.+)\.lora_([AB])\.weight")
_NAMED_FACTOR = re.compile(r"(.+\.lora_[AB])\.([^.]+)\.weight")
_TRAINING_ALONE = "lora_velora_embed"
"""A buffer that VeLoRA's backward pass reads; at inference nothing does."""
_OTHERS = {
    "lora_magnitude_vector": "it belongs to DoRA, which rescales the base's own weights",
    "lora_embedding_": "it adapts an embedding, not a linear of the decoder blocks",
    ".modules_to_save": "it replaces a whole module",
    ".bias": "it is a trained bias",
    ".lora_": "it belongs to another kind of LoRA",
    ".weight": "it is a whole weight (PEFT saves embeddings that were resized or targeted; where they are the base's still, "
    "save the adapter again by save_pretrained(FOLDER, save_embedding_layers=False))",
}


def read_adapter(folder: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(adapter_config, tensors) of a stock PEFT LoRA folder, as PEFT applies them at inference.

    Where both `adapter_model.safetensors` and `adapter_model.bin` lie there, the first counts, as for PEFT.

    Raises:
        AdapterError: the folder is not one, or its update is not ΔW = scale · B A.
    """
    folder = Path(folder)
    try:
        config = json.loads((folder / CONFIG).read_bytes())
        if not (folder / WEIGHTS).exists() and (folder / _PICKLE).exists():
            raise AdapterError(_how_to_convert(folder))
        tensors = load_file(folder / WEIGHTS)
    except FileNotFoundError as error:
        missing = Path(error.filename or folder / WEIGHTS).name
        within = sorted(str(file.parent) for file in folder.glob(f"*/{CONFIG}"))
        hint = f"; of the folders within it, these hold adapters: {within}" if within else ""
        raise AdapterError(
            f"{folder} has no {missing}; a PEFT LoRA folder holds {CONFIG} and {WEIGHTS}{hint}"
        ) from error
    except AdapterError:
        raise
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise AdapterError(f"{folder} cannot be read ({error}); give a folder that PEFT saved") from error
    check_config(config, str(folder))
    return plain(config), plain_names(tensors, str(folder))


def _how_to_convert(folder: Path) -> str:
    code = (
        "import torch; from safetensors.torch import save_file; "
        f"save_file({{k: v.contiguous() for k, v in torch.load('{_PICKLE}', weights_only=True).items()}}, '{WEIGHTS}')"
    )
    return (
        f"{folder} has no {WEIGHTS}, only {_PICKLE}; that is a pickle, which may run code when it is opened, so Lorary "
        f'never opens it. If you trust it, convert it once in its folder: python -c "{code}"'
    )


def fresh_adapter(
    shapes: Mapping[str, tuple[int, int]], layers_path: str, base: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(adapter_config, tensors) of an adapter that adds nothing, as PEFT starts one: A is random, B is zero.

    It has rank 1 and adapts the smallest linear of the last layer, so a split is no lower for it.

    Args:
        shapes: the base's block linears, path → (d_in, d_out).
        base: its name.
    """
    last = max(layer_of(path, layers_path) for path in shapes)
    path = min((path for path in shapes if layer_of(path, layers_path) == last), key=lambda path: sum(shapes[path]))
    d_in, d_out = shapes[path]
    bound = 1 / math.sqrt(d_in)
    a = torch.empty(1, d_in).uniform_(-bound, bound, generator=torch.Generator().manual_seed(0))
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": 1,
        "lora_alpha": 1,
        "target_modules": [path],
    }
    return config, {f"{PREFIX}{path}.lora_A.weight": a, f"{PREFIX}{path}.lora_B.weight": torch.zeros(d_out, 1)}


def plain_names(tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """The tensors under the names that PEFT saves: without wrappers' prefixes, and without the adapter's own name."""
    named = dict[str, Tensor]()
    for key, tensor in tensors.items():
        name = ".".join(part for part in key.split(".") if part not in _WRAPPERS)
        if match := _NAMED_FACTOR.fullmatch(name):
            name = f"{match[1]}.weight"
        if _TRAINING_ALONE in name:
            continue
        if name in named:
            raise AdapterError(f"{where}: two tensors stand for {name!r}; give a folder with one adapter")
        named[name] = tensor
    return named


def check_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """Raises AdapterError where a tensor holds NaN or infinity."""
    if all(bool(torch.isfinite(_greatest(tensors, dtype))) for dtype in {tensor.dtype for tensor in tensors.values()}):
        return
    for key, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise AdapterError(
                f"{where}: tensor {key!r} holds NaN or infinity, so every answer would be NaN; its training diverged "
                "or its file is damaged; give an earlier checkpoint"
            )


def _greatest(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor:
    """The greatest absolute value in the tensors of a dtype; NaN where one holds it. One look at all takes a quarter of the time
    that a look at each takes."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors.values() if tensor.dtype == dtype]).abs().max()


def check_layout(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, int]], where: str
) -> None:
    """Compares the names, shapes and dtypes of an adapter's tensors with its config and with the base.

    Args:
        shapes: the base's block linears, path → (d_in, d_out).

    Raises:
        AdapterError: a tensor that is no LoRA factor, one that the config does not target or gives another rank, one that
            the base has no linear for, or a targeted linear without tensors.
    """
    pairs = _pairs_of(tensors, shapes, where)
    for path, (a, _) in pairs.items():
        if not targets(config, path):
            targeting = {key: config[key] for key in _TARGETING if config.get(key) not in (None, [])}
            raise AdapterError(
                f"{where}: holds factors for {path}, which its config does not target ({targeting}), so PEFT would leave "
                "them out; mend the config, or remove the tensors"
            )
        if len(a) != rank(config, path):
            raise AdapterError(
                f"{where}: {path} has rank {len(a)}, its config says {rank(config, path)} (r={config.get('r', 8)}, "
                f"rank_pattern={config.get('rank_pattern') or {}}); mend the config: the scale depends on the rank"
            )
    bare = [path for path in (*shapes, *BESIDE_BLOCKS) if path not in pairs and targets(config, path)]
    if bare:
        raise AdapterError(
            f"{where}: its config targets {bare[0]}{f' and {len(bare) - 1} more' if bare[1:] else ''} without factors; "
            "the file is incomplete, or the config is of another adapter"
        )


_TARGETING = ("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern")


def paths_of(names: Iterable[str]) -> dict[str, None]:
    """The module paths that an adapter's tensors adapt, in order."""
    return {match[1]: None for match in map(_FACTOR.fullmatch, names) if match}


def factors_of(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, int]] | None, where: str
) -> dict[str, tuple[Tensor, Tensor]]:
    """Module path → (A [r, d_in], B [d_out, r] with the scaling folded in).

    Args:
        shapes: the base's block linears, path → (d_in, d_out); None skips the check against the base.

    Raises:
        AdapterError: a tensor that is not a LoRA factor of a block linear, or has another shape than the base's.
    """
    pairs = _pairs_of(tensors, shapes, where)
    return {path: (a.float(), b.float() * scaling(config, path, len(a))) for path, (a, b) in pairs.items()}


def _pairs_of(
    tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, int]] | None, where: str
) -> dict[str, tuple[Tensor, Tensor]]:
    """Module path → (A [r, d_in], B [d_out, r]) as they are stored. Raises AdapterError as `factors_of` does."""
    sides: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        match = _FACTOR.fullmatch(key)
        if match is None:
            raise AdapterError(f"{where}: {_what_else(key)}")
        if tensor.dtype not in _DTYPES or tensor.dim() != 2 or tensor.numel() == 0:
            raise AdapterError(
                f"{where}: tensor {key!r} is {str(tensor.dtype).removeprefix('torch.')} of shape {list(tensor.shape)}; "
                "a factor is a matrix of floating-point numbers of 16 bits or more (an empty one was saved from a "
                "shard; gather the shards and save again)"
            )
        sides.setdefault(match[1], {})[match[2]] = tensor
    pairs = {}
    for path, pair in sides.items():
        if set(pair) != {"A", "B"}:
            raise AdapterError(f"{where}: {path} has only lora_{next(iter(pair))}; it needs lora_A and lora_B")
        a, b = pair["A"], pair["B"]
        if shapes is not None and path not in shapes:
            raise AdapterError(
                f"{where}: {path} is no linear of the base's decoder blocks, which are all that a memory adapts; the "
                "adapter is for another base, or it targets the head, too"
            )
        if shapes is not None and (a.shape[1], b.shape[0]) != shapes[path]:
            raise AdapterError(
                f"{where}: {path} is {a.shape[1]}→{b.shape[0]} in the adapter and {shapes[path][0]}→{shapes[path][1]} "
                "in the base; the adapter is for another base"
            )
        if len(a) != b.shape[1]:
            raise AdapterError(f"{where}: {path} has lora_A of rank {len(a)} and lora_B of rank {b.shape[1]}")
        pairs[path] = (a, b)
    if not pairs:
        raise AdapterError(f"{where}: holds no LoRA factors")
    return pairs


def _what_else(key: str) -> str:
    """Why a tensor is no factor, as an error tells it."""
    if re.fullmatch(r"(.+)\.lora_[AB]\.weight", key):
        return f"tensor {key!r} lacks the prefix {PREFIX!r}, so PEFT would leave it out; rename it as PEFT does"
    why = next((why for part, why in _OTHERS.items() if part in key), "PEFT's LoRA has no tensor of that name")
    return f"tensor {key!r} is no LoRA factor of a linear: {why}; only lora_A and lora_B are allowed"
