"""A base by name: a hub id, a local folder, or an embedded one; and the shape that a base must have."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from lorary.base.embedded import EMBEDDED, EMBEDDED_BASES, PREFIX, embedded_file, installing
from lorary.base.layers import BaseError, decoder_layers
from lorary.base.prompts import stop_at_ends
from lorary.base.unpacking import open_packed, unpacked
from lorary.errors import one_line

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_PLAIN = "name the checkpoint that it was made from, in bf16 or fp32 (dtype=torch.bfloat16 takes half of fp32's memory)"
_SHARED_OPTIONS = (
    "token", "cache_dir", "force_download", "proxies", "subfolder", "trust_remote_code", "code_revision", "gguf_file"
)  # fmt: skip
"""Options of transformers' `from_pretrained` that say where a base's files are and how they may be read."""
_REFUSED_OPTIONS = {
    **dict.fromkeys(
        ("load_in_4bit", "load_in_8bit"),
        f"memories are written on plain weights; leave it out, and where the base itself is quantised, {_PLAIN}",
    ),
    "quantization_config": "memories are written on plain weights, which are checked before a base is quantised; give it to "
    "LoraryForCausalLM.from_pretrained, with a composite",
    "output_loading_info": "a base is returned alone; leave it out",
}
"""Options of transformers' `from_pretrained` that cannot hold here, and why."""
_UNEXPECTED = re.compile(r"unexpected keyword argument '(\w+)'")


@dataclass(frozen=True)
class Base:
    """A frozen causal language model with its tokenizer and the name that loads it again."""

    name: str
    revision: str | None
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def best_dtype() -> torch.dtype:
    """bf16 where this machine multiplies it in hardware, else fp32 (without AVX512-BF16, bf16 is several times slower)."""
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    able = torch.cpu.get_capabilities()
    return torch.bfloat16 if able.get("avx512_bf16") or able.get("amx_bf16") or able.get("bf16") else torch.float32


def load_base(
    name: str = EMBEDDED,
    *,
    dtype: torch.dtype | str | None = None,
    device_map: Any = None,
    revision: str | None = None,
    local_files_only: bool = False,
    tokenizer: PreTrainedTokenizerBase | None = None,
    **options: Any,
) -> Base:
    """The base called `name`, frozen, in eval mode.

    Args:
        name: an embedded base (`embedded.EMBEDDED_BASES`), a local folder, or a hub id.
        dtype: of its weights; None picks what this machine multiplies fastest.
        tokenizer: its tokenizer, where that has been loaded already.
        options: what else `AutoModelForCausalLM.from_pretrained` takes: `attn_implementation`, `max_memory`,
            `offload_folder`, `token`, ... Those in `_SHARED_OPTIONS` say where the files are, so the config and the
            tokenizer get them, too.

    Raises:
        BaseError: it cannot be found, cannot carry memories, is quantised, or an option is unknown. The message says
            which and what to do.
    """
    given = {option: value for option, value in options.items() if value is not None}  # None gives nothing
    options = {
        option: value for option, value in given.items() if value is not False or not option.startswith("load_in_")
    }
    if odd := sorted({*options} & {*_REFUSED_OPTIONS}):
        raise BaseError(f"base {name!r}: the option {odd[0]!r} cannot be given, because {_REFUSED_OPTIONS[odd[0]]}")
    legacy_dtype = options.pop("torch_dtype", None)
    dtype = dtype or legacy_dtype or best_dtype()
    files = {key: options.pop(key) for key in _SHARED_OPTIONS if key in options}
    files |= {"revision": revision, "local_files_only": local_files_only}
    from transformers import AutoModelForCausalLM  # not above: it imports our model, which needs this module

    with _read_as_a_base(name, options):
        source = _source_of(name, files, dtype)
        kwargs = {"dtype": dtype, "device_map": device_map, **options, **source.files}
        if source.packed:
            model = open_packed(source.place, **kwargs)
        else:
            check_supported(AutoConfig.from_pretrained(source.place, **source.files))
            model = AutoModelForCausalLM.from_pretrained(source.place, **kwargs)
        model.name_or_path = model.config.name_or_path = source.named
        tokenizer = source.tokenizer(name) if tokenizer is None else tokenizer
    if getattr(model, "_hf_peft_config_loaded", False):
        raise BaseError(
            f"base {name!r} holds a PEFT adapter, which transformers would apply unasked; name the base that the adapter "
            "was trained on, and add the adapter to a bank as a memory"
        )
    check_supported(model.config)
    decoder_layers(model)
    stop_at_ends(model, tokenizer, EMBEDDED_BASES[name].stop if name in EMBEDDED_BASES else None)
    model.get_output_embeddings().register_forward_pre_hook(_in_one_piece)
    return Base(name, revision, model.eval().requires_grad_(False), tokenizer)


def load_tokenizer(
    name: str = EMBEDDED, *, revision: str | None = None, local_files_only: bool = False
) -> PreTrainedTokenizerBase:
    """The tokenizer of the base called `name`, as `load_base` gives it; no weight is loaded, and no base unpacked.

    Raises:
        BaseError: it cannot be found or read.
    """
    with _read_as_a_base(name, {}):
        files = {"revision": revision, "local_files_only": local_files_only}
        return _source_of(name, files, best_dtype(), make=False).tokenizer(name)


@dataclass(frozen=True)
class _Source:
    """Where a base is read.

    Args:
        place: a folder or a hub id.
        files: options of transformers' `from_pretrained` that say which files there.
        named: what the loaded base is to call the place that it is from.
    """

    place: str
    files: Mapping[str, Any]
    named: str

    @property
    def packed(self) -> bool:
        """Whether it is a GGUF file."""
        return self.files.get("gguf_file") is not None

    def tokenizer(self, base: str) -> PreTrainedTokenizerBase:
        """The tokenizer there, with a token to pad with; `base` is the name of its base."""
        tokenizer = AutoTokenizer.from_pretrained(self.place, **self.files)
        tokenizer.name_or_path = self.named
        if base in EMBEDDED_BASES:
            tokenizer.chat_template = EMBEDDED_BASES[base].chat_template
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer


def _source_of(name: str, files: Mapping[str, Any], dtype: torch.dtype | str, make: bool = True) -> _Source:
    """Where the base called `name` is read: of a GGUF file, the folder that it is unpacked in, where there can be one.

    Args:
        make: unpack it now, if it has not been.
    """
    source = _Source(name, files, name)
    if name.startswith(PREFIX):
        file = embedded_file(name)
        source = _Source(folder := str(file.parent), {"gguf_file": file.name, "local_files_only": True}, folder)
    if source.packed and (own := unpacked(source.place, source.files, dtype, make)) is not None:
        return _Source(str(own), {"local_files_only": True}, source.named)
    return source


@contextmanager
def _read_as_a_base(name: str, options: Mapping[str, Any]) -> Iterator[None]:
    """Turns whatever is raised while the base called `name` is read into one BaseError."""
    try:
        yield
    except BaseError:
        raise
    except Exception as error:  # of wrong JSON, tensors or tokenizers, transformers raises whatever comes
        raise BaseError(f"base {name!r}{_reason(error, options)}") from error


def _reason(error: Exception, options: Mapping[str, Any]) -> str:
    """Why a base was not loaded and what to do, behind its name."""
    if isinstance(error, OSError):
        return (
            f" cannot be loaded: {str(error).splitlines()[0]} Two ways out: give a local folder that holds the model, or "
            f"use the embedded default {EMBEDDED!r} ({installing(EMBEDDED)})"
        )
    unknown = _UNEXPECTED.search(str(error)) if isinstance(error, TypeError) else None
    if unknown is not None and unknown[1] in options:
        return f": {unknown[1]!r} is no option of transformers' from_pretrained; leave it out, or check how it is spelt"
    return f" cannot be loaded: {one_line(error)}"


def _in_one_piece(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The input of the head, copied where it is a slice of its batch's last positions, as in every prefill.

    On a CPU, torch multiplies such a slice in bf16 a hundred times slower, with the same result bit for bit. In fp32 it
    does not matter as much, and the result would differ by rounding.
    """
    hidden, *rest = args
    return (hidden if hidden.dtype == torch.float32 else hidden.contiguous(), *rest)


def check_supported(config: Any) -> None:
    """Raises BaseError for an encoder-decoder, which has no single stack of layers to split, and for a quantised base."""
    if getattr(config, "is_encoder_decoder", False):
        raise BaseError(f"a {config.model_type!r} model is an encoder-decoder; a base must be a causal language model")
    packing = getattr(config, "quantization_config", None)
    if packing is not None:
        settings = packing if isinstance(packing, dict) else packing.to_dict()
        raise BaseError(
            f"this {config.model_type!r} model is quantised ({_method(settings)}), and a base must have plain weights, "
            f"because memories are exact on those alone; {_PLAIN}"
        )


def _method(settings: Mapping[str, Any]) -> str:
    """What a quantisation is called: "gptq", "bitsandbytes, 4 bits", ..."""
    method = settings.get("quant_method", "an unknown method")
    bits = 4 if settings.get("load_in_4bit") else 8 if settings.get("load_in_8bit") else settings.get("bits")
    return f"{getattr(method, 'value', method)}{f', {bits} bits' if bits else ''}"
