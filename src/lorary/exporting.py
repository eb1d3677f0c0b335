"""The command `export`: memories for other engines."""

from __future__ import annotations

from pathlib import Path

from lorary.options import Options
from lorary.printing import print_json
from lorary.tables import counted


def export(argv: list[str]) -> None:
    """Writes memories as GGUF adapters."""
    parser = Options(
        "export",
        "Writes memories of a bank or composite as GGUF adapters, which llama.cpp and what is built on it load beside a GGUF "
        "file of the same base. The base must be built as Llama. (Engines that take PEFT adapters, such as vLLM and SGLang, "
        "load a memory's own folder.) Such an engine answers under the memory that it is told; `lorary route` says which.",
        "BANK --out FOLDER [options]",
    )
    parser.add_argument("bank", metavar="BANK", help="folder of the bank or composite")
    parser.add_argument("--out", metavar="FOLDER", required=True, help="folder for a file of each memory, NAME.gguf")
    parser.add_argument("--memories", metavar="NAME", nargs="+", help="those to write; by default all")
    parser.add_argument("--base", metavar="NAME", help="where the base is, if not where the bank says")
    parser.add_json("the files")
    options = parser.parse_args(argv)
    from lorary.bank.bank import MemoryBank
    from lorary.bank.gguf_adapter import write_gguf
    from lorary.base.loading import load_base
    from lorary.model.composite import base_of
    from lorary.model.configuration import BASE_PART

    bank = MemoryBank.load(options.bank)
    memories = [bank[name] for name in dict.fromkeys(options.memories or bank.names)]
    own = Path(options.bank) / BASE_PART
    name = options.base or (str(own) if own.is_dir() else bank.base)
    base = base_of(bank, load_base(name, revision=bank.revision))
    config = base.model.config.get_text_config()
    files = {memory.name: write_gguf(memory, Path(options.out) / f"{memory.name}.gguf", config) for memory in memories}
    if options.json:
        print_json({name: str(file) for name, file in files.items()})
        return
    print("\n".join(f"{name}: {file}, {file.stat().st_size / 2**20:.1f} MiB" for name, file in files.items()))
    if files:
        lora = " ".join(f"--lora {file}" for file in list(files.values())[:2])
        print(f"{counted(len(files), 'adapter')} over {bank.base}")
        print(
            f"next: llama-server --model BASE.gguf --lora-init-without-apply {lora}; a request names one by its number"
        )
