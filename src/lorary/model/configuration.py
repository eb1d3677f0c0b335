"""LoraryConfig: what must be known before a weight of a composite is read."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from transformers import AutoConfig, PretrainedConfig

from lorary.errors import LoraryError
from lorary.routing.gate import DEFAULT_FEATURES
from lorary.routing.policy import Policy

GATE_PART, CONFIG_PART, BASE_PART, ENCODER_PART = "model.safetensors", "config.json", "base", "encoder"
"""Parts of a composite's folder beside its bank: the gate, the configuration, and, where it needs nothing else, the base and
the encoder."""
_FROM_BASE = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings")


class LoraryConfig(PretrainedConfig):
    """Configuration of a composite: base + bank + gate + index.

    Args:
        text_config: the base's own configuration.
        granularity: "query" fixes the route for a request, "token" decides at each position.
        features: of the gate (`gate.FEATURES`).
        policy: thresholds and number of mixed memories (`routing.Policy`).
        split_layer: the layer whose input the gate reads; no memory adapts a layer below it.
        trained: names of the memories that the gate's keys stand for, in order.
        sources: coefficients that tell how likely each source of an answer is to be right (`answering.sources`); without
            any, answers come from the route alone.
    """

    model_type = "lorary"
    sub_configs = {"text_config": AutoConfig}  # noqa: RUF012 (transformers' own convention)
    has_no_defaults_at_init = True
    keys_to_ignore_at_inference = ["past_key_values", "routes", "route_weights"]  # noqa: RUF012

    def __init__(
        self,
        text_config: PretrainedConfig | dict[str, Any] | None = None,
        granularity: str = "query",
        features: tuple[str, ...] | list[str] = DEFAULT_FEATURES,
        policy: dict[str, Any] | None = None,
        split_layer: int = 0,
        trained: list[str] | None = None,
        sources: dict[str, dict[str, float]] | None = None,
        **kwargs: Any,
    ) -> None:
        if granularity not in ("query", "token"):
            raise LoraryError(f"granularity {granularity!r} is unknown; it is 'query' or 'token'")
        if isinstance(text_config, dict):
            given = dict(text_config)
            text_config = AutoConfig.for_model(given.pop("model_type"), **given)
        # A copy: transformers sets the attention of a sub-config, and the base must keep its own.
        self.text_config = deepcopy(text_config)
        self.granularity = granularity
        self.check_granularity(features)
        self.features = list(features)
        self.policy = dict(policy or {})
        self.split_layer = split_layer
        self.trained = list(trained or [])
        self.sources = dict(sources or {})
        for key in _FROM_BASE:
            if text_config is not None and hasattr(text_config, key):
                kwargs[key] = getattr(text_config, key)
        for key in ("bos_token_id", "eos_token_id", "pad_token_id", "tie_word_embeddings", "dtype"):
            if text_config is not None and getattr(text_config, key, None) is not None:
                kwargs.setdefault(key, getattr(text_config, key))
        super().__init__(**kwargs)

    def check_granularity(self, features: Sequence[str]) -> None:
        """Raises LoraryError for a gate that reads what it would not be given."""
        if self.granularity == "query" and "window" in features:
            raise LoraryError(
                "the gate reads the window, which is told at each token, and granularity is 'query'; give granularity 'token', "
                "or train a router without the window (`lorary train-router --granularity query`)"
            )

    def routing_policy(self) -> Policy:
        """The policy that the composite stores."""
        known = {**self.policy}
        if "sources" in known:
            known["sources"] = tuple(known["sources"])
        return Policy(**{k: v for k, v in known.items() if k in Policy.__dataclass_fields__})


_OF_COMPOSITE = {
    "granularity", "features", "policy", "split_layer", "trained", "sources", "text_config", "return_dict", "dtype",
    "architectures", "auto_map", "model_type", "transformers_version",
}  # fmt: skip
"""What a composite's configuration says of the composite itself; all else it says of the base."""


def base_changes(config: LoraryConfig, stored: LoraryConfig) -> dict[str, Any]:
    """What a caller's configuration says of the base that the stored one does not: arguments for loading the base.

    transformers' Auto classes put options such as `use_cache=False` or `output_hidden_states=True` into the
    configuration, and the base is what obeys them.
    """
    before, after = stored.to_dict(), config.to_dict()
    names = [name for name in {*after} - _OF_COMPOSITE if name[0] != "_" and hasattr(stored.text_config, name)]
    changes = {name: after[name] for name in names if after[name] != before.get(name)}
    for part in (config, config.text_config):
        if (attention := getattr(part, "_attn_implementation_internal", None)) is not None:
            changes.setdefault("attn_implementation", attention)
    return changes
