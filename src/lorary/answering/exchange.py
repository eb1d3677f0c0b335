"""Exchange: a question is put to its memory in the trained wording that it is nearest to, where one is near enough.

A memory is surest of the words that it was trained on. The answer is still the memory's, and tells as what it was asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from lorary.answering.passages import Prompt
from lorary.base.prompts import last_user
from lorary.routing.policy import Policy
from lorary.routing.router import Router

if TYPE_CHECKING:
    from lorary.model.modeling import LoraryForCausalLM

EXCHANGE_FROM = 0.3
"""The similarity from which on an exchange is right at least as often as the question as it stands: on the development topics it
is, from the farthest question on (docs/results/wordings.md)."""
_COMPARED = 8
"""Wordings that are compared without names too: those nearest with them."""
_TEMPERATURE = 0.1
"""How a fact's wordings speak for it together: t · log Σ exp(cosine / t), between the nearest alone and their number. Of oblique
questions on the development topics the right fact is found for 0.836 with four wordings, by the nearest alone for 0.789."""


@torch.no_grad()
def nearest_trained(
    router: Router, texts: Sequence[str], memories: Sequence[str | None]
) -> list[tuple[str, float] | None]:
    """Of each text the nearest trained wording of the memory beside it, and how near it is (`nearest_of`). None where no memory
    is named, or it has no wordings."""
    if not texts:
        return []
    embedding, encode = router.features(texts).embedding.cpu(), router.get_encoder().encode
    chosen: list[tuple[str, float] | None] = []
    for row, name in enumerate(memories):
        memory = router.bank[name] if name is not None else None
        if memory is None or not len(memory.keys):
            chosen.append(None)
            continue
        place, score = nearest_of(
            texts[row],
            embedding[row],
            memory.wordings,
            memory.key_facts,
            memory.keys,
            encode,
            lambda text: router.without_names([text])[0],
        )
        chosen.append((memory.wordings[place], score))
    return chosen


def nearest_of(
    text: str,
    embedding: Float[Tensor, " embedding"],
    wordings: Sequence[str],
    facts: Sequence[int],
    keys: Float[Tensor, "wordings embedding"],
    encode: Callable[[list[str]], Tensor],
    bare: Callable[[str], str],
) -> tuple[int, float]:
    """(the number of the wording to ask in place of a text, how near it is: the mean of two cosines, with names and without).

    It is the nearest of the fact for which near wordings speak most. By names alone a wording that asks something else of the
    same subject would often be nearer.

    Args:
        embedding: of the text.
        facts: which fact each wording is of.
        keys: embeddings of the wordings, at least one.
        encode: texts → their embeddings.
        bare: a text without names.
    """
    near = (keys @ embedding).topk(min(_COMPARED, len(keys)))
    places = near.indices.tolist()
    asked, *others = encode([bare(text), *(bare(wordings[place]) for place in places)])
    both = (near.values + torch.stack(others) @ asked) / 2
    groups = torch.tensor([facts[place] for place in places], device=both.device)
    spoken = [_TEMPERATURE * (both[groups == fact] / _TEMPERATURE).logsumexp(0) for fact in groups]
    best = max(range(len(places)), key=lambda i: (float(spoken[i]), float(both[i])))
    return places[best], float(both[best])


def exchanged(model: LoraryForCausalLM, prompts: Sequence[Prompt], policy: Policy) -> list[Prompt]:
    """The prompts, those in other words whose question one memory alone is to answer and which a trained wording of it is
    near enough to (`Policy.t_exchange`). What routes a prompt stays as it was.

    A gate that waits for the hidden state, or decides token by token, has not routed them yet: they stay as they are.
    """
    waits = model.config.granularity == "token" or "hidden" in model.gate.features
    bar = policy.t_exchange
    if bar is None or policy.passages or waits or not model.memories:
        return list(prompts)
    texts = [prompt.routing_text for prompt in prompts]
    routes = model.router.decide(model.router.features(texts), policy).routes(model.memories)
    near = nearest_trained(model.router, texts, [r.memories[0] if len(r.memories) == 1 else None for r in routes])
    return [
        asked_as(prompt, found[0]) if found is not None and found[1] >= bar else prompt
        for prompt, found in zip(prompts, near, strict=True)
    ]


def asked_as(prompt: Prompt, wording: str) -> Prompt:
    """The prompt with a wording in place of what the user's last turn says."""
    chat = [dict(turn) for turn in prompt.chat]
    chat[last_user(chat)]["content"] = wording
    return replace(prompt, chat=chat, asked_as=wording)
