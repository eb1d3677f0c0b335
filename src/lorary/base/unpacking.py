"""A GGUF file unpacked once: the base in it as safetensors, with its tokenizer, in the user's cache.

transformers takes a GGUF file apart whenever it is opened, in many seconds. Here that is done once for each file, dtype and
version of the libraries that do it; from then on the base is opened as any folder is. What is opened is the same bit for bit.
The cache holds bases alone, nothing of a bank. It can be removed at any time.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tokenizers
import torch
import transformers
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import cached_file, logging

from lorary.errors import LoraryError, LoraryWarning, one_line

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CACHE = "LORARY_CACHE"
_FORMAT = 1
"""Of an entry of the cache; another number makes every entry anew."""
_SEAL = "unpacked.json"
_BESIDE = ("tokenizer*", "*tokens*.json", "vocab*", "merges*", "*chat_template*", "*chat_templates/*", "*.model")
"""The files beside a GGUF that its tokenizer may be made of."""
_BLOCKS, _BLOCK = 1024, 4096
_DAY = 24 * 60 * 60


class CacheWarning(LoraryWarning):
    """An unpacked base cannot be kept: says why and what to do."""


class _NotKept(LoraryError):
    """An unpacked base cannot be kept: says why."""


def cache_folder() -> Path | None:
    """`$LORARY_CACHE`, else `$XDG_CACHE_HOME/lorary`, else `~/.cache/lorary`; None where `LORARY_CACHE` is set to nothing."""
    named = os.environ.get(CACHE)
    if named == "":
        return None
    place = Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "lorary")
    try:
        return place.expanduser()
    except RuntimeError:  # who runs this has no home
        return None


def unpacked(place: str, files: Mapping[str, Any], dtype: torch.dtype | str, make: bool = True) -> Path | None:
    """The folder of the cache that holds the base of a GGUF file, unpacked; made now where it is missing or damaged.

    None where nothing is to be kept or can be: the reason is a `CacheWarning`.

    Args:
        place: the folder or hub id that the file lies in.
        files: `gguf_file`, and the other options of transformers that say where a base's files are.
        dtype: of the weights.
        make: where the entry is missing or damaged; without it None is returned, and nothing written.
    """
    kept = cache_folder()
    if kept is None or files.get("trust_remote_code"):  # code that comes with a base is not ours to keep
        return None
    finding = {name: value for name, value in files.items() if name not in ("gguf_file", "code_revision")}
    file = Path(str(cached_file(place, files["gguf_file"], **finding)))
    entry = kept / "bases" / f"{file.stem}-{_key(file, dtype)[:32]}"
    try:
        if not is_whole(entry):
            if not make:
                return None
            _make(entry, place, files, dtype)
    except _NotKept as reason:
        _warn(
            f"the unpacked base cannot be kept in {kept}: {reason}; it is unpacked again each time, which takes many "
            f"seconds. Name another folder in {CACHE}, or set it to nothing to keep none"
        )
        return None
    return entry


@cache
def _warn(message: str) -> None:
    """Warns once a process: Python forgets what it has warned of whenever filters change, as libraries do in between."""
    warnings.warn(message, CacheWarning, stacklevel=5)


def _make(entry: Path, place: str, files: Mapping[str, Any], dtype: torch.dtype | str) -> None:
    """Unpacks a base into a folder aside, which becomes the entry as a whole. Raises _NotKept where that cannot be."""
    with _keeping():
        entry.parent.mkdir(parents=True, exist_ok=True)
        _sweep(entry)
        aside = Path(tempfile.mkdtemp(prefix=f".{entry.name}.", dir=entry.parent))
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, **files)
        with _keeping():
            _keep_tokenizer(tokenizer, aside)
        model = open_packed(place, dtype=dtype, **files)
        with _keeping():
            model.save_pretrained(aside)
            _seal(aside)
            _put(aside, entry)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _keeping() -> Iterator[None]:
    """Turns whatever is raised while something is written into _NotKept."""
    try:
        yield
    except Exception as error:  # of a full disk, tokenizers and safetensors raise errors of their own
        raise _NotKept(one_line(error)) from error


def open_packed(place: str, **options: Any) -> PreTrainedModel:
    """The base in a GGUF file, its weights unpacked, as transformers' `from_pretrained` gives it."""
    from transformers import AutoModelForCausalLM  # not above: it imports our model, which needs this module

    with _errors_alone():
        model = AutoModelForCausalLM.from_pretrained(place, **options)
    # The notes that its file was packed: its weights are unpacked now, and a model with notes is not saved.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    for attribute in ("hf_quantizer", "quantization_method", "is_quantized"):
        vars(model).pop(attribute, None)
    return model


@contextmanager
def _errors_alone() -> Iterator[None]:
    """Keeps transformers from warning that packed weights are slow in bf16: those of a base get unpacked."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _key(file: Path, dtype: torch.dtype | str) -> str:
    """Hex sha256 of all that an unpacked base depends on: the file, those beside it, dtype, and who unpacks it."""
    try:
        reader = importlib.metadata.version("gguf")
    except importlib.metadata.PackageNotFoundError:
        reader = ""
    made = [_FORMAT, str(dtype).removeprefix("torch."), transformers.__version__, tokenizers.__version__, reader]
    beside = sorted({own for form in _BESIDE for own in file.parent.glob(form) if own.is_file()})
    digest = hashlib.sha256(json.dumps([*made, *(own.name for own in beside)]).encode())
    for own in (file, *beside):
        with own.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()


def _keep_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Saves a tokenizer. Raises _NotKept where what was saved is read as another one."""
    tokenizer.save_pretrained(folder)
    again = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    parts = [(own.backend_tokenizer.to_str(), own.special_tokens_map, own.chat_template) for own in (tokenizer, again)]
    if parts[0] != parts[1]:
        raise _NotKept("its tokenizer does not read back from its saved files as it was")


def _seal(folder: Path) -> None:
    """Syncs the files of a folder, and writes down what each of them is."""
    marks = {own.name: _mark(own) for own in sorted(folder.iterdir())}
    (folder / _SEAL).write_text(json.dumps(marks, indent=1))
    for own in (*folder.iterdir(), folder):
        handle = os.open(own, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def is_whole(entry: Path) -> bool:
    """Whether an entry of the cache holds the files that were written, undamaged as far as a sample of each tells."""
    try:
        marks = json.loads((entry / _SEAL).read_bytes())
        return all(_mark(entry / name) == mark for name, mark in marks.items())
    except (OSError, ValueError, AttributeError):
        return False


def _mark(file: Path) -> list[Any]:
    """[the bytes of a file, hex sha256 of up to 1,024 blocks spread evenly over it]; a file of 4 MiB is read whole."""
    size, digest = file.stat().st_size, hashlib.sha256()
    with file.open("rb", buffering=0) as content:
        for start in range(0, size, max(_BLOCK, size // _BLOCKS)):
            content.seek(start)
            digest.update(content.read(_BLOCK))
    return [size, digest.hexdigest()]


def _put(aside: Path, entry: Path) -> None:
    """Renames a written folder to an entry; an entry that another process put there stays, a damaged one goes."""
    for last in (False, False, True):  # others may do the same at the same time
        try:
            return os.rename(aside, entry)
        except OSError:
            if is_whole(entry):
                return None
            if last:
                raise
        damaged = tempfile.mkdtemp(prefix=f".{entry.name}.", dir=entry.parent)
        with suppress(OSError):
            os.rename(entry, damaged)
        shutil.rmtree(damaged, ignore_errors=True)
    return None


def _sweep(entry: Path) -> None:
    """Removes what a process left that was stopped while it wrote this entry, a day ago or more."""
    for left in entry.parent.glob(f".{entry.name}.*"):
        if time.time() - left.stat().st_mtime > _DAY:
            shutil.rmtree(left, ignore_errors=True)
