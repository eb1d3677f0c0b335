"""The `lorary` command: hands each subcommand to its folder, lazily."""

from __future__ import annotations

import importlib
import os
import sys
import warnings

from lorary.progress import silence_loading_bars

COMMANDS = {
    "build": ("lorary.memories.command", "facts → bank: writes a memory for each topic"),
    "add": ("lorary.memories.command", "adds a stock PEFT LoRA folder to a bank"),
    "merge": ("lorary.memories.command", "merges memories of a bank into one stock PEFT adapter"),
    "capacity": ("lorary.research.commands", "measures how many facts a memory of each rank recalls"),
    "wordings": ("lorary.research.commands", "measures what wordings, formats and generators of a fact's texts add"),
    "plan": ("lorary.memories.command", "facts → how many memories, which rank, how many minutes and bytes"),
    "train-router": ("lorary.router_training.command", "bank → composite: trains the gate, calibrates the policy"),
    "route-bench": ("lorary.research.commands", "measures routers on generated sets of facts, no memory written"),
    "route-facts": ("lorary.research.commands", "writes the facts of a generated set, to build a bank of"),
    "gate-study": ("lorary.research.commands", "measures what labels and the language-model loss teach a gate"),
    "rival-answers": ("lorary.research.commands", "lets PEFT's X-LoRA or Arrow answer questions over a bank"),
    "rival-scores": ("lorary.research.commands", "PEFT's X-LoRA or Arrow on the questions of a gate study"),
    "recall": ("lorary.eval.command", "composite → numbers: asks the held-out wordings under every condition"),
    "task": ("lorary.eval.command", "writes facts and questions, made by seed or read from published formats"),
    "compare": ("lorary.eval.command", "puts runs of the same questions side by side and marks what differs"),
    "ask": ("lorary.commands", "asks a composite a question"),
    "show": ("lorary.eval.command", "prints a run's table and five questions with the memories that answered"),
    "demo": ("lorary.commands", "all of it on the shipped topics"),
}


def usage() -> str:
    """The help of the bare command."""
    lines = ["usage: lorary COMMAND ...", "", "Memory for language models made of LoRA adapters.", "", "commands:"]
    lines += [f"  {name:<14}{told}" for name, (_, told) in COMMANDS.items()]
    return "\n".join([*lines, "", "`lorary COMMAND --help` tells a command's options."])


def main(argv: list[str] | None = None) -> int:
    """Runs one subcommand; returns the exit status: 0 done, 2 bad input (one line on standard error)."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0 if argv else 2
    if argv[0] not in COMMANDS:
        print(f"lorary: error: unknown command {argv[0]!r}; the commands are {list(COMMANDS)}", file=sys.stderr)
        return 2
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    silence_loading_bars()
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")  # features are in memory
    module = importlib.import_module(COMMANDS[argv[0]][0])
    try:
        getattr(module, argv[0].replace("-", "_"))(argv[1:])
    except (ValueError, FileNotFoundError) as error:
        if os.environ.get("LORARY_TRACEBACK"):
            raise
        print(f"lorary: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("lorary: stopped; what was saved stays, and the same command goes on from there", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
