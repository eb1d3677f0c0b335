"""Asks a composite: batched greedy answers under a condition, routing scores, and perplexity."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lorary.modeling import LoraryForCausalLM
from lorary.pooling import pooled_prompt
from lorary.prompts import answer_text, prompt
from lorary.routing import Policy, Route

CONDITIONS = ("base", "oracle", "gate", "index", "policy", "uniform", "shuffled")


@dataclass(frozen=True)
class Asked:
    """One question with its right memory, "" where no memory knows."""

    text: str
    memory: str


def overrides(model: LoraryForCausalLM, condition: str, batch: Sequence[Asked], seed: int) -> dict[str, Any]:
    """What a condition passes to `generate`: nothing where the router decides."""
    names = model.memories
    if condition == "base":
        return {"adapter_names": ["__base__"] * len(batch)}
    if condition == "oracle":
        return {"adapter_names": [asked.memory or "__base__" for asked in batch]}
    if condition == "shuffled":
        wrong = [random.Random(f"{seed}{a.text}").choice([n for n in names if n != a.memory] or names) for a in batch]
        return {"adapter_names": wrong}
    if condition == "uniform":
        return {"route_weights": torch.full((len(batch), len(names)), 1 / len(names))}
    return {}


def policy_for(condition: str, policy: Policy) -> Policy:
    """The policy of a condition: the gate alone or the index alone decide without a threshold."""
    if condition == "gate":
        return replace(policy, sources=("gate",), t_gate=0.0)
    if condition == "index":
        return replace(policy, sources=("index",), t_index=0.0)
    return policy


@contextmanager
def under(model: LoraryForCausalLM, policy: Policy) -> Iterator[None]:
    """Lets the model route by another policy for a while."""
    before, model.router.policy = model.router.policy, policy
    try:
        yield
    finally:
        model.router.policy = before


@torch.no_grad()
def answers(
    model: LoraryForCausalLM,
    questions: Sequence[Asked],
    condition: str,
    *,
    new_tokens: int,
    batch_size: int,
    seed: int,
    advance: Callable[[int], None] = lambda _: None,
) -> list[tuple[str, Route]]:
    """(greedy answer, route) of each question, in order. Questions of like length share a batch."""
    tokenizer = model.tokenizer
    tokenizer.padding_side = "left"
    found: dict[int, tuple[str, Route]] = {}
    order = sorted(range(len(questions)), key=lambda i: len(questions[i].text))
    with under(model, policy_for(condition, model.router.policy)):
        for start in range(0, len(order), batch_size):
            chunk = order[start : start + batch_size]
            asked = [questions[i] for i in chunk]
            texts = [prompt(tokenizer, a.text) for a in asked]
            inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False).to(model.device)
            given = overrides(model, condition, asked, seed)
            output = model.generate(
                input_ids=inputs.input_ids,
                attention_mask=inputs.attention_mask,
                max_new_tokens=new_tokens,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
                **given,
            )
            said = tokenizer.batch_decode(output[:, inputs.input_ids.shape[1] :], skip_special_tokens=True)
            for i, text, route in zip(chunk, said, model.last_routes, strict=True):
                found[i] = (text.strip(), route)
            advance(len(chunk))
    return [found[i] for i in range(len(questions))]


def longest_answer(model: LoraryForCausalLM, answers_: Sequence[str]) -> int:
    """Tokens of the longest answer with its end of turn."""
    tokenizer = model.tokenizer
    return max(len(tokenizer(answer_text(tokenizer, a), add_special_tokens=False).input_ids) for a in answers_)


@torch.no_grad()
def routing_scores(
    model: LoraryForCausalLM, texts: Sequence[str]
) -> tuple[Float[Tensor, "queries memories_and_none"], Float[Tensor, "queries memories"]]:
    """(the gate's probabilities, the index's votes) of each question, as the model would see it asked."""
    query = model.router.query(texts)
    pooled = None
    if "hidden" in model.gate.features:
        prompts = [prompt(model.tokenizer, text) for text in texts]
        rows = [model.tokenizer(p, return_tensors="pt", add_special_tokens=False).input_ids[0] for p in prompts]
        pooled = torch.stack([pooled_prompt(model.base, model.config.split_layer, ids) for ids in rows])
    return model.gate(query.embedding, query.votes, pooled).softmax(-1), query.votes


@torch.no_grad()
def perplexity(model: LoraryForCausalLM, paragraphs: Sequence[str], *, base_alone: bool = False) -> float:
    """exp of the mean loss a token over `paragraphs`, routed by the policy, or of the base alone."""
    total, count = 0.0, 0
    for paragraph in paragraphs:
        ids = model.tokenizer(paragraph, return_tensors="pt").input_ids.to(model.device)
        given = {"adapter_names": ["__base__"]} if base_alone else {"routing_text": paragraph}
        loss = model(ids, labels=ids, use_cache=False, **given).loss
        total, count = total + float(loss) * (ids.shape[1] - 1), count + ids.shape[1] - 1
    return float(torch.tensor(total / count).exp())
