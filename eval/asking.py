"""Greedy answers, batched: each distinct pair of prompt and route is generated once, whoever asks it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from lorary.modeling import LoraryForCausalLM
from lorary.prompts import answer_text, prompt
from lorary.routed_cache import RoutedCache
from lorary.routing import Policy, Route

_MARK = "\u2063question\u2063"
_SHARED = 128
"""Tokens from which the start that prompts share is run once for all of them."""


@dataclass(frozen=True)
class Ask:
    """One question as it is put to the model.

    Args:
        question: its text, which also routes it.
        context: what stands before it in the prompt, "" for nothing.
        route: what it is answered under; None lets the model decide, token by token, under `policy`.
    """

    question: str
    context: str = ""
    route: Route | None = None
    policy: Policy | None = None

    @property
    def key(self) -> tuple[object, ...]:
        """What decides the answer."""
        route = None if self.route is None else (self.route.memories, self.route.weights)
        return self.question, self.context, route, self.policy if self.route is None else None

    @property
    def text(self) -> str:
        """The user's turn."""
        return f"{self.context}\n\n{self.question}" if self.context else self.question


@contextmanager
def under(model: LoraryForCausalLM, policy: Policy | None) -> Iterator[None]:
    """Lets the model route by another policy for a while."""
    before, model.router.policy = model.router.policy, policy or model.router.policy
    try:
        yield
    finally:
        model.router.policy = before


class Asker:
    """Answers questions and remembers what it answered.

    Args:
        new_tokens: the longest answer, in tokens.
        batch_size: prompts a batch.
    """

    def __init__(self, model: LoraryForCausalLM, *, new_tokens: int, batch_size: int) -> None:
        self.model, self.new_tokens, self.batch_size = model, new_tokens, batch_size
        self.kept: dict[tuple[object, ...], tuple[str, Route]] = {}
        model.tokenizer.padding_side = "left"

    def answers(self, asks: Sequence[Ask], advance: Callable[[int], None] = lambda _: None) -> list[tuple[str, Route]]:
        """(answer, route) of each, in order."""
        missing = {ask.key: ask for ask in asks if ask.key not in self.kept}
        advance(len(asks) - len(missing))
        for batch in self._batches(list(missing.values())):
            with under(self.model, batch[0].policy):
                said = self._generate(batch)
            self.kept.update({ask.key: answer for ask, answer in zip(batch, said, strict=True)})
            advance(len(batch))
        # An answer may be another condition's; the route is each asker's own, with who decided it and how sure.
        return [(said, ask.route or last) for ask in asks for said, last in (self.kept[ask.key],)]

    def _batches(self, asks: list[Ask]) -> Iterator[list[Ask]]:
        """Batches that share a context (or have none that is long) and a policy, of like length."""
        groups: dict[tuple[object, ...], list[Ask]] = {}
        for ask in asks:
            shared = ask.context if self._shares(ask) else ""
            groups.setdefault((shared, ask.route is None, ask.policy if ask.route is None else None), []).append(ask)
        for group in groups.values():
            group.sort(key=lambda ask: len(ask.text))
            for start in range(0, len(group), self.batch_size):
                yield group[start : start + self.batch_size]

    def _shares(self, ask: Ask) -> bool:
        """Whether the start of its prompt may be run once for all: it is long, and the base alone reads it."""
        alone = ask.route is not None and not ask.route.memories
        return alone and len(ask.context) >= 4 * _SHARED

    def _generate(self, batch: Sequence[Ask]) -> list[tuple[str, Route]]:
        model, tokenizer = self.model, self.model.tokenizer
        texts = [prompt(tokenizer, ask.text) for ask in batch]
        given: dict[str, object] = {}
        if all(ask.route is not None for ask in batch):
            given["route_weights"] = self._weights(batch)
        else:
            given["routing_text"] = [ask.question for ask in batch]
        if self._shares(batch[0]):
            start = prompt(tokenizer, f"{batch[0].context}\n\n{_MARK}").partition(_MARK)[0].rstrip()
            first = tokenizer(start, return_tensors="pt", add_special_tokens=False).to(model.device)
            rest = [text.removeprefix(start) for text in texts]
            inputs = tokenizer(rest, return_tensors="pt", padding=True, add_special_tokens=False).to(model.device)
            ids = torch.cat([first.input_ids.expand(len(batch), -1), inputs.input_ids], 1)
            mask = torch.cat([first.attention_mask.expand(len(batch), -1), inputs.attention_mask], 1)
            given["past_key_values"] = self._started(batch, first.input_ids)
        else:
            inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False).to(model.device)
            ids, mask = inputs.input_ids, inputs.attention_mask
        output = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=self.new_tokens,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
            **given,
        )
        said = tokenizer.batch_decode(output[:, ids.shape[1] :], skip_special_tokens=True)
        routes = [ask.route or last for ask, last in zip(batch, model.last_routes, strict=False)]
        return [(text.strip(), route) for text, route in zip(said, routes, strict=True)]

    def _weights(self, batch: Sequence[Ask]) -> Tensor:
        names = self.model.memories
        weights = torch.zeros(len(batch), len(names))
        for row, ask in enumerate(batch):
            assert ask.route is not None
            for name, weight in zip(ask.route.memories, ask.route.weights, strict=True):
                weights[row, names.index(name)] = weight
        return weights

    def _started(self, batch: Sequence[Ask], first: Tensor) -> RoutedCache:
        """A cache that holds the tokens `first` for each row of the batch; only the last context's is kept."""
        if getattr(self, "_start", (None,))[0] != batch[0].context:
            cache = RoutedCache(config=self.model.config.text_config)
            none = torch.zeros(1, len(self.model.memories))
            with torch.no_grad():
                self.model(input_ids=first, past_key_values=cache, route_weights=none, use_cache=True)
            self._start = (batch[0].context, cache)
        cache = copy.deepcopy(self._start[1])
        cache.batch_repeat_interleave(len(batch))
        return cache


def longest_answer(model: LoraryForCausalLM, answers: Sequence[str]) -> int:
    """Tokens of the longest answer with its end of turn."""
    tokenizer = model.tokenizer
    return max(len(tokenizer(answer_text(tokenizer, a), add_special_tokens=False).input_ids) for a in answers)
