"""A base in fewer bits: its linears replaced by torch's own kernels, or quantised by torchao, once its fingerprint is taken.

Memories are written on plain weights and applied beside what is quantised: y = Q(W) x + the route's update. So the update
stays exact, and what quantising changes is W alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from lorary.base.layers import BaseError, fingerprint, twin
from lorary.errors import one_line

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TorchAoConfig

_FEW_ROWS = 4
"""Rows up to which int8 weights are multiplied as they are; of more, multiplying by weights turned back is faster."""


class _QuantisedLinear(nn.Linear):
    """A frozen linear whose weights lie elsewhere than in `weight`, which is empty and tells their dtype and device.

    It is an `nn.Linear`, so that memories, PEFT and the search for a base's linears take it as one.

    Args:
        linear: the plain one.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=False, device="meta")
        self.weight = nn.Parameter(linear.weight.new_empty(0), requires_grad=False)
        self.bias = linear.bias

    def _multiplied(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        raise NotImplementedError

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        if x.requires_grad and torch.is_grad_enabled():
            raise BaseError("a quantised base has no gradient; train over the plain base, without quantization_config")
        y = self._multiplied(x)
        return y if self.bias is None else y + self.bias


class Float16Linear(_QuantisedLinear):
    """A linear whose weights are fp16, packed for FBGEMM, which multiplies and adds in fp32."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        self.packed = _Packed(linear.weight.detach().float())

    def _multiplied(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            return self._multiplied(x.float()).to(x.dtype)
        return cast(Tensor, torch.ops.quantized.linear_dynamic_fp16(x, self.packed.content))


class _Packed:
    """Weights as FBGEMM reads them. They never change, so copies of a module share them."""

    def __init__(self, weights: Float[Tensor, "d_out d_in"]) -> None:
        self.content = torch.ops.quantized.linear_prepack_fp16(weights, None)

    def __deepcopy__(self, _: dict[int, Any]) -> _Packed:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _Packed, (torch.ops.quantized.linear_unpack_fp16(self.content)[0],)


class Int8Linear(_QuantisedLinear):
    """A linear whose weights are int8 with a scale for each output, without a zero point: W ≈ scale ∘ values."""

    values: Tensor
    scale: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        weight = linear.weight.detach().float()
        scale = weight.abs().amax(1).clamp(min=torch.finfo(torch.float32).tiny) / 127
        # The kernel takes scales in bf16: values are rounded to the multiples that it will make of them.
        self.register_buffer("scale", scale.bfloat16())
        values = (weight / self.scale.float().unsqueeze(1)).round().clamp(-127, 127)
        self.register_buffer("values", values.to(torch.int8))

    def _multiplied(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        if len(rows) > _FEW_ROWS:
            return functional.linear(x, self.values.to(x.dtype)) * self.scale.to(x.dtype)
        y = torch._weight_int8pack_mm(rows.bfloat16(), self.values, self.scale.bfloat16())
        return y.to(x.dtype).view(*x.shape[:-1], -1)


_KERNELS: Mapping[str, Callable[[nn.Linear], nn.Linear]] = {"float16": Float16Linear, "int8": Int8Linear}
"""The ways that torch itself brings, of a CPU."""


def check_quantisation(how: Any) -> str | TorchAoConfig:
    """How a base is to be quantised: a name of `_KERNELS`, or torchao's configuration. Raises BaseError for all else."""
    method = how.get("quant_method") if isinstance(how, Mapping) else getattr(how, "quant_method", how)
    method = getattr(method, "value", method)
    if isinstance(how, str) and how in _KERNELS:
        return how
    if method != "torchao":
        raise BaseError(
            f"quantization_config {method!r} is not supported; give one of {sorted(_KERNELS)}, which torch itself computes "
            "on a CPU, or transformers' TorchAoConfig"
        )
    if not isinstance(how, Mapping):
        return cast("TorchAoConfig", how)
    from transformers import TorchAoConfig

    try:
        return TorchAoConfig.from_dict(dict(how))
    except Exception as error:  # of a wrong dict, torchao raises whatever comes
        raise BaseError(f"this quantization_config is no TorchAoConfig: {one_line(error)}") from error


def dtype_for(how: Any, dtype: torch.dtype | str | None) -> torch.dtype | str | None:
    """The dtype to load a base in that is to be quantised: as a caller says, else fp32 for what torch itself computes.

    Raises:
        BaseError: it cannot be quantised so.
    """
    plain = how is not None and isinstance(check_quantisation(how), str)
    return dtype or (torch.float32 if plain else None)


def quantised(model: PreTrainedModel, how: str | TorchAoConfig) -> PreTrainedModel:
    """A twin of a bare base whose linears are quantised; it keeps the fingerprint of the plain weights. The base stays.

    Raises:
        BaseError: its weights are not on a CPU, where `how` needs one, or torchao refuses.
    """
    plain = fingerprint(model)
    model = twin(model)
    if isinstance(how, str):
        _replace(model, how)
    else:
        _by_torchao(model, how)
    model.plain_fingerprint = plain  # type: ignore[assignment]
    return model


def is_quantised(model: PreTrainedModel) -> bool:
    """Whether a base was made by `quantised`."""
    return getattr(model, "plain_fingerprint", None) is not None


def _replace(model: PreTrainedModel, how: str) -> None:
    """Replaces every linear, the head too. An embedding that shares the head's weights keeps them."""
    if model.device.type != "cpu":
        raise BaseError(
            f"quantization_config {how!r} is computed on a CPU, and this base is on {model.device}; give a TorchAoConfig"
        )
    if how == "float16" and "fbgemm" not in torch.backends.quantized.supported_engines:
        raise BaseError(
            "quantization_config 'float16' needs FBGEMM, which this torch was built without; give 'int8' or a TorchAoConfig"
        )
    linears = [(path, module) for path, module in model.named_modules() if isinstance(module, nn.Linear)]
    for path, linear in linears:
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, _KERNELS[how](linear))


def _by_torchao(model: PreTrainedModel, config: TorchAoConfig) -> None:
    """Quantises as transformers does when it loads: the linears, but for those that the configuration leaves out."""
    head = model.get_output_embeddings()
    left = tuple(config.modules_to_not_convert or ())

    def taken(module: nn.Module, path: str) -> bool:
        if not isinstance(module, nn.Linear) or any(part in path for part in left):
            return False
        return module is not head or config.include_input_output_embeddings

    try:
        from torchao.quantization import quantize_

        quantize_(model, config.quant_type, taken)
    except Exception as error:  # of what it cannot do, torchao raises whatever comes
        raise BaseError(f"torchao cannot quantise this base: {one_line(error)}") from error
