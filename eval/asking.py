"""Greedy answers and likelihoods of given ones, batched: each distinct pair of prompt and route is run once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import LogitsProcessorList

from lorary.answering.likelihood import Likelihood, decoding, mean_log_probability
from lorary.answering.passages import question_with
from lorary.base.prompts import answer_ids, around, padded, prompt, prompt_batch, prompt_ids
from lorary.base.rows import positions
from lorary.eval.shared_states import LowerStates, after, can_share, reading
from lorary.model.cache import RoutedCache
from lorary.model.modeling import LoraryForCausalLM
from lorary.routing.policy import Policy, Route

_GREEDY = {"do_sample": False, "num_beams": 1, "prompt_lookup_num_tokens": None}
_SHARED = 128
"""Tokens from which the start that prompts share is run once for all of them."""
_CACHED, _LETTERS = 96 * 1024, 4
"""Tokens of a batch at most, prompts and answers, so that its cache fits; about so many letters make a token."""


@dataclass(frozen=True)
class Ask:
    """One question as it is put to the model.

    Args:
        question: its text, which also routes it.
        context: what stands before it in the prompt, "" for nothing.
        route: what it is answered under; None lets the model decide, token by token, under `policy`.
        new_tokens: the longest answer that is generated, in tokens.
        option: the answer whose likelihood is asked, "" where one is to be generated.
    """

    question: str
    context: str = ""
    route: Route | None = None
    policy: Policy | None = None
    new_tokens: int = 32
    option: str = ""

    @property
    def key(self) -> tuple[object, ...]:
        """What decides the answer."""
        route = None if self.route is None else (self.route.memories, self.route.weights)
        policy = self.policy if self.route is None else None
        return self.question, self.context, route, policy, self.new_tokens, self.option

    @property
    def text(self) -> str:
        """The user's turn."""
        return question_with(self.context, self.question)


class Said(NamedTuple):
    """An answer, its route, and how likely it was (`likelihood.Likelihood`); None where that is unknown."""

    text: str
    route: Route
    probability: float | None


class Asker:
    """Answers questions and remembers what it answered.

    Args:
        batch_size: prompts a batch; fewer where they are long.
        lower: the states below the split, shared with other askers over the same base.
    """

    def __init__(self, model: LoraryForCausalLM, *, batch_size: int, lower: LowerStates | None = None) -> None:
        self.model, self.batch_size = model, batch_size
        self.lower = lower if lower is not None and lower.serves(model) else LowerStates(model.config.split_layer)
        self.kept: dict[tuple[object, ...], Said] = {}
        self.judged: dict[tuple[object, ...], float] = {}
        self._start: tuple[object, RoutedCache] | None = None

    def answers(self, asks: Sequence[Ask], advance: Callable[[int], None] = lambda _: None) -> list[Said]:
        """What was said to each, in order."""
        missing = {ask.key: ask for ask in asks if ask.key not in self.kept}
        advance(len(asks) - len(missing))
        for batch in self._batches(list(missing.values())):
            with self.model.routed(policy=batch[0].policy):
                said = self._generate(batch)
            self.kept.update({ask.key: answer for ask, answer in zip(batch, said, strict=True)})
            advance(len(batch))
        # An answer may be another condition's; the route is each asker's own, with who decided it and how sure.
        return [said._replace(route=ask.route or said.route) for ask in asks for said in (self.kept[ask.key],)]

    def likelihoods(self, asks: Sequence[Ask]) -> list[float]:
        """The mean log-probability of the tokens of each ask's option, in nats; its end of turn does not count.

        A mean and not a sum, so that a short option is not the likelier for being short.
        """
        missing = {ask.key: ask for ask in asks if ask.key not in self.judged}
        for batch in self._batches(list(missing.values())):
            with self.model.routed(policy=batch[0].policy):
                judged = self._judge(batch)
            self.judged.update({ask.key: value for ask, value in zip(batch, judged, strict=True)})
        return [self.judged[ask.key] for ask in asks]

    def _batches(self, asks: list[Ask]) -> Iterator[list[Ask]]:
        """Batches that share a context (or have none that is long), a policy and a longest answer, of like length."""
        groups: dict[tuple[object, ...], list[Ask]] = {}
        for ask in asks:
            shared = ask.context if self._shares(ask) else ""
            decided = ask.route is None, ask.policy if ask.route is None else None
            groups.setdefault((shared, ask.new_tokens, *decided), []).append(ask)
        for group in groups.values():
            group.sort(key=lambda ask: len(ask.text))
            last = group[-1]  # a start that all share is held once
            own = last.question if self._shares(last) else last.text
            longest = len(own) // _LETTERS + last.new_tokens
            size = max(1, min(self.batch_size, _CACHED // longest)) if longest else self.batch_size
            for start in range(0, len(group), size):
                yield group[start : start + size]

    def _shares(self, ask: Ask) -> bool:
        """Whether the start of its prompt may be run once for all: it is long, and the base alone reads it."""
        alone = ask.route is not None and not ask.route.memories
        return alone and len(ask.context) >= _LETTERS * _SHARED and can_share(self.model.base)

    def _generate(self, batch: Sequence[Ask]) -> list[Said]:
        model, tokenizer = self.model, self.model.tokenizer
        inputs = self._inputs(batch)
        settings = {"max_new_tokens": batch[0].new_tokens, "pad_token_id": tokenizer.pad_token_id, **_GREEDY}
        watching = Likelihood(decoding(model, settings).eos_token_id)
        with self._reading(batch):
            output = model.generate(**inputs, **settings, logits_processor=LogitsProcessorList([watching]))
        said = tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        # Of a batch whose routes are given, the model's last ones may be those of the start that its prompts share.
        routes = [ask.route for ask in batch] if batch[0].route is not None else model.last_routes
        answers = zip(said, routes, watching.probabilities(output), strict=True)
        return [Said(text.strip(), route, sure) for text, route, sure in answers if route is not None]

    @torch.no_grad()
    def _judge(self, batch: Sequence[Ask]) -> list[float]:
        tokenizer = self.model.tokenizer
        inputs = self._inputs(batch)
        texts = [(prompt(tokenizer, ask.text), ask.option) for ask in batch]
        rows = [answer_ids(tokenizer, text, option, ended=False) for text, option in texts]
        options = padded(tokenizer, rows, "right").to(self.model.device)
        ids = torch.cat([inputs.pop("input_ids"), options.input_ids], 1)
        mask = torch.cat([inputs.pop("attention_mask"), options.attention_mask], 1)
        cache = inputs.get("past_key_values")
        start = cache.get_seq_length() if cache is not None else 0
        with self._reading(batch):
            output = self.model(
                input_ids=ids[:, start:],
                attention_mask=mask,
                position_ids=positions(mask)[:, start:],
                use_cache=cache is not None,
                logits_to_keep=options.input_ids.shape[1] + 1,
                **inputs,
            )
        return mean_log_probability(output.logits[:, :-1].float(), options.input_ids, options.attention_mask).tolist()

    def _inputs(self, batch: Sequence[Ask]) -> dict[str, Any]:
        """What the model takes: the prompts, left-padded, their routes, and a cache of what was run before."""
        model, tokenizer = self.model, self.model.tokenizer
        texts = [prompt(tokenizer, ask.text) for ask in batch]
        inputs: dict[str, Any] = {}
        if all(ask.route is not None for ask in batch):
            inputs["route_weights"] = self._weights(batch)
        else:
            inputs["routing_text"] = [ask.question for ask in batch]
        if not self._shares(batch[0]):
            prompts = prompt_batch(tokenizer, texts).to(model.device)
            ids, mask = prompts.input_ids, prompts.attention_mask
            inputs |= {"input_ids": ids, "attention_mask": mask}
            # A question alone is asked under many routes; with a context it hardly ever is.
            if "route_weights" in inputs and not any(ask.context for ask in batch) and self.lower.serves(model):
                weights = inputs["route_weights"]
                inputs["past_key_values"] = self.lower.started(model, ids[:, :-1], mask[:, :-1], weights)
            return inputs
        start, *rows = prompt_ids(tokenizer, [around(tokenizer, f"{batch[0].context}\n\n")[0].rstrip(), *texts])
        columns = zip(start, *(row[:-1] for row in rows), strict=False)
        shared = [column[0] for column in takewhile(lambda column: len({*column}) == 1, columns)]
        first = torch.tensor([shared], device=model.device)
        prompts = padded(tokenizer, [row[len(shared) :] for row in rows], "left").to(model.device)
        before = first.expand(len(batch), -1)
        return inputs | {
            "input_ids": torch.cat([before, prompts.input_ids], 1),
            "attention_mask": torch.cat([torch.ones_like(before), prompts.attention_mask], 1),
            "past_key_values": after(self._started(first), len(batch)),
        }

    def _weights(self, batch: Sequence[Ask]) -> Tensor:
        names = self.model.memories
        weights = torch.zeros(len(batch), len(names))
        for row, ask in enumerate(batch):
            assert ask.route is not None
            for name, weight in zip(ask.route.memories, ask.route.weights, strict=True):
                weights[row, names.index(name)] = weight
        return weights

    def _started(self, first: Tensor) -> RoutedCache:
        """A cache that holds the tokens `first`; only the last one's is kept."""
        key = first.tolist(), tuple(self.model.memories)
        if self._start is None or self._start[0] != key:
            cache = RoutedCache(config=self.model.config.text_config)
            none = torch.zeros(1, len(self.model.memories))
            with torch.no_grad():
                self.model(input_ids=first, past_key_values=cache, route_weights=none, use_cache=True, logits_to_keep=1)
            self._start = (key, cache)
        return self._start[1]

    def _reading(self, batch: Sequence[Ask]) -> AbstractContextManager[None]:
        """Lets the model read the start that the batch shares, if it shares one."""
        if self._start is None or not self._shares(batch[0]):
            return nullcontext()
        return reading(self.model.base, self._start[1])
