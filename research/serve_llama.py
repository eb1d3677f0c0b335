"""llama.cpp's server over a composite's base: `python -m lorary.research.serve_llama COMPOSITE BASE ROWS TOKENS`.

It serves until it is ended. The base stays packed as its GGUF file is, and every memory is there as a GGUF adapter that a request
names by its number; requests under other adapters than the batch's wait for the next one.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lorary.bank.bank import MemoryBank
from lorary.bank.gguf_adapter import write_gguf
from lorary.model.configuration import LoraryConfig
from lorary.research.bench_peers import gguf_file
from lorary.research.bench_settings import ServeBench
from lorary.research.serve_load import Question
from lorary.research.settings import StudyError

SAYS = "llama.cpp serves at "
LLAMA = {
    "llama-base": "llama.cpp's server, the base, packed as its GGUF file is",
    "llama-one": "llama.cpp's server, one memory for all clients",
    "llama-named": "llama.cpp's server, a memory named, another for each client",
}
_PADDED = 32
"""A sequence's room is a multiple of so many tokens."""


def why_not(base: str) -> str | None:
    """Why llama.cpp cannot be measured here; None where it can."""
    missing = [name for name in ("xllamacpp", "gguf") if importlib.util.find_spec(name) is None]
    if missing:
        return f"the package {missing[0]} is not installed (pip install {missing[0]})"
    try:
        gguf_file(base)
    except StudyError as error:
        return str(error)
    return None


def command_of(folder: Path, base: str, bench: ServeBench) -> list[str]:
    """The module and its arguments that serve a composite's base and memories to a bench's clients."""
    tokens = 2 * bench.prompt + bench.answer  # a prompt is about as long as it is to be
    room = -(-tokens // _PADDED) * _PADDED
    return ["lorary.research.serve_llama", str(folder), base, str(bench.clients), str(room)]


def for_llama(way: str, asking: Sequence[Question], folder: Path) -> list[Question]:
    """The questions as llama.cpp's server takes them: each under its own memory, or all under the first, or under none."""
    names = MemoryBank.load(folder).names
    own = {name: [{"id": number, "scale": 1.0}] for number, name in enumerate(names)}

    def adapters(question: Question) -> list[dict[str, Any]]:
        if way == "llama-base":
            return []
        return own[names[0] if way == "llama-one" else question.model.removeprefix("lorary:")]

    common = {"temperature": 0, "cache_prompt": False}
    return [replace(question, fields={**common, "lora": adapters(question)}) for question in asking]


def started(folder: Path, base: str, rows: int, tokens: int, work: Path) -> Any:
    """The server, which answers as long as it is there.

    Args:
        rows: answers that it writes at once.
        tokens: of a prompt and its answer, at most.
        work: a folder for the adapters' files.
    """
    import xllamacpp

    options = xllamacpp.CommonParams()
    options.model.path, options.port = str(gguf_file(base)), 0
    options.n_parallel, options.n_ctx = rows, rows * tokens
    options.warmup, options.verbosity = False, -1
    threads = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = threads
    config = LoraryConfig.from_pretrained(folder).text_config
    assert config is not None, "a composite tells its base's"
    files = [write_gguf(memory, work / f"{memory.name}.gguf", config) for memory in MemoryBank.load(folder)]
    options.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(file), 0.0) for file in files]
    return xllamacpp.Server(options)


if __name__ == "__main__":
    folder, base, rows, tokens = sys.argv[1:]
    with TemporaryDirectory() as work:
        server = started(Path(folder), base, int(rows), int(tokens), Path(work))
        print(f"{SAYS}{server.listening_address}/v1", file=sys.stderr, flush=True)
        threading.Event().wait()
