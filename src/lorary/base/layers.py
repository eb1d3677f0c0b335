"""The decoder blocks of a base: where they lie, which linears they hold, and the fingerprint of their weights."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import nn

from lorary.errors import LoraryError
from lorary.tables import counted

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_OTHER_LINEARS = {"Conv1D", "Linear4bit", "Linear8bitLt", "QuantLinear"}
"""Layers that multiply by a matrix which is transposed or quantised; memories adapt `nn.Linear` alone."""


class BaseError(LoraryError):
    """A base that cannot be loaded or cannot carry memories: says which and why."""


def decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The L decoder layers. Raises BaseError where the blocks are not made of `nn.Linear`."""
    count = model.config.get_text_config(decoder=True).num_hidden_layers
    for module in model.get_decoder().modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            if odd := {type(part).__name__ for part in module.modules()} & _OTHER_LINEARS:
                raise BaseError(
                    f"the blocks of a {model.config.model_type!r} model use {sorted(odd)[0]}, not nn.Linear; "
                    "choose a base such as Llama, Qwen3, Mistral, Gemma 3, Phi-3 or GPT-NeoX"
                )
            return module
    raise BaseError(f"no list of {counted(count, 'decoder layer')} was found in a {model.config.model_type!r} model")


def layers_path(model: PreTrainedModel) -> str:
    """The module path of the decoder layers, such as `model.layers`."""
    layers = decoder_layers(model)
    return next(path for path, module in model.named_modules() if module is layers)


def block_linears(model: PreTrainedModel) -> dict[str, tuple[int, int]]:
    """Every linear of the decoder blocks that a memory may target: module path → (d_in, d_out)."""
    prefix = layers_path(model)
    return {
        f"{prefix}.{path.removesuffix('.base_layer')}": (module.in_features, module.out_features)
        for path, module in decoder_layers(model).named_modules()
        if isinstance(module, nn.Linear)
    }


def layer_of(path: str, prefix: str) -> int:
    """The number of the decoder layer that holds the module at `path`."""
    return int(path.removeprefix(prefix + ".").split(".")[0])


def mlp_targets(model: PreTrainedModel) -> list[str]:
    """The names of the MLP's linears, where facts are stored best: those outside attention."""
    return sorted({path.split(".")[-1] for path in block_linears(model) if "att" not in path.split(".")[-2]})


def attention(model: PreTrainedModel) -> str | None:
    """The name of the attention that a base runs, as `set_attn_implementation` takes it; None where the base computes
    attention in a way of its own, which cannot be replaced."""
    # transformers has a public way to set it, and none to read it.
    return model.config._attn_implementation if model._can_set_attn_implementation() else None


def fingerprint(model: PreTrainedModel) -> str:
    """Hex sha256 over the shapes of a base's weights and a sample of their values, the same in fp32 and bf16.

    Take it before mixtures are installed. Of a base that was quantised (`quantising.quantised`) it is that of the plain
    weights, on which its memories were written.
    """
    if (plain := getattr(model, "plain_fingerprint", None)) is not None:
        return str(plain)
    return fingerprint_of(model.config.model_type, dict(model.named_parameters()))


def fingerprint_of(model_type: str, weights: Mapping[str, torch.Tensor]) -> str:
    """The fingerprint of a base of a family with these weights, by their names as parameters of the model."""
    digest = hashlib.sha256(model_type.encode())
    for name, weight in sorted(weights.items()):
        digest.update(f"{name}{tuple(weight.shape)}".encode())
        flat = weight.detach().flatten()
        sample = flat[:: max(1, flat.numel() // 64)][:64].to("cpu", torch.bfloat16)
        digest.update(sample.view(torch.int16).numpy().tobytes())
    return digest.hexdigest()


def twin(model: PreTrainedModel) -> PreTrainedModel:
    """The same weights in module objects of their own: what is done to the twin's modules leaves the model as it was."""
    shared = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    return copy.deepcopy(model, shared)


def bare_twin(model: PreTrainedModel) -> PreTrainedModel:
    """A twin without the mixtures that a composite put into `model`, and without its hooks."""
    bare = twin(model)
    for path, module in list(bare.named_modules()):
        if isinstance(inner := getattr(module, "base_layer", None), nn.Linear):
            parent, _, name = path.rpartition(".")
            setattr(bare.get_submodule(parent), name, inner)
    unhook(decoder_layers(bare))
    return bare


def unhook(layers: nn.ModuleList) -> None:
    """Takes a composite's hooks off the decoder layers."""
    for layer in layers:
        for number, hook in list(layer._forward_pre_hooks.items()):
            if getattr(hook, "belongs_to_composite", False):
                del layer._forward_pre_hooks[number]
                layer._forward_pre_hooks_with_kwargs.pop(number, None)
