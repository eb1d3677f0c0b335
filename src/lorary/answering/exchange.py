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
from lorary.bank.facts import Fact
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
"""How what a fact says speaks for it together: t · log Σ exp(cosine / t), between the nearest text alone and their number. Of
oblique questions on the development topics the right fact is found for 0.841 with four wordings, by the nearest wording alone for
0.802 (docs/results/wordings.md)."""


@torch.no_grad()
def nearest_trained(
    router: Router, texts: Sequence[str], memories: Sequence[str | None]
) -> list[tuple[str, float] | None]:
    """Of each text the trained wording of the memory beside it to ask in its place, and how near it is (`nearest_of`). None where
    no memory is named, or it has no wordings."""
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
            texts[row], embedding[row], memory.facts, memory.keys, encode, lambda text: router.without_names([text])[0]
        )
        chosen.append((memory.wordings[place], score))
    return chosen


def nearest_of(
    text: str,
    embedding: Float[Tensor, " embedding"],
    facts: Sequence[Fact],
    keys: Float[Tensor, "wordings embedding"],
    encode: Callable[[list[str]], Tensor],
    bare: Callable[[str], str],
) -> tuple[int, float]:
    """(the number of the wording to ask in place of a text, how near it is: the mean of two cosines, with names and without).

    It is the nearest of the fact for which its near wordings and its statement speak most together. By names alone a wording
    that asks something else of the same subject would often be nearer.

    Args:
        embedding: of the text.
        facts: that have the wordings.
        keys: embeddings of the trained wordings of all facts, in order, at least one.
        encode: texts → their embeddings.
        bare: a text without names.
    """
    wordings = [(fact, wording) for fact in facts for wording in fact.trained]
    near = (keys @ embedding).topk(min(_COMPARED, len(keys)))
    places = near.indices.tolist()
    stated = {fact.id: fact.statement for fact, _ in (wordings[place] for place in places) if fact.statement}
    compared = [*(wordings[place][1] for place in places), *stated.values()]
    asked, *others = encode([bare(text), *map(bare, compared)])
    named = torch.cat([near.values, encode([*stated.values()]) @ embedding]) if stated else near.values
    both = (named + torch.stack(others) @ asked) / 2
    owners = [*(wordings[place][0].id for place in places), *stated]
    voices = {id_: both[[owner == id_ for owner in owners]] for id_ in owners}
    spoken = {id_: float(_TEMPERATURE * (own / _TEMPERATURE).logsumexp(0)) for id_, own in voices.items()}
    best = max(range(len(places)), key=lambda i: (spoken[owners[i]], float(both[i])))
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
