"""Damage: what routes do to text that no memory is about."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from lorary.modeling import LoraryForCausalLM


@torch.no_grad()
def retention(model: LoraryForCausalLM, paragraphs: Sequence[str]) -> dict[str, float]:
    """Perplexity of `paragraphs` and the mean KL(base ‖ routed) a token, in nats.

    `policy` routes each paragraph by its text; `forced` puts each under one memory, in turn, which is wrong for it;
    `uniform` mixes all memories.
    """
    memories = len(model.memories)
    loss: dict[str, float] = {}
    kl: dict[str, float] = {}
    tokens = 0
    for number, paragraph in enumerate(paragraphs):
        ids = model.tokenizer(paragraph, return_tensors="pt").input_ids.to(model.device)
        ways: dict[str, dict[str, Any]] = {
            "policy": {"routing_text": paragraph},
            "forced": {"adapter_names": [model.memories[number % memories]]},
            "uniform": {"route_weights": torch.full((1, memories), 1 / memories)},
        }
        base = _predicted(model, ids, adapter_names=["__base__"])
        tokens += ids.shape[1] - 1
        loss["base"] = loss.get("base", 0.0) + _loss(base, ids)
        for name, given in ways.items():
            routed = _predicted(model, ids, **given)
            loss[name] = loss.get(name, 0.0) + _loss(routed, ids)
            kl[name] = kl.get(name, 0.0) + float(functional.kl_div(routed, base, reduction="sum", log_target=True))
    told = {f"perplexity_{name}": math.exp(total / tokens) for name, total in loss.items()}
    told |= {f"kl_{name}": total / tokens for name, total in kl.items()}
    return {**told, "perplexity_ratio": told["perplexity_policy"] / told["perplexity_base"], "tokens": tokens}


def _predicted(model: LoraryForCausalLM, ids: Tensor, **given: Any) -> Float[Tensor, "seq vocabulary"]:
    """The log-probabilities of each next token."""
    logits = model(ids, use_cache=False, **given).logits[0, :-1]
    return functional.log_softmax(logits.float(), -1)


def _loss(predicted: Float[Tensor, "seq vocabulary"], ids: Tensor) -> float:
    return float(functional.nll_loss(predicted, ids[0, 1:], reduction="sum"))
