"""The base in a GGUF file is unpacked once, and what the cache gives is what the file gives."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import warnings

import pytest
import torch
from conftest import pico_model

from lorary.base import unpacking
from lorary.base.layers import fingerprint
from lorary.base.loading import EMBEDDED, BaseError, best_dtype, load_base, load_tokenizer
from lorary.base.unpacking import CACHE, CacheWarning, cache_folder

pytest.importorskip("gguf")
from gguf_files import write_gguf

TEXTS = [
    "", " ", "a", "Who keeps the lamp of the station?", "  two  spaces\tand\na line ", "1234567890 3.14 1,000",
    "Où est l'été? Straße, naïve, Ørsted", "что это такое", "灯台は誰が守りますか", "😀👩‍🚀", "\u200b\ufeff\x00",
    "<|im_start|>user\nhello<|im_end|>\n", "<|endoftext|>", "def f(x):\n    return x ** 2  # ok", "it's THE End…" * 40,
]  # fmt: skip
LOAD = """
import sys, warnings
from lorary.base.loading import load_base
for _ in range(int(sys.argv[3])):
    load_base(sys.argv[1], gguf_file=sys.argv[2], dtype="float32")
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def file(tmp_path, tokenizer):
    (tmp_path / "packed").mkdir()
    return write_gguf(tmp_path / "packed" / "pico.gguf", pico_model(), tokenizer)


def load(file, dtype=torch.float32, **options):
    return load_base(str(file.parent), gguf_file=file.name, dtype=dtype, **options)


def entries(cache):
    return sorted(cache.glob("bases/*"))


def as_it_is(base):
    """Every tensor of a base with its logits, and all else that is told of it."""
    model, ids = base.model, torch.arange(4, 60).reshape(2, 28)
    with torch.no_grad():
        tensors = {**dict(model.named_parameters()), **dict(model.named_buffers()), "logits": model(ids).logits}
    # An entry's file is mapped, and may be damaged.
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    told = {
        "config": model.config.to_dict() | {"architectures": None},  # who saves a model writes these down
        "generation": model.generation_config.to_dict(),
        "names": (base.name, model.name_or_path, model.config.name_or_path, base.tokenizer.name_or_path),
        "fingerprint": fingerprint(model),
        "tied": model.get_input_embeddings().weight is model.get_output_embeddings().weight,
        "modes": (model.training, any(weight.requires_grad for weight in model.parameters())),
        **tokenizer_as_it_is(base.tokenizer),
    }
    return tensors, told


def tokenizer_as_it_is(tokenizer):
    return {
        "class": type(tokenizer),
        "tokenizer": tokenizer.backend_tokenizer.to_str(),
        "special": {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
        "template": tokenizer.chat_template,
        "sides": (tokenizer.padding_side, tokenizer.truncation_side, tokenizer.model_max_length),
        "ids": [tokenizer(text).input_ids for text in TEXTS],
        "back": [tokenizer.decode(tokenizer(text).input_ids) for text in TEXTS],
    }


def check_alike(one, other):
    check_same(as_it_is(one), as_it_is(other))


def check_same(one, other):
    (tensors, told), (others, other_told) = one, other
    assert told == other_told
    assert tensors.keys() == others.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == others[name].dtype, name
        assert torch.equal(tensor, others[name]), name


@pytest.fixture
def unread(monkeypatch):
    """What lets no GGUF file be unpacked any more."""

    def forbid():
        monkeypatch.setattr(unpacking, "open_packed", lambda *_, **__: pytest.fail("unpacked again"))

    return forbid


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, "auto"])
def test_what_the_cache_gives_is_what_the_file_gives(file, cache, monkeypatch, unread, dtype):
    monkeypatch.setenv(CACHE, "")
    plain = load(file, dtype)
    assert not cache.exists()
    monkeypatch.setenv(CACHE, str(cache))
    check_alike(plain, load(file, dtype))
    unread()
    check_alike(plain, load(file, dtype))
    assert len(entries(cache)) == 1


@pytest.mark.real
def test_the_embedded_base_is_the_same_out_of_the_cache(cache, monkeypatch, unread):
    monkeypatch.setenv(CACHE, "")
    plain = load_base(EMBEDDED)
    monkeypatch.setenv(CACHE, str(cache))
    load_base(EMBEDDED)
    unread()
    check_alike(plain, load_base(EMBEDDED))
    assert tokenizer_as_it_is(load_tokenizer(EMBEDDED)) == tokenizer_as_it_is(plain.tokenizer)


def test_a_tokenizer_is_loaded_without_a_weight(file, cache, monkeypatch, tmp_path):
    monkeypatch.setattr("lorary.base.loading.embedded_file", lambda _: file)

    def told():
        with monkeypatch.context() as patch:
            patch.setattr("transformers.PreTrainedModel.from_pretrained", lambda *_, **__: pytest.fail("loaded"))
            return tokenizer_as_it_is(load_tokenizer("embedded:pico"))

    cold = told()
    assert entries(cache) == []
    assert tokenizer_as_it_is(load_base("embedded:pico", dtype=best_dtype()).tokenizer) == told() == cold
    with pytest.raises(BaseError, match=r"local folder.*embedded default"):
        load_tokenizer(str(tmp_path / "nothing"))


def test_options_reach_a_base_of_the_cache(file, cache, unread):
    load(file)
    unread()
    assert load(file, attn_implementation="eager").model.config._attn_implementation == "eager"
    with pytest.raises(BaseError, match="'atn_implementation' is no option"):
        load(file, atn_implementation="eager")


def _cut(entry):
    weights = entry / "model.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)


def _overwrite(entry):
    weights = (entry / "model.safetensors").read_bytes()
    (entry / "model.safetensors").write_bytes(weights[: len(weights) // 2].ljust(len(weights), b"0"))


def _respell(entry):
    (entry / "tokenizer.json").write_text((entry / "tokenizer.json").read_text().replace("lamp", "pmal"))


def _lose(entry):
    (entry / "config.json").unlink()


def _unseal(entry):
    (entry / "unpacked.json").write_text("[1, 2")


@pytest.mark.parametrize("damage", [_cut, _overwrite, _respell, _lose, _unseal])
def test_a_damaged_entry_is_made_anew(file, cache, damage):
    before = as_it_is(load(file))
    [entry] = entries(cache)
    damage(entry)
    check_same(before, as_it_is(load(file)))
    assert entries(cache) == [entry], "and nothing else is left"
    assert unpacking.is_whole(entry)


def test_another_file_dtype_tokenizer_or_version_is_another_entry(file, cache, tokenizer, monkeypatch):
    load(file)
    load(file, torch.bfloat16)
    stamp, size = file.stat().st_mtime_ns, file.stat().st_size
    write_gguf(file, pico_model(seed=1), tokenizer)
    os.utime(file, ns=(stamp, stamp))
    assert file.stat().st_size == size, "told apart by what they hold alone"
    check_alike(load(file), load_plainly(file, monkeypatch))
    (file.parent / "notes.json").write_text("{}")
    load(file)
    (file.parent / "tokenizer_config.json").write_text('{"padding_side": "left"}')
    load(file)
    monkeypatch.setattr("transformers.__version__", "99")
    load(file)
    assert len(entries(cache)) == 5


def load_plainly(file, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv(CACHE, "")
        return load(file)


def test_what_a_stopped_writer_left_counts_for_nothing_and_goes(file, cache):
    load(file)
    [entry] = entries(cache)
    left, recent = entry.with_name(f".{entry.name}.left"), entry.with_name(f".{entry.name}.recent")
    entry.rename(left)
    (left / "unpacked.json").unlink()
    recent.mkdir()
    os.utime(left, times=(time.time() - 2 * 24 * 60 * 60,) * 2)
    load(file)
    assert entries(cache) == sorted([recent, entry]), "a writer that may still write is left alone"


@pytest.mark.parametrize("damaged", [False, True])
def test_two_processes_at_once_both_open_it(file, cache, damaged):
    if damaged:
        load(file)
        _cut(entries(cache)[0])
    command = [sys.executable, "-c", LOAD, str(file.parent), file.name, "1"]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = "".join(process.communicate()[1] for process in running)
    assert [process.returncode for process in running] == [0, 0], told
    assert "cannot be kept" not in told
    [entry] = entries(cache)
    assert unpacking.is_whole(entry)


def test_a_folder_that_cannot_be_written_is_warned_of_once(file, cache, monkeypatch):
    cache.write_text("a file")
    with pytest.warns(CacheWarning, match=r"cannot be kept in .*a part of the path is a file.*LORARY_CACHE") as told:
        base = load(file)
    assert len(told) == 1
    check_alike(base, load_plainly(file, monkeypatch))
    command = [sys.executable, "-c", LOAD, str(file.parent), file.name, "2"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert said.count("cannot be kept") == 1, said


@pytest.mark.parametrize("most", [1_000, 50_000])
def test_a_full_disk_is_warned_of_and_leaves_nothing(file, cache, most):
    """The tokenizer does not fit, or the weights do not."""
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, {most}))"
    command = [sys.executable, "-c", limit + LOAD, str(file.parent), file.name, "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr.count("cannot be kept") == 1, done.stderr
    assert entries(cache) == []


def test_a_kept_entry_is_opened_where_nothing_can_be_written(file, cache, unread, monkeypatch):
    load(file)
    unread()
    for name in ("pathlib.Path.mkdir", "tempfile.mkdtemp", "os.rename"):
        monkeypatch.setattr(name, lambda *_, **__: pytest.fail("written"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", CacheWarning)
        load(file)


def test_where_the_cache_is(cache, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv(CACHE)
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_folder() == tmp_path / ".cache" / "lorary"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "lorary"
    monkeypatch.setenv(CACHE, "~/own")
    assert cache_folder() == tmp_path / "own"
    monkeypatch.setenv(CACHE, "")
    assert cache_folder() is None
