"""LoraryForCausalLM: base + bank + gate + index as one causal language model that says which memory knew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import Cache
from transformers.modeling_outputs import CausalLMOutputWithPast

from lorary.bank.memory import Memory
from lorary.base.layers import decoder_layers
from lorary.base.rows import hidden_argument
from lorary.model.cache import Plan, RoutedCache
from lorary.model.configuration import LoraryConfig
from lorary.model.mixture import ActiveRoute, install
from lorary.model.requests import given_by_caller, plan_of, routing_texts
from lorary.routing.features import counted_tokens
from lorary.routing.policy import Decision, Route, by_caller
from lorary.routing.router import Router


@dataclass
class LoraryOutput(CausalLMOutputWithPast):
    """A causal language model's output, with the routes that made it.

    Args:
        routes: a `Route` a row (of tokens, the last one's).
        route_weights: [batch, 1 or seq, memories].
    """

    routes: list[Route] | None = None
    route_weights: Tensor | None = None


class LoraryForCausalLM(PreTrainedModel, GenerationMixin):
    """A frozen base with a bank of memories behind a router.

    Build one with `composite.assemble`, or load it with `from_pretrained`.

    Args:
        base: the frozen causal language model; its linears are replaced by mixtures in place.
        router: the bank, the gate, the policy and the encoder.
        tokenizer: turns a prompt's tokens back into the text that routes it.
    """

    config_class = LoraryConfig
    base_model_prefix = "base"
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True

    def __init__(
        self, config: LoraryConfig, base: PreTrainedModel, router: Router, tokenizer: PreTrainedTokenizerBase
    ) -> None:
        super().__init__(config)
        self.base, self.gate = base, router.gate
        self.router, self.tokenizer = router, tokenizer
        self.generation_config = base.generation_config
        self.last_routes: list[Route] = []
        self._route = ActiveRoute()
        self._pending: tuple[Plan, Tensor, list[Decision]] | None = None
        self._handle: Any = None
        self._install()

    def _install(self) -> None:
        bank = self.router.bank
        install(self.base, [memory.factors(bank.shapes) for memory in bank], self._route)
        lowest = bank.split_layer
        self.config.split_layer = min(self.config.split_layer, lowest) if len(bank) else self.config.split_layer
        if self._handle is not None:
            self._handle.remove()
        layer = decoder_layers(self.base)[self.config.split_layer]
        self._handle = layer.register_forward_pre_hook(self._at_split, with_kwargs=True)

    @property
    def memories(self) -> list[str]:
        """The names of the memories, in the order of a route's weights."""
        return self.router.bank.names

    def add_memory(self, memory: Memory) -> None:
        """Adds a memory that is reached at once; nothing is trained."""
        self.router.bank.add(memory)
        try:
            self.router.add(memory)
        except Exception:  # no encoder, for one: the bank is as it was
            self.router.bank.remove(memory.name)
            raise
        self._install()

    def remove_memory(self, name: str) -> None:
        """Takes a memory out of the bank, the gate and the index."""
        number = self.memories.index(name) if name in self.memories else -1
        self.router.bank.remove(name)
        self.router.remove(name, number)
        self._install()

    def get_input_embeddings(self) -> nn.Module:
        return self.base.get_input_embeddings()

    def get_output_embeddings(self) -> nn.Module:
        return self.base.get_output_embeddings()

    def get_decoder(self) -> nn.Module:
        return self.base.get_decoder()

    @property
    def device(self) -> torch.device:
        return self.base.device

    @property
    def dtype(self) -> torch.dtype:
        return self.base.dtype

    def forward(
        self,
        input_ids: Int[Tensor, "batch seq"] | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Float[Tensor, "batch seq hidden"] | None = None,
        labels: Int[Tensor, "batch seq"] | None = None,
        use_cache: bool | None = None,
        adapter_names: Sequence[str] | None = None,
        route_weights: Float[Tensor, "batch memories"] | None = None,
        routing_text: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> LoraryOutput:
        """The base's output under the route of each row.

        Args:
            adapter_names: overrides the router with one memory a row; `"__base__"` is the base alone.
            route_weights: overrides the router with a weight for each memory, a row each.
            routing_text: the query of each row, instead of its prompt's last user turn (with the turns that a
                follow-up points back to: `prompts.conversation_text`).

        Raises:
            ValueError: an unknown memory, a wrong number of rows, or a cache that another route made.
        """
        inputs = input_ids if input_ids is not None else inputs_embeds
        if inputs is None:
            raise ValueError("give input_ids or inputs_embeds")
        use_cache = use_cache if use_cache is not None else getattr(self.config.text_config, "use_cache", True)
        if use_cache and past_key_values is None:
            past_key_values = RoutedCache(config=self.config.text_config)
        started = past_key_values is not None and past_key_values.get_seq_length() > 0
        given = given_by_caller(adapter_names, route_weights, len(inputs), self.memories)
        if started:
            plan = plan_of(past_key_values, given)
        elif given is not None:
            plan = Plan(given)
        elif not self.memories:
            plan = Plan(by_caller(torch.zeros(len(inputs), 0)))
        else:
            texts = routing_texts(self.tokenizer, input_ids, attention_mask, routing_text, len(inputs))
            plan = Plan(query=self.router.query(texts))
        counted = counted_tokens(inputs.shape, attention_mask, started)
        decided = self._start(plan, counted)
        try:
            output = self.base(
                input_ids=input_ids,
                attention_mask=attention_mask,
                position_ids=position_ids,
                past_key_values=past_key_values,
                inputs_embeds=inputs_embeds,
                labels=labels,
                use_cache=use_cache,
                **kwargs,
            )
        finally:
            self._pending = None
            self._route.set(None)
        if past_key_values is not None:
            self._keep(past_key_values, plan)
        decision = decided[-1]
        routes = decision.routes(self.memories)
        if not started:
            self.last_routes = routes
        weights = decision.weights if decision.weights.ndim == 3 else decision.weights.unsqueeze(1)
        return LoraryOutput(**output, routes=routes, route_weights=weights)

    def _start(self, plan: Plan, counted: Tensor) -> list[Decision]:
        """Applies a decision that stands already, or leaves the query to be decided at the split."""
        decided: list[Decision] = []
        reads_hidden = "hidden" in self.gate.features
        if plan.decision is None and self.config.granularity == "query" and not reads_hidden:
            assert plan.query is not None
            plan.decision = self.router.decide(plan.query)
        if plan.decision is not None:
            decided.append(plan.decision)
            self._route.set(plan.decision.weights.unsqueeze(1))
        else:
            self._pending = (plan, counted, decided)
        return decided

    def _at_split(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._pending is None:
            return
        plan, counted, decided = self._pending
        assert plan.query is not None
        granularity = self.config.granularity
        decision = self.router.decide(plan.query, hidden_argument(args, kwargs), counted, granularity=granularity)
        decided.append(decision)
        if granularity == "query":
            plan.decision = decision
        self._route.set(decision.weights if granularity == "token" else decision.weights.unsqueeze(1))

    def _keep(self, cache: Cache, plan: Plan) -> None:
        """Leaves the plan with the cache that it made."""
        if self.config.granularity == "token" and plan.decision is None and not isinstance(cache, RoutedCache):
            raise ValueError(f"token routing needs a RoutedCache, this one is a {type(cache).__name__}; pass no cache")
        cache.plan = plan  # type: ignore[attr-defined]

    def _prepare_cache_for_generation(self, generation_config: Any, model_kwargs: dict[str, Any], *args: Any) -> Any:
        """Gives `generate` a RoutedCache where it would make its default cache."""
        default = generation_config.cache_implementation in (None, "dynamic") and generation_config.use_cache
        if default and model_kwargs.get("past_key_values") is None:
            model_kwargs["past_key_values"] = RoutedCache(config=self.config.text_config)
        return super()._prepare_cache_for_generation(generation_config, model_kwargs, *args)  # type: ignore[misc]

    @torch.no_grad()
    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """As transformers' `generate`; the routes are in `last_routes`, and in the output where it is a dict.

        Takes `adapter_names`, `route_weights` and `routing_text` as `forward` does.
        """
        output: Any = super().generate(*args, **kwargs)  # type: ignore[misc]
        inputs = args[0] if args else kwargs.get("input_ids", kwargs.get("inputs", kwargs.get("inputs_embeds")))
        prompts = len(inputs) if inputs is not None else 1
        if len(self.last_routes) > prompts:  # beams repeat each prompt
            self.last_routes = self.last_routes[:: len(self.last_routes) // prompts]
        if hasattr(output, "sequences"):
            output.routes = self.last_routes
        return output

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: str | Path, *args: Any, **kwargs: Any
    ) -> Any:
        """The composite in a folder or hub repository; see `composite.load_composite` for the arguments."""
        from lorary.model.composite import load_composite

        return load_composite(pretrained_model_name_or_path, **kwargs)

    def save_pretrained(  # type: ignore[override]
        self, save_directory: str | Path, include_base: bool = False, **kwargs: Any
    ) -> None:
        """Writes the composite folder; with `include_base` it needs nothing else, neither base nor encoder."""
        from lorary.model.composite import save_composite

        save_composite(self, Path(save_directory), include_base=include_base)
