"""PEFT's Arrow (Ostapenko et al. 2024, arXiv 2405.11157) over the memories of a bank: its weights, which need no training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from peft import PeftModel
from peft.tuners.lora.arrow import ArrowLoraLinearLayer, create_arrow_model
from peft.tuners.lora.config import ArrowConfig
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor

from lorary.base.loading import Base
from lorary.research.rivals import Contest, Outcome, RivalError, over_tokens

TOP_K = 3
"""PEFT's default: the memories that a token's weights are shared among."""


def new_arrow(base: Base, folders: Sequence[Any], seed: int = 0) -> PeftModel:
    """Arrow over the adapters in `folders`, with PEFT's defaults but for a seed: it searches its vectors from random ones.

    PEFT puts Arrow's router on every layer that has a linear of a target's name, and its forward pass fails where the
    adapters leave that layer out, as memories do below the split. There is nothing to weigh, so the linear is put back.

    Raises:
        RivalError: it cannot route over them: it wants one rank and the same targets, as PEFT says in its own words, and
            in each layer as many adapters as it mixes, or else its forward pass fails.
    """
    config = ArrowConfig(top_k=min(TOP_K, len(folders)), rng_seed=seed)
    try:
        model = create_arrow_model(base.model, [str(folder) for folder in folders], config)
    except (ValueError, TypeError) as error:
        raise RivalError(f"PEFT refuses these adapters: {str(error).splitlines()[0]}") from error
    for path, module in list(model.named_modules()):
        if not isinstance(module, LoraLayer):
            continue
        adapters = sum(name.startswith("task_") for name in module.lora_A)  # as PEFT calls the adapters
        if adapters == 0:
            model.set_submodule(path, module.get_base_layer())
        elif adapters < config.top_k:
            raise RivalError(
                f"PEFT's Arrow mixes {config.top_k} adapters in every layer, and {adapters} of {len(folders)} adapt {path}"
            )
    return model


@torch.no_grad()
def coefficients(layer: ArrowLoraLinearLayer, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch memories"]:
    """The weights that an Arrow layer gives each memory for an input: it computes them, and keeps them to itself."""
    prototypes: Any = layer.prototypes
    similarity = (x.to(prototypes.dtype) @ prototypes.T).abs()
    best = similarity.topk(layer.top_k, dim=-1)
    kept = torch.full_like(similarity, float("-inf")).scatter(-1, best.indices, best.values)
    return (kept / layer.temperature).softmax(-1)


@torch.no_grad()
def arrow_outcome(base: Base, contest: Contest, seed: int) -> Outcome:
    """Arrow's weights for the rows: how far each memory's first right singular vectors point along the tokens.

    Raises:
        RivalError: it cannot route over them, or weighs others in one layer than in another.
    """
    model, seen = new_arrow(base, contest.folders, seed).eval(), list[Tensor]()
    layers = [layer for layer in model.modules() if isinstance(layer, ArrowLoraLinearLayer)]
    if any(len(layer.task_adapter_names) < len(contest.folders) for layer in layers):
        raise RivalError("the memories adapt different layers, so Arrow's weights of them have no mean over layers")

    def look(layer: Any, args: tuple[Any, ...]) -> None:
        seen.append(coefficients(layer, args[0]).float().cpu())

    handles = [layer.register_forward_pre_hook(look) for layer in layers]
    scores, totals = torch.zeros(len(contest.prompts), len(contest.folders)), list[Tensor]()
    try:
        for rows, ids, real in contest.batches():
            seen.clear()
            model(input_ids=ids.to(base.model.device), logits_to_keep=1)
            weights = torch.stack(seen).mean(0)
            totals.append(torch.stack(seen).sum(-1)[:, real > 0].flatten())
            scores[rows] = over_tokens(weights, real)
    finally:
        for handle in handles:
            handle.remove()
    total = torch.cat(totals)
    return Outcome(scores, (round(float(total.min()), 4), round(float(total.max()), 4)))
