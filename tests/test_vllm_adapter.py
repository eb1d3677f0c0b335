"""Memories for vLLM: what is written is a PEFT folder that it takes, with a script, a base and the base's template."""

from __future__ import annotations

import json
import shlex
import subprocess

import pytest
import torch
from conftest import empty_bank, pico_model, save_adapter
from exports import export, logits, mixed_bank, saved_bank
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from lorary.__main__ import main
from lorary.bank.files import BankError
from lorary.bank.vllm_adapter import check_vllm, least_rank
from lorary.base.chat_formats import jinja_template
from lorary.base.prompts import chat_text, prompt, prompt_ids


@pytest.fixture
def saved(bank, tmp_path):
    return saved_bank(bank, tmp_path)


@pytest.fixture
def mixed(base, tmp_path):
    return mixed_bank(base, tmp_path)


def test_a_module_for_vllm_is_a_peft_folder_without_patterns(mixed, base, capsys):
    assert export(mixed, "--to", "vllm", "--base-name", "someone/pico", "--json") == 0
    folder = json.loads(capsys.readouterr().out)["memories"]["mixed"]
    config = json.loads((mixed[2] / "mixed" / "adapter_config.json").read_bytes())
    assert (config["r"], config["lora_alpha"], config["base_model_name_or_path"]) == (5, 5, "someone/pico")
    assert not {"rank_pattern", "alpha_pattern", "use_rslora", "modules_to_save"} & {*config}
    expected = logits(PeftModel.from_pretrained(pico_model(), mixed[3]).eval())
    torch.testing.assert_close(
        logits(PeftModel.from_pretrained(pico_model(), folder).eval()), expected, atol=1e-5, rtol=0
    )


def test_the_script_for_vllm_names_every_memory_and_the_least_rank(saved, tmp_path):
    assert export(saved, "--to", "vllm", "--with-base") == 0
    script = saved[2] / "serve.sh"
    subprocess.run(["sh", "-n", script], check=True)
    command = shlex.split(script.read_text().splitlines()[2])
    assert command[1:4] == ["vllm", "serve", "./base"]
    assert command[command.index("--max-lora-rank") + 1] == "8"  # the ranks are 2, 4 and 3
    modules = command[command.index("--lora-modules") + 1 : -1]
    assert modules == [f"{name}=./{name}" for name in saved[0].names]
    assert all((saved[2] / module.partition("=")[2] / "adapter_model.safetensors").is_file() for module in modules)
    # run where it lies, with what stands behind it passed on
    seen = tmp_path / "bin" / "vllm"
    seen.parent.mkdir()
    seen.write_text('#!/bin/sh\nls; echo "$@"\n')
    seen.chmod(0o755)
    said = subprocess.run(
        [script, "--port", "1"], env={"PATH": f"{seen.parent}:/bin:/usr/bin"}, capture_output=True, text=True
    )
    assert "chat_template.jinja" in said.stdout
    assert said.stdout.rstrip().endswith("--port 1")


def test_the_base_that_is_written_stands_alone(saved, base):
    assert export(saved, "--to", "vllm", "--with-base") == 0
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(saved[2] / "base")), logits(base.model))
    assert AutoTokenizer.from_pretrained(saved[2] / "base").chat_template == base.tokenizer.chat_template


@pytest.mark.parametrize("rank", [(1, 1), (2, 8), (8, 8), (9, 16), (257, 320), (512, 512)])
def test_the_least_rank_that_vllm_allows(rank):
    assert least_rank(rank[0]) == rank[1]


def test_what_vllm_would_refuse_is_refused_before_anything_is_written(base, bank, tmp_path, capsys):
    wide = empty_bank(base)
    wide.add(bank["ormen"])
    wide.add(save_adapter(base.model, tmp_path / "a", r=513, target_modules=["down_proj"]), name="wide", same_base=True)
    out = tmp_path / "out"
    assert main(["export", str(wide.save(tmp_path / "b")), "--out", str(out), "--to", "vllm"]) == 2
    assert "'wide' has rank 513, and vLLM takes ranks up to 512" in capsys.readouterr().err
    assert not out.exists()
    with pytest.raises(BankError, match="'gpt_neox', for which vLLM takes no LoRA"):
        check_vllm(bank["ormen"], pico_model("gpt_neox").config)


@pytest.mark.parametrize("first", ["", "<|im_start|>"])
def test_the_template_for_vllm_writes_the_tokens_that_a_memory_was_trained_on(tokenizer, first):
    """vLLM adds none to what a template writes."""
    import copy

    from tokenizers.processors import TemplateProcessing

    tokenizer = copy.deepcopy(tokenizer)
    if first:  # as tokenizers do that begin every text with a token
        ids = [(first, tokenizer.convert_tokens_to_ids(first))]
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{first} $A", special_tokens=ids)
    for template in (tokenizer.chat_template, None, "{% for turn in messages %}{{ turn['content'] }}!{% endfor %}"):
        tokenizer.chat_template = template
        chat = [{"role": "user", "content": "Who?"}]
        written = tokenizer.apply_chat_template(
            chat, chat_template=jinja_template(tokenizer), tokenize=False, add_generation_prompt=True
        )
        assert (
            tokenizer(written, add_special_tokens=False).input_ids
            == prompt_ids(tokenizer, [prompt(tokenizer, "Who?")])[0]
        )


def test_the_template_of_a_base_without_one_writes_a_whole_chat(tokenizer):
    tokenizer = AutoTokenizer.from_pretrained(tokenizer.name_or_path) if tokenizer.name_or_path else tokenizer
    chat = [
        {"role": "user", "content": "Who?"},
        {"role": "assistant", "content": "Ada"},
        {"role": "user", "content": "Why?"},
    ]
    kept, tokenizer.chat_template = tokenizer.chat_template, None
    try:
        plain, template = chat_text(tokenizer, chat), jinja_template(tokenizer)
        assert (
            tokenizer.apply_chat_template(chat, chat_template=template, tokenize=False, add_generation_prompt=True)
            == plain
        )
    finally:
        tokenizer.chat_template = kept
