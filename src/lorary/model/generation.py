"""`generate` under one plan: made from the whole prompt, kept through every pass, and with its cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import Cache

from lorary.errors import LoraryError
from lorary.model.cache import Plan, RoutedCache, empty, rows_of
from lorary.model.planning import make_plan
from lorary.model.requests import Request, remember_routes, running, same_route
from lorary.model.spoken import spoken_routes
from lorary.model.switching import can_switch, switch, why_not
from lorary.routing.policy import Route


class RoutedGeneration:
    """transformers' `generate` for a composite; `modeling.LoraryForCausalLM` takes it in."""

    def _prepare_cache_for_generation(
        self: Any, generation_config: Any, model_kwargs: dict[str, Any], *args: Any
    ) -> Any:
        """Gives `generate` a RoutedCache where it would make its default cache."""
        default = generation_config.cache_implementation in (None, "dynamic") and generation_config.use_cache
        if default and model_kwargs.get("past_key_values") is None:
            model_kwargs["past_key_values"] = RoutedCache(config=self.config.text_config)
            generation_config.cache_implementation = None  # transformers takes a cache or the name of one
        return super()._prepare_cache_for_generation(generation_config, model_kwargs, *args)  # type: ignore[misc]

    def switch_route(
        self: Any,
        cache: Cache,
        attention_mask: Int[Tensor, "batch seq"] | None = None,
        *,
        adapter_names: Sequence[str] | None = None,
        route_weights: Float[Tensor, "batch memories"] | None = None,
        routing_text: str | Sequence[str] | None = None,
    ) -> list[Route]:
        """Lets a cached chat go on under another route, which it returns; the cache is changed in place.

        The layers below the split keep what they made; those above run again. The cache is then what a fresh pass under the
        route makes, bit for bit where it was made in one pass, else but for rounding.

        Args:
            cache: a `RoutedCache` that this composite made of tokens.
            attention_mask: of its tokens, where there is padding.
            adapter_names, route_weights, routing_text: one of them, as `forward` takes them.

        Raises:
            LoraryError: none of the three is given, or the cache does not keep what that needs.
        """
        ways = {"adapter_names": adapter_names, "route_weights": route_weights, "routing_text": routing_text}
        if all(way is None for way in ways.values()):
            raise LoraryError("no route was given to go on under; give adapter_names, route_weights or routing_text")
        rows = rows_of(cache) or 0
        if (reason := why_not(self, cache, rows)) is not None:
            raise LoraryError(f"the route of this cache cannot be switched: {reason}; start from an empty cache")
        plan = make_plan(self, self.request(**ways), None, attention_mask, rows)
        switch(self, cache, plan, attention_mask)
        return plan.routes()

    @torch.no_grad()
    def generate(
        self: Any,
        *args: Any,
        adapter_names: Sequence[str] | None = None,
        route_weights: Float[Tensor, "batch memories"] | None = None,
        routing_text: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> Any:
        """As transformers' `generate`; the routes are in `last_routes`, and in the output where it is a dict.

        The whole prompt decides the route, also where it is read in chunks. A cache of an earlier turn serves as it is
        where this turn's route made it. Where another did, a `RoutedCache` of the beginning of this prompt keeps what lies
        below the split, and the layers above run again; any other is emptied, and the prompt read anew.

        Takes `adapter_names`, `route_weights` and `routing_text` as `forward` does.
        """
        ways = {"adapter_names": adapter_names, "route_weights": route_weights, "routing_text": routing_text}
        request = self.request(**ways, whole=True)
        start_of_generation(self, request, args, kwargs)
        with running(request):
            output: Any = super().generate(*args, **kwargs)  # type: ignore[misc]
        routes = request.routes or []
        if request.first is not None and request.first.streams is not None:
            routes = spoken_routes(request.first, routes)
        inputs = args[0] if args else kwargs.get("input_ids", kwargs.get("inputs", kwargs.get("inputs_embeds")))
        prompts = len(inputs) if inputs is not None else 1
        if len(routes) > prompts:  # beams repeat each prompt
            routes = routes[:: len(routes) // prompts]
        remember_routes(self, routes)
        if hasattr(output, "sequences"):
            output.routes = routes
        return output


def start_of_generation(model: Any, request: Request, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Makes the plan of one `generate` from its whole prompt, and empties a cache that another route made.

    Raises:
        LoraryError: chunks of a prompt, where the gate reads the hidden state of all of it; or a cache that cannot be
            emptied.
    """
    ids = args[0] if args else kwargs.get("input_ids", kwargs.get("inputs"))
    prompts = ids if ids is not None else kwargs.get("inputs_embeds")
    if prompts is None:
        return
    request.plan = make_plan(model, request, ids, kwargs.get("attention_mask"), len(prompts))
    settings = kwargs.get("generation_config") or model.generation_config
    chunk = kwargs.get("prefill_chunk_size", getattr(settings, "prefill_chunk_size", None))
    if chunk is not None and request.plan.waits and model.config.granularity == "query":
        raise LoraryError(
            "this gate reads the hidden state of the whole prompt, which prefill_chunk_size cuts; leave it out, or name "
            "the route by adapter_names or route_weights"
        )
    cache: Any = kwargs.get("past_key_values")
    if cache is not None and cache.get_seq_length() and not same_route(getattr(cache, "plan", None), request.plan):
        take_over(model, cache, request.plan, ids, kwargs)


def take_over(model: Any, cache: Any, plan: Plan, ids: Tensor | None, kwargs: Mapping[str, Any]) -> None:
    """Lets a plan go on with a cache that another route made: from the split on, where that is possible, else from nothing."""
    mask = kwargs.get("attention_mask")
    plain = kwargs.get("position_ids") is None and (mask is None or (isinstance(mask, Tensor) and mask.ndim == 2))
    if plain and can_switch(model, cache, plan, ids, mask):
        switch(model, cache, plan, mask)
    else:
        empty(cache)
