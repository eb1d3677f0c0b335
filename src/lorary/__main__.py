"""The `lorary` command: hands each subcommand to its folder, which is imported only then."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Callable

from lorary.errors import UsageError, one_line
from lorary.printing import print_warnings_plainly, replace_unprintable

USE, TRAIN, KEEP, EVALUATE, MORE = "use", "train", "keep true", "evaluate", "more"
COMMANDS = {
    "ask": (USE, "lorary.answering.command", "ask a composite a question"),
    "chat": (USE, "lorary.answering.command", "talk to a composite, which tells the memory behind each answer"),
    "serve": (USE, "lorary.serving.command", "serve a composite with OpenAI's API"),
    "mcp": (USE, "lorary.commands", "give a composite to agents as tools, by the Model Context Protocol"),
    "route": (USE, "lorary.inspection", "show which memory a question reaches, and why; nothing is generated"),
    "list": (USE, "lorary.inspection", "list the memories of a bank or composite"),
    "export": (USE, "lorary.exporting", "memories → llama.cpp, Ollama, mlx-lm, vLLM, or a merged model"),
    "facts": (TRAIN, "lorary.intake.command", "documents, tables, FAQs, chats → facts to read and correct"),
    "remember": (TRAIN, "lorary.commands", "sentences, or documents, tables, FAQs, chats → bank, in one step"),
    "new": (TRAIN, "lorary.memories.command", "start an empty bank over a base, to add adapters to"),
    "build": (TRAIN, "lorary.memories.command", "facts → bank: write a memory for each topic"),
    "add": (TRAIN, "lorary.memories.adding", "add a stock PEFT LoRA adapter to a bank"),
    "remove": (TRAIN, "lorary.memories.command", "take a memory out of a bank"),
    "merge": (TRAIN, "lorary.memories.command", "merge memories of a bank into one stock PEFT adapter"),
    "plan": (TRAIN, "lorary.memories.command", "facts → how many memories, of which rank, in how much time and space"),
    "train-router": (TRAIN, "lorary.router_training.command", "bank → composite: train the gate, calibrate the policy"),
    "update": (KEEP, "lorary.memories.keeping", "take new facts and documents into a memory; the latest wins"),
    "forget": (KEEP, "lorary.memories.forgetting_command", "forget a memory, or facts of it, and prove it"),
    "history": (KEEP, "lorary.memories.keeping", "list the versions of a memory"),
    "rollback": (KEEP, "lorary.memories.keeping", "bring an earlier version of a memory back"),
    "verify": (KEEP, "lorary.memories.keeping", "read every file that a bank vouches for"),
    "gc": (KEEP, "lorary.memories.keeping", "drop earlier versions of memories, and what stopped writers left"),
    "refresh": (KEEP, "lorary.memories.forgetting_command", "let a composite take up what changed in its bank"),
    "recall": (EVALUATE, "lorary.eval.command", "composite → numbers: ask the held-out wordings"),
    "compare": (EVALUATE, "lorary.eval.command", "put runs of the same questions side by side"),
    "task": (EVALUATE, "lorary.eval.command", "write facts and questions, generated or from published data sets"),
    "research": (MORE, "lorary.__main__", "run a study behind the project's numbers"),
    "demo": (MORE, "lorary.commands", "all of it on shipped topics"),
}
"""Command → (its group, the module that holds a function of its name, what it is for)."""
HIDDEN = {"show": "lorary.eval.command"}
"""Commands that no help shows: the demo prints its last screen by this one."""

FUNCTIONS = {"list": "list_memories"}
"""The commands whose function cannot have their name."""

BUG, MISTAKE, STOPPED = 1, 2, 130


def usage() -> str:
    """The help of the bare command."""
    lines = [
        "usage: lorary COMMAND ...",
        "",
        "Memory for language models made of LoRA adapters, behind a learned router.",
    ]
    for group in (USE, TRAIN, KEEP, EVALUATE, MORE):
        lines += ["", f"{group}:"]
        lines += [f"  {name:<14}{purpose}" for name, (place, _, purpose) in COMMANDS.items() if place == group]
    return "\n".join(
        [*lines, "", "`lorary COMMAND --help` shows a command's options; --debug shows where an error arose."]
    )


def research(argv: list[str]) -> None:
    """Runs a study."""
    from lorary.research.commands import STUDIES

    if not argv or argv[0] in ("-h", "--help"):
        lines = ["usage: lorary research NAME ...", "", "The studies behind the project's numbers:", ""]
        lines += [f"  {name:<14}{purpose}" for name, (_, purpose) in STUDIES.items()]
        print("\n".join([*lines, "", "`lorary research NAME --help` shows a study's options."]))
        return
    if argv[0] not in STUDIES:
        raise UsageError(f"unknown study {argv[0]!r}; the studies are {', '.join(STUDIES)}")
    study, _ = STUDIES[argv[0]]
    study(argv[1:])


def command(name: str) -> Callable[[list[str]], None]:
    """The function that runs a command. Raises UsageError for an unknown one."""
    modules = {name: module for name, (_, module, _) in COMMANDS.items()} | HIDDEN
    if name not in modules:
        raise UsageError(f"unknown command {name!r}; the commands are {', '.join(COMMANDS)}")
    module = modules[name]
    function = FUNCTIONS.get(name, name.replace("-", "_"))
    return getattr(importlib.import_module(module), function)


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns the exit status.

    0: done. 1: a bug of Lorary. 2: a mistake in what was given, one line on standard error. 130: stopped by the user.
    """
    replace_unprintable(sys.stdout)
    arguments, debug = _without_debug(sys.argv[1:] if argv is None else argv)
    try:
        status = _run(arguments)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as ended:  # --help has been printed, or a step of the demo has told its error
        return ended.code if isinstance(ended.code, int) else 0
    except KeyboardInterrupt:
        print("lorary: stopped; what was saved stays, and the same command goes on from there", file=sys.stderr)
        return STOPPED
    except Exception as error:
        if debug:
            raise
        return _report(error)


def _run(arguments: list[str]) -> int:
    """Runs the command that the arguments name; returns the exit status."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0 if arguments else MISTAKE
    with warnings.catch_warnings():
        _quieten_libraries()
        print_warnings_plainly()
        command(arguments[0])(arguments[1:])
    return 0


def _report(error: Exception) -> int:
    """Prints one line about an error; returns the exit status that it means."""
    # Libraries raise ValueError about what they are given, as we do: LoraryError is one.
    if isinstance(error, (ValueError, OSError)):
        print(f"lorary: error: {one_line(error)}", file=sys.stderr)
        return MISTAKE
    if isinstance(error, ModuleNotFoundError) and (extra := _extra_of(error.name or "")):
        needs = f"this needs the package of {error.name!r}, which is not installed"
        print(f'lorary: error: {needs}; run: pip install "lorary[{extra}]"', file=sys.stderr)
        return MISTAKE
    print(f"lorary: this is a bug of Lorary; --debug shows where: {one_line(error)}", file=sys.stderr)
    return BUG


EXTRAS = {
    "eval": ("rouge_score", "matplotlib", "jinja2"),
    "embedded": ("gguf",),
    "intake": ("markitdown", "pypdfium2", "openpyxl", "charset_normalizer", "markdown_it"),
    "cluster": ("distributed",),
    "mcp": ("mcp",),
    "serve": ("fastapi", "uvicorn", "prometheus_client"),
}
"""Extra → the modules that only it installs."""


def _extra_of(module: str) -> str | None:
    """The extra that installs a missing module, None where it is no extra's."""
    return next((extra for extra, modules in EXTRAS.items() if module.split(".")[0] in modules), None)


def _without_debug(argv: list[str]) -> tuple[list[str], bool]:
    """The arguments without --debug, which may stand anywhere before a bare `--`, and whether it was there."""
    end = argv.index("--") if "--" in argv else len(argv)
    options = [argument for argument in argv[:end] if argument != "--debug"]
    return options + argv[end:], len(options) < end


def _quieten_libraries() -> None:
    """Lets other libraries say nothing that is not an error: what they warn of is ours to mind."""
    from lorary.progress import silence_loading_bars

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    silence_loading_bars()
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")  # features are in memory


if __name__ == "__main__":
    raise SystemExit(main())
