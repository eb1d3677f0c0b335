"""The command `export`: memories for other engines."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lorary.errors import LoraryError, UsageError
from lorary.options import Options
from lorary.printing import print_json
from lorary.tables import counted

if TYPE_CHECKING:
    from lorary.bank.bank import MemoryBank
    from lorary.bank.memory import Memory
    from lorary.base.loading import Base

_BASE = "base"
"""The folder of the base, beside what is written of the memories."""


@dataclass(frozen=True)
class Written:
    """What an export wrote.

    Args:
        files: name of each memory → its file or folder.
        command: that uses them, or what is missing for one.
    """

    files: Mapping[str, Path]
    command: str


def export(argv: list[str]) -> None:
    """Writes memories for other engines."""
    parser = Options(
        "export",
        "Writes memories of a bank or composite for engines that know nothing of Lorary. gguf: an adapter a memory for "
        "llama.cpp, and a Modelfile for Ollama; the base must be built as Llama. mlx: an adapter folder a memory for mlx-lm. "
        "vllm: LoRA modules, and a script that serves them. merged: one stock model of the base and one memory. Such an engine "
        "answers under the memory that it is told; `lorary route` says which. What a format cannot hold is refused before "
        "anything is written.",
        "BANK --out FOLDER",
    )
    parser.add_argument("bank", metavar="BANK", help="folder of the bank or composite")
    parser.add_argument("--to", choices=tuple(_FORMATS), default="gguf", help="the format")
    parser.add_argument("--out", metavar="FOLDER", required=True, help="folder for what is written")
    parser.add_argument("--memories", metavar="NAME", nargs="+", help="those to write; by default all with an adapter")
    parser.add_argument("--base", metavar="NAME", help="where the base is, if not where the bank says")
    parser.add_argument(
        "--base-name",
        metavar="NAME",
        help="what the engine is to call the base: a hub id or a folder; for Ollama a GGUF file or a model of its own",
    )
    parser.add_argument("--with-base", action="store_true", help="write the base, too, as a stock Hugging Face folder")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), help="of a base that is written; by default as it is loaded here"
    )
    parser.add_json("what was written")
    options = parser.parse_args(argv)
    from lorary.bank.bank import MemoryBank
    from lorary.base.loading import load_base
    from lorary.model.composite import base_of
    from lorary.model.configuration import BASE_PART
    from lorary.model.merged import check_free, write_stock

    bank, out = MemoryBank.load(options.bank), Path(options.out)
    memories, left_out = _chosen(bank, options)
    if options.with_base and options.to == "merged":
        raise UsageError("--to merged writes the base with the memory in it; leave --with-base out")
    if options.with_base:
        check_free(out / _BASE)
        if _BASE in [memory.name for memory in memories]:
            raise LoraryError(f"a memory is called {_BASE!r}, as the folder that --with-base writes; give --base-name")
    own = Path(options.bank) / BASE_PART
    name = options.base or (str(own) if own.is_dir() else bank.base)
    base = base_of(bank, load_base(name, revision=bank.revision, dtype=options.dtype))
    written = _FORMATS[options.to](memories, base, out, _base_name(options, base.name))
    if options.with_base:
        write_stock(base.model, base.tokenizer, out / _BASE)
    _print(options, written, left_out, bank)


def _chosen(bank: MemoryBank, options: Namespace) -> tuple[list[Memory], list[str]]:
    """(the memories to write, the names of those that are left out, since their adapters add nothing)."""
    from lorary.bank.joining import DOCUMENTS

    memories = [bank[name] for name in dict.fromkeys(options.memories or bank.names)]
    empty = [memory.name for memory in memories if memory.card.get("recipe") == DOCUMENTS]
    chosen = [memory for memory in memories if memory.name not in empty]
    if empty and (options.memories or not chosen):
        raise LoraryError(
            f"{empty[0]!r} holds documents alone: its adapter adds nothing, and no engine reads the passages; name others"
        )
    if not chosen:
        raise LoraryError(f"{options.bank} holds no memory; `lorary build` and `lorary add` put some in")
    if options.to == "merged" and len(chosen) > 1:
        raise LoraryError(
            f"--to merged holds one memory, and {len(chosen)} were given ({', '.join(m.name for m in chosen)}); name one with "
            "--memories. `lorary merge` makes one adapter of several, which costs most of what they recall: of two merged "
            "memories 0.146 was left of 0.576"
        )
    return chosen, empty


def _base_name(options: Namespace, name: str) -> str | None:
    """What an engine calls the base; None where nothing but Lorary finds it by its name.

    A hub id means nothing to Ollama.
    """
    if options.base_name:  # a path must hold from the folder that is written, too
        given = Path(options.base_name)
        return str(given.resolve()) if given.exists() else options.base_name
    if options.with_base:
        return f"./{_BASE}"
    if Path(name).is_dir():
        return str(Path(name).resolve())
    return None if name.startswith("embedded:") or options.to == "gguf" else name


def _resolvable(base: str | None, to: str) -> str:
    """The name of a base. Raises LoraryError where there is none."""
    if base is None:
        raise LoraryError(
            f"--to {to} needs a base that others find, and only Lorary knows an embedded one by its name; give --with-base, "
            "which writes it, or --base-name"
        )
    return base


def _to_gguf(memories: Sequence[Memory], base: Base, out: Path, name: str | None) -> Written:
    from lorary.bank.files import write_aside
    from lorary.bank.gguf_adapter import check_gguf, write_gguf
    from lorary.base.chat_formats import modelfile
    from lorary.base.embedded import EMBEDDED_BASES, embedded_file

    config = base.model.config.get_text_config()
    for memory in memories:
        check_gguf(memory, config)
    if name is None and base.name in EMBEDDED_BASES:
        name = str(embedded_file(base.name))
    files = {memory.name: write_gguf(memory, out / f"{memory.name}.gguf", config) for memory in memories}
    lora = " ".join(f"--lora {file}" for file in list(files.values())[:2])
    command = f"llama-server --model BASE.gguf --lora-init-without-apply {lora}; a request names one by its number"
    if name is None:
        return Written(files, f"{command}. For Modelfiles of Ollama give --base-name or --with-base")
    for memory_name, file in files.items():
        write_aside(out / f"{memory_name}.Modelfile", modelfile(base.tokenizer, name, file.name).encode())
    first = memories[0].name
    return Written(files, f"{command}. Ollama: ollama create {first} -f {out / first}.Modelfile")


def _to_mlx(memories: Sequence[Memory], base: Base, out: Path, name: str | None) -> Written:
    from lorary.bank.mlx_adapter import check_mlx, write_mlx

    name = _resolvable(name, "mlx")
    for memory in memories:
        check_mlx(memory, base.model.config)
    files = {memory.name: write_mlx(memory, out / memory.name, base.model.config, name) for memory in memories}
    place = out / _BASE if name == f"./{_BASE}" else name
    return Written(files, f"mlx_lm.generate --model {place} --adapter-path {out / memories[0].name} --prompt QUESTION")


def _to_vllm(memories: Sequence[Memory], base: Base, out: Path, name: str | None) -> Written:
    from lorary.bank.files import write_aside
    from lorary.bank.vllm_adapter import check_vllm, serve_command, write_serve, write_vllm
    from lorary.base.chat_formats import jinja_template

    name = _resolvable(name, "vllm")
    for memory in memories:
        check_vllm(memory, base.model.config)
    ranks = {memory.name: write_vllm(memory, out / memory.name, base.model.config, name) for memory in memories}
    template = out / "chat_template.jinja"
    write_aside(template, jinja_template(base.tokenizer).encode())
    script = write_serve(out / "serve.sh", serve_command(name, ranks, f"./{template.name}"))
    return Written({name: out / name for name in ranks}, f"{script}; a request names a memory as its model")


def _to_merged(memories: Sequence[Memory], base: Base, out: Path, name: str | None) -> Written:
    from lorary.model.merged import check_free, merge_memory, write_stock

    check_free(out)
    [memory] = memories
    merge_memory(base.model, memory)
    write_stock(base.model, base.tokenizer, out)
    return Written({memory.name: out}, f'transformers.AutoModelForCausalLM.from_pretrained("{out}")')


_FORMATS: Mapping[str, Callable[[Sequence[Memory], Base, Path, str | None], Written]] = {
    "gguf": _to_gguf,
    "mlx": _to_mlx,
    "vllm": _to_vllm,
    "merged": _to_merged,
}


def _print(options: Namespace, written: Written, left_out: Sequence[str], bank: MemoryBank) -> None:
    base = str(Path(options.out) / _BASE) if options.with_base else None
    if options.json:
        files = {name: str(file) for name, file in written.files.items()}
        print_json({"memories": files, "left_out": list(left_out), "base": base, "next": written.command})
        return
    for name, file in written.files.items():
        sizes = [file] if file.is_file() else [part for part in file.rglob("*") if part.is_file()]
        print(f"{name}: {file}, {sum(part.stat().st_size for part in sizes) / 2**20:.1f} MiB")
    if left_out:
        print(f"left out, since they hold documents alone: {', '.join(left_out)}")
    if base:
        print(f"base: {base}")
    if options.to != "merged":
        print(f"{counted(len(written.files), 'adapter')} over {bank.base}")
    print(f"next: {written.command}")
