"""Which LoRA configs a memory may have: those whose update of the stock base is ΔW = scale · B A, and no others.

The table lists every field of `LoraConfig` in PEFT 0.21. A field that it does not list may only hold an empty value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lorary.bank.targets import LAYER_AFTER, PATH_ENDS_IN
from lorary.errors import LoraryError


class AdapterError(LoraryError):
    """An adapter that cannot be a memory of this bank: says which, why, and what is allowed."""


STARTS = ("gaussian", "orthogonal", "eva", "mica")
"""The values of `init_lora_weights` that leave the base's weights as they are, beside true, false and null."""
_CHANGED_BASE = ("pissa", "corda", "olora", "loftq", "lora_ga")
_TASKS = (None, "CAUSAL_LM", "SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION")


@dataclass(frozen=True)
class _Field:
    """A field of the config: PEFT's default, what is accepted, and how that is told."""

    default: Any
    accepts: Callable[[Any], bool]
    rule: str


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -1e38 < value < 1e38


def _is_rank(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_layer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _list_of(accepts: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(accepts, value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_expression(value: Any, around: str = "{}") -> bool:
    """Whether `value` is a regular expression that compiles, where it stands in the larger one `around`."""
    try:
        return isinstance(value, str) and re.compile(around.format(value)) is not None
    except (re.error, OverflowError, RecursionError):
        return False


def _is_list_name(value: Any) -> bool:
    return _is_expression(value, LAYER_AFTER)


def _patterns_of(accepts: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """A test for null, or an object from regular expressions to values."""
    return lambda value: (
        value is None
        or (isinstance(value, dict) and all(_is_expression(k, PATH_ENDS_IN) and accepts(v) for k, v in value.items()))
    )


def _is_empty(value: Any) -> bool:
    """Whether nothing is set; 0 is a value, and an empty string may be one."""
    return value is None or value is False or value == [] or value == {}


def _flag() -> _Field:
    return _Field(False, lambda value: value is None or isinstance(value, bool), "true or false")


def _note(default: Any, kind: type) -> _Field:
    """A field that changes nothing at inference, of a type."""
    name = {str: "a string", dict: "an object", int: "a number"}[kind]
    return _Field(default, lambda value: value is None or isinstance(value, kind), f"null or {name}")


def _unused(why: str, default: Any = None) -> _Field:
    """A field that must be empty, because the update would be another one."""
    return _Field(default, _is_empty, why)


def _off(why: str) -> _Field:
    """A kind of LoRA that must be off; to PEFT an empty object means that kind with its defaults."""
    return _Field(None, lambda value: value is None or value is False, why)


def _modules(required: bool) -> _Field:
    def accepts(value: Any) -> bool:
        return (value is None and not required) or _is_expression(value) or _list_of(_is_text)(value)

    return _Field(None, accepts, "a list of module names, or one regular expression")


FIELDS: Mapping[str, _Field] = {
    "peft_type": _Field(None, lambda value: value == "LORA", "a memory must be a 'LORA' adapter"),
    "task_type": _Field(None, lambda value: value in _TASKS, "a memory is for a causal language model"),
    "auto_mapping": _note(None, dict),
    "peft_version": _note(None, str),
    "base_model_name_or_path": _note(None, str),
    "revision": _note(None, str),
    "inference_mode": _flag(),
    "r": _Field(8, _is_rank, "a whole number above 0"),
    "target_modules": _modules(required=True),
    "exclude_modules": _modules(required=False),
    "lora_alpha": _Field(8, _is_number, "a finite number"),
    "lora_dropout": _Field(0.0, lambda value: _is_number(value) and 0 <= value <= 1, "a number from 0 to 1"),
    "fan_in_fan_out": _flag(),
    "bias": _Field("none", lambda value: value in ("none", "all", "lora_only"), "'none', 'all' or 'lora_only'"),
    "use_rslora": _flag(),
    "modules_to_save": _unused("whole modules are replaced"),
    "init_lora_weights": _Field(
        True,
        lambda value: value is None or isinstance(value, bool) or (_is_text(value) and value.lower() in STARTS),
        f"true, false, null or one of {list(STARTS)}",
    ),
    "layers_to_transform": _Field(
        None, lambda value: value is None or _is_layer(value) or _list_of(_is_layer)(value), "null, a layer or a list"
    ),
    "layers_pattern": _Field(
        None,
        lambda value: value is None or _is_list_name(value) or _list_of(_is_list_name)(value),
        "null, a name or a list",
    ),
    "rank_pattern": _Field({}, _patterns_of(_is_rank), "an object from regular expressions to whole numbers above 0"),
    "alpha_pattern": _Field({}, _patterns_of(_is_number), "an object from regular expressions to finite numbers"),
    "megatron_config": _unused("it is for Megatron's own linears"),
    "megatron_core": _note("megatron.core", str),
    "trainable_token_indices": _unused("it replaces embeddings"),
    "loftq_config": _note({}, dict),
    "eva_config": _note(None, dict),
    "corda_config": _note(None, dict),
    "lora_ga_config": _note(None, dict),
    "use_dora": _unused("DoRA rescales the base's own weights", False),
    "velora_config": _note(None, dict),
    "alora_invocation_tokens": _unused("it acts on some tokens only"),
    "use_qalora": _unused("QA-LoRA averages groups of the input", False),
    "qalora_group_size": _note(16, int),
    "monteclora_config": _off("it adds sampled noise to the update"),
    "layer_replication": _unused("it changes the base's layers"),
    "runtime_config": _note({}, dict),
    "lora_bias": _unused("the update has a bias", False),
    "target_parameters": _unused("it targets bare parameters, not linears"),
    "use_bdlora": _off("its factors are block-diagonal"),
    "arrow_config": _off("it is a router, not a memory"),
    "kasa_config": _off("it truncates the base's own weights"),
    "ensure_weight_tying": _flag(),
    # Written by PEFT before 0.4, and of no effect on plain linears.
    "merge_weights": _flag(),
    "enable_lora": _unused("it is for fused linears of an early PEFT"),
}


def check_config(config: Any, where: str) -> None:
    """Raises AdapterError for a config whose update is not ΔW = scale · B A on the stock base, or that PEFT refuses."""
    if not isinstance(config, dict):
        raise AdapterError(f"{where}: its config is {type(config).__name__}, not a JSON object; give what PEFT saved")
    if "peft_type" not in config or not FIELDS["peft_type"].accepts(config["peft_type"]):
        raise AdapterError(f"{where}: a {config.get('peft_type')!r} adapter cannot be a memory; it must be LORA")
    _check_start(config.get("init_lora_weights", True), where)
    if config.get("target_modules") is None:
        raise AdapterError(
            f"{where}: target_modules={config.get('target_modules')!r} leaves to the base's family what is adapted; "
            "list the modules in adapter_config.json"
        )
    for key, value in config.items():
        if key not in FIELDS:
            if not _is_empty(value) and value not in (0, ""):
                raise AdapterError(
                    f"{where}: {key}={value!r} is not a field of PEFT's LoraConfig that Lorary knows, so what it "
                    "changes is not known either; remove it if it changes nothing at inference"
                )
        elif not FIELDS[key].accepts(value):
            raise AdapterError(f"{where}: {key}={value!r} cannot be represented ({FIELDS[key].rule}); use plain LoRA")
    for key in ("layers_to_transform", "layers_pattern"):
        if isinstance(config["target_modules"], str) and config.get(key) is not None:
            raise AdapterError(f"{where}: {key} needs a list of target_modules, these are a regular expression")
    if config.get("layers_pattern") and config.get("layers_to_transform") is None:
        raise AdapterError(f"{where}: layers_pattern without layers_to_transform is refused by PEFT; give both")


def _check_start(start: Any, where: str) -> None:
    """Raises AdapterError for a start of training that changed the base's own weights, or that is not known."""
    if FIELDS["init_lora_weights"].accepts(start):
        return
    changed = _is_text(start) and start.lower().startswith(_CHANGED_BASE)
    why = "changed the base's own weights" if changed else "is not known to leave the base's own weights as they are"
    raise AdapterError(
        f"{where}: init_lora_weights={start!r} {why}, so the adapter does not fit the stock base; convert it with "
        "PEFT's save_pretrained(..., path_initial_model_for_weight_conversion=FOLDER_OF_THE_INITIAL_ADAPTER), or "
        "merge it into its base and give that as the base"
    )


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """An accepted config as PEFT opens it and applies it at inference.

    Empty fields get the empty value that PEFT takes. PEFT compares "eva" and "orthogonal" with their letter case, so a
    start is in lower case. VeLoRA changes the backward pass alone, and PEFT turns `fan_in_fan_out` off for linears.
    """
    opened = dict(config)
    for key, value in config.items():
        if key in FIELDS and key not in ("init_lora_weights", "target_modules") and _is_empty(value):
            opened[key] = FIELDS[key].default
    if isinstance(start := config.get("init_lora_weights"), str):
        opened["init_lora_weights"] = start.lower()
    changes: dict[str, Any] = {"velora_config": None, "fan_in_fan_out": False}
    return opened | {key: value for key, value in changes.items() if key in config}
