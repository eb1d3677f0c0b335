"""PEFT's own routers over the memories of a bank, X-LoRA and Arrow: made, trained, and their weights of each token read.

X-LoRA: Buehler and Buehler 2024, arXiv 2402.07148. Arrow: Ostapenko et al. 2024, arXiv 2405.11157.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from peft import PeftModel, XLoraConfig, get_peft_model
from peft.tuners.lora.arrow import ArrowLoraLinearLayer, create_arrow_model
from peft.tuners.lora.config import ArrowConfig
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn

from lorary.bank.adapters import CONFIG, WEIGHTS
from lorary.bank.bank import MemoryBank
from lorary.bank.files import write_aside
from lorary.base.loading import Base
from lorary.base.rows import pad
from lorary.memories.rows import Row
from lorary.research.settings import RIVALS, Budget, RivalError

PEFT = version("peft")
TOP_K = 3
"""Arrow's default in PEFT: the memories that a token's weights are shared among."""


def check_rival(rival: str, known: Sequence[str] = RIVALS) -> None:
    """Raises RivalError for an unknown one."""
    if rival not in known:
        raise RivalError(f"rival {rival!r} is unknown; choose from {list(known)}")


def adapter_folders(bank: MemoryBank, work: Path) -> list[Path]:
    """A folder in `work` for each memory, with the adapter alone, as PEFT reads it."""
    folders = [work / str(number) for number in range(len(bank))]
    for memory, folder in zip(bank, folders, strict=True):
        files = memory.files()
        for name in (CONFIG, WEIGHTS):
            write_aside(folder / name, files[name])
    return folders


def new_arrow(base: Base, folders: Sequence[Any], seed: int = 0) -> PeftModel:
    """Arrow over the adapters in `folders`, with PEFT's defaults but for a seed: it searches its vectors from random ones.

    PEFT puts Arrow's router on every layer that has a linear of a target's name, and its forward pass fails where the
    adapters leave that layer out, as memories do below the split. There is nothing to weigh, so the linear is put back.

    Raises:
        RivalError: it cannot route over them: it wants one rank and the same targets, as PEFT says in its own words, and
            in each layer as many adapters as it mixes, or else its forward pass fails.
    """
    config = ArrowConfig(top_k=min(TOP_K, len(folders)), rng_seed=seed)
    with _refusals():
        model = create_arrow_model(base.model, [str(folder) for folder in folders], config)
    for path, module in list(model.named_modules()):
        if not isinstance(module, LoraLayer):
            continue
        adapters = sum(name.startswith("task_") for name in module.lora_A)  # as PEFT calls the adapters
        if adapters == 0:
            model.set_submodule(path, module.get_base_layer())
        elif adapters < config.top_k:
            raise RivalError(
                f"PEFT's Arrow mixes {config.top_k} adapters in every layer, and {adapters} of {len(folders)} adapt {path}"
            )
    return model


def new_xlora(base: Base, folders: Sequence[Any]) -> PeftModel:
    """X-LoRA over the adapters in `folders`, untrained, with PEFT's default classifier; only that can be trained.

    The base's linears are replaced in place; `unload` is not offered, so load the base anew afterwards.

    Raises:
        RivalError: PEFT refuses the adapters, in its own words.
    """
    base.model.config.use_cache = False  # it refuses a base with a cache
    # It loads its adapters under their numbers and then asks for them by the keys given here, so those are numbers too.
    adapters = {str(number): str(folder) for number, folder in enumerate(folders)}
    hidden = base.model.config.get_text_config().hidden_size
    with _refusals():
        config = XLoraConfig(task_type="CAUSAL_LM", hidden_size=hidden, adapters=adapters)
        model: Any = get_peft_model(base.model, config)
    classifier = model.base_model.internal_xlora_classifier
    # It takes the base's dtype; steps of a small learning rate are lost in bf16.
    classifier.layers.float()
    classifier.layers[0].register_forward_pre_hook(lambda _, args: (args[0].float(),))
    assert isinstance(model, PeftModel)
    return model


@contextmanager
def _refusals() -> Iterator[None]:
    """What PEFT raises in the block, as a RivalError in its own words."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise RivalError(f"PEFT refuses these adapters: {str(error).splitlines()[0]}") from error


def train_xlora(
    model: PeftModel,
    rows: Sequence[Row],
    pad_id: int,
    budget: Budget,
    order: random.Random,
    spent_so_far: Callable[[float], None] = lambda _: None,
) -> tuple[int, float]:
    """(steps, seconds) of X-LoRA's training by the language-model loss on the answers of the rows.

    It has no use for labels: its classifier learns through the mixture alone. The learning rate falls straight to
    nothing at the end of the time.

    Args:
        spent_so_far: is told the seconds before each step.
    """
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=budget.lr, weight_decay=0.0)
    left: list[Row] = []
    steps, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < budget.seconds:
        spent_so_far(spent)
        for group in optimizer.param_groups:
            group["lr"] = budget.lr * (1 - spent / budget.seconds)
        if not left:
            left = order.sample(rows, len(rows))
        chunk, left = left[: budget.batch_size], left[budget.batch_size :]
        ids, labels = pad(chunk, pad_id)
        row, column = (labels != -100).nonzero(as_tuple=True)
        logits = model(input_ids=ids.to(model.device)).logits[row, column].float()
        loss = nn.functional.cross_entropy(logits, labels[row, column].to(logits.device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        steps += 1
    return steps, time.perf_counter() - began


Weigh = Callable[[Int[Tensor, "batch seq"]], Float[Tensor, "batch seq layers memories"]]
"""Token ids → the weights that a rival gives each memory, token by token and layer by layer."""


@contextmanager
def weights_of(model: PeftModel, memories: int) -> Iterator[Weigh]:
    """Reads the weights of a rival over so many memories, in the block.

    Raises:
        RivalError: Arrow weighs others in one layer than in another.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, ArrowLoraLinearLayer)]
    if any(len(layer.task_adapter_names) < memories for layer in layers):
        raise RivalError("the memories adapt different layers, so Arrow's weights of them have no mean over layers")
    seen: list[Tensor] = []

    def look(layer: Any, args: tuple[Any, ...]) -> None:
        seen.append(coefficients(layer, args[0]).float().cpu())

    @torch.no_grad()
    def weigh(ids: Tensor) -> Tensor:
        seen.clear()
        model(input_ids=ids.to(model.device), logits_to_keep=1)
        return torch.stack(seen, dim=2) if layers else scalings_of(model).float().cpu()

    handles = [layer.register_forward_pre_hook(look) for layer in layers]
    try:
        yield weigh
    finally:
        for handle in handles:
            handle.remove()


def scalings_of(model: PeftModel) -> Float[Tensor, "batch seq layers memories"]:
    """The weights that X-LoRA's last pass gave each memory."""
    xlora: Any = model.base_model
    scalings = xlora.get_latest_scalings()
    assert isinstance(scalings, Tensor)
    return scalings


@torch.no_grad()
def coefficients(layer: ArrowLoraLinearLayer, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch memories"]:
    """The weights that an Arrow layer gives each memory for an input: it computes them, and keeps them to itself.

    They tell how far each memory's first right singular vector points along the token.
    """
    prototypes: Any = layer.prototypes
    similarity = (x.to(prototypes.dtype) @ prototypes.T).abs()
    best = similarity.topk(layer.top_k, dim=-1)
    kept = torch.full_like(similarity, float("-inf")).scatter(-1, best.indices, best.values)
    return (kept / layer.temperature).softmax(-1)
