"""What a pass asks of a machine, counted: bytes that its operations read and write, their products, and their launches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten
_PICKING = {aten.embedding, aten.index_select, aten.gather, aten.index}
"""Operations that read only as much of their first tensor as they give back."""


def _of_linear(x: Tensor, weight: Tensor, *_: Any, **__: Any) -> int:
    return 2 * x.numel() * weight.shape[0]


def _of_matmul(x: Tensor, other: Tensor, **_: Any) -> int:
    return 2 * x.numel() * (other.shape[-1] if other.ndim > 1 else 1)


def _of_attention(queries: Tensor, keys: Tensor, *_: Any, **__: Any) -> int:
    return 4 * queries.numel() * keys.shape[-2]


_FLOPS: dict[Any, Callable[..., int]] = {
    aten.linear: _of_linear,
    aten.matmul: _of_matmul,
    aten.scaled_dot_product_attention: _of_attention,
    aten._scaled_dot_product_flash_attention_for_cpu: _of_attention,
}
"""What torch's own registry has no formula for: operations that inference mode keeps whole."""


@dataclass(frozen=True)
class Asked:
    """What one operation asks for.

    Args:
        bytes: of the tensors that it reads and writes, each once.
        flops: of a product; 0 for every other operation.
        product: whether it is one (a matrix product or attention).
    """

    bytes: int
    flops: int
    product: bool


class Counting(TorchDispatchMode):
    """Keeps what every operation inside asks for; views ask for nothing, because they move no number."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Asked] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        read = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        written = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        if not written or all(_is_view(func, tensor, read) for tensor in written):
            return result
        packet = func._overloadpacket
        count = _FLOPS.get(packet) or flop_registry.get(packet)
        flops = int(count(*args, **(kwargs or {}), out_val=result)) if count is not None else 0
        moved = 2 * written if packet in _PICKING else [*_distinct(read), *written]
        self.operations.append(Asked(sum(tensor.nbytes for tensor in moved), flops, count is not None))
        return result


def _is_view(func: Any, tensor: Tensor, read: list[Tensor]) -> bool:
    """Whether an operation gave the numbers of one of its inputs, unchanged."""
    changes = any(
        argument.alias_info is not None and argument.alias_info.is_write for argument in func._schema.arguments
    )
    return not changes and any(tensor.untyped_storage()._cdata == other.untyped_storage()._cdata for other in read)


def _distinct(tensors: list[Tensor]) -> Iterator[Tensor]:
    seen = set[tuple[int, int]]()
    for tensor in tensors:
        key = (tensor.data_ptr(), tensor.numel())
        if key not in seen:
            seen.add(key)
            yield tensor


def counted_pass(step: Callable[[], Any]) -> list[Asked]:
    """What the operations of a step ask for, in their order; what other threads do for it is not counted."""
    with Counting() as counting:
        step()
    return counting.operations


@dataclass(frozen=True)
class Rates:
    """What a machine gives, measured by single operations over and over.

    Args:
        bytes: a second, of a matrix that is too large for caches, times a vector.
        flops: a second, of a matrix times many vectors.
        launch: seconds of an operation that moves next to nothing.
    """

    bytes: float
    flops: float
    launch: float

    def seconds(self, operations: list[Asked]) -> float:
        """What the operations take if each costs its launch and then its bytes or its arithmetic, whichever takes longer."""
        work = sum(max(asked.bytes / self.bytes, asked.flops / self.flops) for asked in operations)
        return work + self.launch * len(operations)


def measured_rates(dtype: torch.dtype, median_seconds: Callable[[Callable[[], Any]], float]) -> Rates:
    """The rates of this machine, by this process's threads.

    Args:
        median_seconds: gives the median time of a step that it repeats.
    """
    large, vector = torch.ones(49152, 576, dtype=dtype), torch.ones(1, 576, dtype=dtype)
    read = median_seconds(lambda: torch.nn.functional.linear(vector, large))
    weight, rows = torch.randn(1536, 576).to(dtype), torch.randn(128, 576).to(dtype)
    multiplied = median_seconds(lambda: torch.nn.functional.linear(rows, weight))
    small = torch.randn(1, 1, 576).to(dtype)
    launched = median_seconds(lambda: small + small)
    return Rates(
        bytes=large.numel() * large.element_size() / read,
        flops=2 * rows.shape[0] * weight.numel() / multiplied,
        launch=launched,
    )
