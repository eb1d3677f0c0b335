"""Looking: what the page shows of a composite beside its answers. Nothing here changes anything.

Its functions run in the engine's thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch

from lorary.answering.heatmap import token_label
from lorary.answering.lookup import Stored, look_up
from lorary.answering.passages import with_passages
from lorary.base.prompts import Chat, chat_question, inner_ids, prompt_ids
from lorary.inspection import described
from lorary.model.modeling import LoraryForCausalLM
from lorary.routing.explanation import explain
from lorary.routing.pooling import pooled_prompts
from lorary.serving.errors import RequestError

_SHOWN = 8
"""Memories whose shares are told, likeliest first."""
_LETTERS = 10_000
"""Of a question that is explained, at most."""
_LONGEST = 2048
"""Tokens of a prompt and an answer that are read again, at most."""


def bank_of(model: LoraryForCausalLM) -> dict[str, Any]:
    """The bank: its base and its memories with their certificates, as `lorary list --json` tells them."""
    bank = model.router.bank
    versions = {name: version.number for name, (_, version) in bank.versions.items()}
    memories = [{**described(memory), "version": versions.get(memory.name, 1)} for memory in bank]
    return {"base": bank.base, "encoder": bank.encoder, "memories": memories}


def facts_of(model: LoraryForCausalLM, name: str) -> dict[str, Any]:
    """The facts of a memory, with their ids. Raises BankError for an unknown one."""
    return {"name": name, "facts": [{"id": fact.id, **fact.to_json()} for fact in model.router.bank[name].facts]}


def explained(model: LoraryForCausalLM, chat: Chat) -> dict[str, Any]:
    """Why the last question of a chat is routed as it is, the likeliest memories' shares, and the stored fact nearest to it."""
    question, hidden = chat_question(chat), None
    if len(question) > _LETTERS:
        raise RequestError(400, f"the question has more than {_LETTERS} letters; shorten it", "too_long")
    if "hidden" in model.gate.features:
        hidden = pooled_prompts(model.base, model.tokenizer, model.config.split_layer, [question])
    explanation = explain(model.router, question, hidden)
    embedding = model.router.features([question]).embedding
    return {
        "question": question,
        "reason": explanation.reason,
        "memories": {name: own.probability for name, own in list(explanation.memories.items())[:_SHOWN]},
        "none": explanation.none.probability,
        "stored": _told(look_up(model.router, embedding)[0]),
        "nearest": None if explanation.nearest is None else asdict(explanation.nearest),
    }


def _told(stored: Stored | None) -> dict[str, Any] | None:
    if stored is None:
        return None
    fact = stored.fact
    return {"memory": stored.memory, "question": fact.question, "answer": fact.answer, "similarity": stored.similarity}


@torch.inference_mode()
def tokens_of(model: LoraryForCausalLM, chat: Chat, answer: str, memories: Mapping[str, float]) -> dict[str, Any]:
    """How likely each token of an answer is, under memories by their weights and to the base alone.

    Raises:
        RequestError: a memory that is not there, or too long a text.
    """
    if unknown := [name for name in memories if name not in model.memories]:
        raise RequestError(404, f"no memory is called {unknown[0][:80]!r}; /look/bank lists them", "model_not_found")
    prompt = with_passages(model, chat, model.router.policy.passages if memories else 0)
    [read] = prompt_ids(model.tokenizer, [prompt.text(model.tokenizer)])
    written = inner_ids(model.tokenizer, answer)
    if len(read) + len(written) > _LONGEST:
        raise RequestError(400, f"prompt and answer have more than {_LONGEST} tokens; shorten them", "too_long")
    weights = torch.zeros(2, len(model.memories))
    for name, weight in memories.items():
        weights[0, model.memories.index(name)] = weight
    ids = torch.tensor([[*read, *written]] * 2, device=model.device)
    logits = model(input_ids=ids, route_weights=weights.to(model.device), use_cache=False).logits
    chances = logits[:, len(read) - 1 : -1].float().softmax(-1)
    own, base = chances[:, torch.arange(len(written)), written].tolist() if written else ([], [])
    labels = [token_label(model.tokenizer, token) for token in written]
    return {"tokens": _rows(labels, own, base), "memories": dict(memories)}


def _rows(labels: Sequence[str], own: Sequence[float], base: Sequence[float]) -> list[dict[str, Any]]:
    rows = zip(labels, own, base, strict=True)
    return [{"text": text, "probability": likely, "base": plain} for text, likely, plain in rows]
