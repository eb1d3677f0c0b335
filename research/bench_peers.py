"""What the speed bench times beside Lorary over the same base and adapters: PEFT, its routers, polylora and llama.cpp."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn

from lorary.bank.bank import MemoryBank
from lorary.bank.gguf_adapter import write_gguf
from lorary.base.embedded import EMBEDDED_BASES, embedded_file
from lorary.base.layers import bare_twin, block_linears
from lorary.base.loading import Base
from lorary.research.bench_cells import Cell
from lorary.research.peft_routers import adapter_folders, new_arrow, new_xlora
from lorary.research.settings import StudyError

ENGINE_TOKENS = 8
"""Tokens that llama.cpp is asked for at once; a step is their mean time, as llama.cpp measures it."""


def peer_of(cell: Cell, bank: MemoryBank, base: Base) -> Any:
    """What a cell's way stands for, over the bank's adapters.

    Raises:
        StudyError: a package that is not installed, or a base that llama.cpp has no file of.
    """
    own = Base(base.name, base.revision, bare_twin(base.model), base.tokenizer)
    with TemporaryDirectory() as work:
        if cell.way == "llama.cpp":
            return LlamaCpp(bank, base, Path(work))
        folders = adapter_folders(bank, Path(work))
        if cell.way == "polylora":
            return _polylora(own, bank, folders)
        return peft_of(cell.way, own, bank, folders)


def peft_of(way: str, own: Base, bank: MemoryBank, folders: Sequence[Path]) -> Any:
    """PEFT on a base's module objects: with all adapters, but for "peft" with the first alone."""
    if way == "arrow":
        return new_arrow(own, folders).eval()
    if way == "xlora":
        own.model.config = own.model.config.__class__.from_dict(own.model.config.to_dict())
        return new_xlora(own, folders).eval()
    model = PeftModel.from_pretrained(own.model, folders[0], adapter_name=bank.names[0])
    for name, folder in zip(bank.names[1:] if way == "peft-mixed" else (), folders[1:], strict=False):
        model.load_adapter(folder, adapter_name=name)
    return model.eval()


def _polylora(own: Base, bank: MemoryBank, folders: Sequence[Path]) -> nn.Module:
    """polylora with all adapters resident; without a GPU it runs its own reference path."""
    polylora = _package("polylora", "--no-deps polylora (its Triton kernels are for GPUs)")
    kinds = {name.rpartition(".")[-1] for memory in bank for name in memory.factors()}
    linears = [path for path in block_linears(own.model) if path.rpartition(".")[-1] in kinds]
    rank = max(len(down) for memory in bank for down, _ in memory.factors().values())
    config = polylora.PolyLoraConfig(max_gpu_adapters=len(bank), max_rank=rank, target_modules=linears)
    model = polylora.PolyLoraModel(own.model, config)
    for name, folder in zip(bank.names, folders, strict=True):
        model.load_adapter_from_disk(name, str(folder))
    return model.eval()


class LlamaCpp:
    """llama.cpp's server within this process, one thread, over the base's own GGUF file and two of the memories.

    Its base stays packed, so it reads fewer bytes a token than torch does of the unpacked one.
    """

    def __init__(self, bank: MemoryBank, base: Base, work: Path) -> None:
        engine = _package("xllamacpp", "xllamacpp")
        config = base.model.config.get_text_config()
        memories = [bank[name] for name in bank.names[:2]]
        options = engine.CommonParams()
        options.model.path, options.n_ctx, options.n_parallel = str(gguf_file(base.name)), 1024, 1
        options.warmup, options.verbosity = False, -1
        options.cpuparams.n_threads = options.cpuparams_batch.n_threads = torch.get_num_threads()
        files = [write_gguf(memory, work / f"{memory.name}.gguf", config) for memory in memories]
        options.lora_adapters = [engine.CommonAdapterLoraInfo(str(file), 0.0) for file in files]
        self._server = engine.Server(options)

    def _completion(self, ids: Tensor, memory: int | None, **options: Any) -> dict[str, Any]:
        request = {"prompt": ids[0].tolist(), "temperature": 0, "ignore_eos": True, **options}
        request["lora"] = [] if memory is None else [{"id": memory, "scale": 1.0}]
        answer: dict[str, Any] = self._server.handle_completions(request)
        return answer

    def decode(self, ids: Tensor) -> float:
        """Seconds a token after a cached prompt [1, seq], under the first memory."""
        timings = self._completion(ids, 0, n_predict=ENGINE_TOKENS + 1, cache_prompt=True)["timings"]
        return float(timings["predicted_per_token_ms"]) / 1000

    def read(self, ids: Tensor) -> float:
        """Seconds for a whole prompt [1, seq], under the first memory."""
        return float(self._completion(ids, 0, n_predict=1, cache_prompt=False)["timings"]["prompt_ms"]) / 1000

    def likeliest(self, ids: Tensor, memory: int | None) -> dict[int, float]:
        """Token → log-probability of the likeliest few behind a prompt [1, seq], under a memory by its number or none; of a
        token that is no whole character llama.cpp tells nothing."""
        answer = self._completion(ids, memory, n_predict=1, logprobs=5, cache_prompt=False)
        tokens = (answer["choices"][0]["logprobs"] or {"content": []})["content"]
        return {entry["id"]: entry["logprob"] for entry in tokens[0]["top_logprobs"]} if tokens else {}


def gguf_file(base: str) -> Path:
    """The GGUF file of a base by its name. Raises StudyError where there is none, or more than one."""
    if base in EMBEDDED_BASES:
        return embedded_file(base)
    files = sorted(Path(base).glob("*.gguf"))
    if len(files) != 1:
        raise StudyError(
            f"llama.cpp reads a base of a GGUF file; {base} holds {len(files)} of them; put one into the base's folder, or "
            "leave the cells of llama.cpp out"
        )
    return files[0]


def _package(name: str, install: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise StudyError(f"cells of {name} need it: pip install {install}; or leave its cells out") from error
