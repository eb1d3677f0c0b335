"""LoraryForCausalLM: base + bank + gate + index as one causal language model that says which memory knew.

Nothing of a request lives on the model: its route, its policy and its routes belong to the request (`requests.Request`,
`active_route.ActiveRoute`) and, from step to step, to its cache (`cache.Plan`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import Cache
from transformers.modeling_outputs import CausalLMOutputWithPast

from lorary.bank.bank import MemoryBank
from lorary.errors import LoraryError
from lorary.model.active_route import apply_route, keep_routes_in_checkpoints
from lorary.model.adapter_api import AdapterApi
from lorary.model.cache import Plan, RoutedCache, as_before_if_it_fails
from lorary.model.configuration import LoraryConfig
from lorary.model.factors import BUDGET, FactorCache
from lorary.model.generation import RoutedGeneration
from lorary.model.membership import Membership
from lorary.model.planning import continued, make_plan, note_first_pass, reads_in_streams, route_of_pass
from lorary.model.requests import Request, current_request, last_routes, remember_routes, running
from lorary.model.scopes import Scope
from lorary.model.spoken import count_spoken
from lorary.model.streams import mix
from lorary.routing.policy import Policy, Route
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


class LoraryForCausalLM(AdapterApi, Membership, RoutedGeneration, PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """A frozen base with a bank of memories behind a router.

    Build one with `composite.assemble`, or load it with `from_pretrained`. Threads may ask it at once; the bank may
    change (`add_memory`, `remove_memory`) only while none asks.

    Args:
        base: the frozen causal language model; the composite has module objects of its own over the same weights, so the
            base stays as it is and may carry other composites.
        router: the bank, the gate, the policy and the encoder.
        tokenizer: turns a prompt's tokens back into the text that routes it.
        memory_budget: MiB of the memories' factors that are kept at hand; others are read when they are routed to.
    """

    config_class = LoraryConfig
    base_model_prefix = "base"
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True
    supports_gradient_checkpointing = True

    def __init__(
        self,
        config: LoraryConfig,
        base: PreTrainedModel,
        router: Router,
        tokenizer: PreTrainedTokenizerBase,
        memory_budget: int | float = BUDGET,
    ) -> None:
        super().__init__(config)
        self.factor_cache = FactorCache(memory_budget)
        self.base, self.gate = base, router.gate
        self.router, self.tokenizer = router, tokenizer
        self.generation_config = base.generation_config
        self._install()

    @property
    def memories(self) -> list[str]:
        """The names of the memories, in the order of a route's weights."""
        return self.router.bank.names

    @property
    def last_routes(self) -> list[Route]:
        """The routes of the last prompts that this thread or task put to this model, a row each."""
        return last_routes(self)

    @contextmanager
    def routed(
        self,
        *,
        adapter_names: Sequence[str] | None = None,
        route_weights: Float[Tensor, "batch memories"] | None = None,
        routing_text: str | Sequence[str] | None = None,
        policy: Policy | None = None,
    ) -> Iterator[None]:
        """Routes all that this thread or task asks of this model inside the block as given; other threads see nothing.

        What a call itself is given (`adapter_names=` and its like) comes first. Blocks may stand in blocks. A block in
        the body of a generator holds while that generator runs, not while it waits for its next turn.

        Args:
            adapter_names: one memory a row; `"__base__"` is the base alone.
            route_weights: a weight for each memory, a row each.
            routing_text: the query of each row.
            policy: that decides, instead of the composite's own.

        Raises:
            LoraryError: both names and weights.
        """
        request = Request(self, adapter_names, route_weights, routing_text, policy)
        with running(request.over(current_request(self)), Scope.of_caller(sys._getframe())):
            yield

    @contextmanager
    def with_bank(self, bank: MemoryBank) -> Iterator[LoraryForCausalLM]:
        """Gives a composite of another bank over the same base; the weights are shared, and this one stays as it is.

        Raises:
            BaseError: the bank is for another base.
        """
        from lorary.base.loading import Base
        from lorary.model.composite import assemble

        base = Base(bank.base, bank.revision, self.base, self.tokenizer)
        budget = self.factor_cache.budget
        yield assemble(bank, base, encoder=self.router.get_encoder(), memory_budget=budget)

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

    @torch.compiler.disable  # a route is decided by each call: what was traced for one would answer another
    def forward(
        self,
        input_ids: Int[Tensor, "batch seq"] | None = None,
        attention_mask: Tensor | dict[str, Tensor | None] | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Float[Tensor, "batch seq hidden"] | None = None,
        labels: Int[Tensor, "batch seq"] | None = None,
        use_cache: bool | None = None,
        adapter_names: Sequence[str] | None = None,
        route_weights: Float[Tensor, "batch memories"] | None = None,
        routing_text: str | Sequence[str] | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> LoraryOutput | tuple[Any, ...]:
        """The base's output under the route of each row.

        Args:
            adapter_names: overrides the router with one memory a row; `"__base__"` is the base alone.
            route_weights: overrides the router with a weight for each memory, a row each.
            routing_text: the query of each row, instead of its prompt's last user turn (with the turns that a
                follow-up points back to: `prompts.conversation_text`).
            return_dict: False gives the base's tuple, without routes.

        Raises:
            LoraryError: an unknown memory, a wrong number of rows, or a cache that another route made.
        """
        inputs = input_ids if input_ids is not None else inputs_embeds
        if inputs is None:
            raise LoraryError("neither input_ids nor inputs_embeds were given; give one of them")
        use_cache = use_cache if use_cache is not None else getattr(self.config.text_config, "use_cache", True)
        if use_cache and past_key_values is None:
            past_key_values = RoutedCache(config=self.config.text_config)
        started = past_key_values is not None and bool(past_key_values.get_seq_length() > 0)
        request = self.request(adapter_names=adapter_names, route_weights=route_weights, routing_text=routing_text)
        # Of a static cache, `generate` gives the masks of each kind of layer, which no longer tell a row's real tokens.
        mask = attention_mask if isinstance(attention_mask, Tensor) else None
        if started:
            plan = continued(self, request, past_key_values, input_ids, len(inputs))
        else:
            plan = make_plan(self, request, input_ids, mask, len(inputs))
        if self.training:
            keep_routes_in_checkpoints(self.base)
        before, kept = past_key_values if started else None, kwargs.get("logits_to_keep", 0)
        in_streams = reads_in_streams(self, plan)
        with (
            as_before_if_it_fails(past_key_values, started, plan),
            apply_route(route_of_pass(self, plan, inputs.shape, mask, before, kept), self.factors) as route,
        ):
            output = self.base(
                input_ids=input_ids,
                attention_mask=attention_mask,
                position_ids=position_ids,
                past_key_values=past_key_values,
                inputs_embeds=inputs_embeds,
                labels=None if in_streams else labels,
                use_cache=use_cache,
                return_dict=True,
                **kwargs,
            )
            if route.streams is not None:
                output = mix(output, route.streams, self.base, labels, **kwargs)
                count_spoken(plan, input_ids, self.generation_config)
        if past_key_values is not None:
            self._keep(past_key_values, plan)
            if isinstance(past_key_values, RoutedCache):
                past_key_values.note(self.config.split_layer, input_ids, position_ids, route.taken(), started)
        routes, decision = plan.routes(), plan.decision or plan.latest
        assert decision is not None
        if not started:
            remember_routes(self, routes)
        note_first_pass(current_request(self), plan, routes)
        if not (getattr(self.config, "return_dict", True) if return_dict is None else return_dict):
            return output.to_tuple()
        weights = decision.weights if decision.weights.ndim == 3 else decision.weights.unsqueeze(1)
        return LoraryOutput(**output, routes=routes, route_weights=weights)

    def _keep(self, cache: Cache, plan: Plan) -> None:
        """Leaves the plan with the cache that it made."""
        if plan.decision is None and not isinstance(cache, RoutedCache):
            raise LoraryError(f"token routing needs a RoutedCache, this one is a {type(cache).__name__}; pass no cache")
        cache.plan = plan  # type: ignore[attr-defined]

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: str | Path, *args: Any, **kwargs: Any
    ) -> Any:
        """The composite in a folder or hub repository; see `composite.load_composite` for the arguments."""
        from lorary.model.composite import load_composite

        if args:
            raise LoraryError(
                f"from_pretrained takes one positional argument, {1 + len(args)} were given; name the rest"
            )
        return load_composite(pretrained_model_name_or_path, **kwargs)

    def save_pretrained(  # type: ignore[override]
        self, save_directory: str | Path, include_base: bool = False, **kwargs: Any
    ) -> None:
        """Writes the composite folder; see `saving.save_composite` for the arguments."""
        from lorary.model.saving import save_composite

        save_composite(self, Path(save_directory), include_base=include_base, **kwargs)
