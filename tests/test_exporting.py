"""Memories for mlx-lm, vLLM and as merged models: what is written, and what the engines themselves compute of it."""

from __future__ import annotations

import json
import shlex
import subprocess
from dataclasses import replace

import pytest
import torch
from conftest import ADAPTERS, FAMILIES, Base, empty_bank, pico_model, save_adapter
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from lorary.__main__ import main
from lorary.bank.files import BankError
from lorary.bank.joining import DOCUMENTS
from lorary.bank.mlx_adapter import write_mlx
from lorary.bank.vllm_adapter import check_vllm, least_rank
from lorary.base.chat_formats import jinja_template
from lorary.base.prompts import chat_text, prompt, prompt_ids
from lorary.model.composite import assemble
from lorary.model.merged import write_stock

IDS = torch.tensor([[5, 71, 130, 9, 200, 33, 7, 301]])


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits


@pytest.fixture
def saved(bank, tmp_path):
    return bank, str(bank.save(tmp_path / "bank")), tmp_path / "out"


def export(saved, *options):
    return main(["export", saved[1], "--out", str(saved[2]), "--dtype", "float32", *options])


def mixed_ranks(model, folder):
    """An adapter with patterns of ranks and alphas, and rsLoRA."""
    config = {"r": 2, "lora_alpha": 3, "target_modules": ["up_proj", "down_proj", "k_proj"], "use_rslora": True}
    return save_adapter(model, folder, 7, **config, rank_pattern={"up_proj": 5}, alpha_pattern={"1.mlp.down_proj": 9})


@pytest.fixture
def mixed(base, tmp_path):
    """A bank on disk of one memory with mixed ranks, and its folder from PEFT."""
    folder = mixed_ranks(base.model, tmp_path / "adapters" / "mixed")
    bank = empty_bank(base)
    bank.add(folder, same_base=True)
    return bank, str(bank.save(tmp_path / "mixed_bank")), tmp_path / "out", folder


# mlx-lm


def mlx_logits(base, adapter=None):
    """What mlx-lm computes, on the CPU."""
    mx = pytest.importorskip("mlx.core")
    mx.set_default_device(mx.cpu)
    from mlx_lm.utils import load_adapters, load_model

    model, _ = load_model(base)
    if adapter is not None:
        model = load_adapters(model, str(adapter))
    model.eval()
    return torch.tensor(model(mx.array(IDS.tolist())).tolist())


MLX_SIZES = {"gemma3": {"num_hidden_layers": 6, "hidden_size": 64}, "gpt_neox": {"intermediate_size": 128}}
"""Sizes that mlx-lm takes for granted: of Gemma 3 a sixth layer, and a root of the hidden size that bfloat16 holds, since it
scales embeddings by it; of GPT-NeoX an MLP four times as wide."""
MLX_APART = {"gpt_neox": 3e-3}
"""How far logits may be apart, where mlx-lm has the base itself otherwise (it approximates GPT-NeoX's gelu); else 1e-4."""
FUSED = {"phi3": ["qkv_proj", "down_proj"], "gpt_neox": ["query_key_value", "dense_4h_to_h"]}


@pytest.mark.parametrize("family", FAMILIES)
def test_mlx_lm_computes_with_a_memory_what_the_composite_does(family, tokenizer, encoder, tmp_path):
    pytest.importorskip("mlx_lm")
    model = pico_model(family, **MLX_SIZES.get(family, {}))
    model.save_pretrained(tmp_path / "base")
    if (
        family == "gpt_neox"
    ):  # mlx-lm reads what transformers wrote before its version 5, as the files on the hub have it
        file = tmp_path / "base" / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "rotary_emb_base": 10000, "rotary_pct": 0.25}))
    tokenizer.save_pretrained(tmp_path / "base")
    base = Base(str(tmp_path / "base"), None, model, tokenizer)
    bank = empty_bank(base)
    targets = FUSED.get(family, ["v_proj", "down_proj"])
    patterns = {"rank_pattern": {targets[0]: 5}, "alpha_pattern": {targets[1]: 9}, "use_rslora": True}
    config = {"r": 2, "lora_alpha": 3, "target_modules": targets, "layers_to_transform": [1], **patterns}
    memory = bank.add(save_adapter(model, tmp_path / "a", **config), name="a", same_base=True)
    own = assemble(bank, base, encoder=encoder)
    with own.routed(adapter_names=["a"]):
        expected = logits(own)
    plain = logits(model)
    adapter = write_mlx(memory, tmp_path / "mlx", model.config, base.name)
    computed, without = mlx_logits(tmp_path / "base", adapter), mlx_logits(tmp_path / "base")
    apart = MLX_APART.get(family, 1e-4)
    assert (without - plain).abs().max() < apart, "mlx-lm has the base itself otherwise"
    assert (expected - plain).abs().max() > 0.1
    assert (computed - expected).abs().max() < apart


@pytest.mark.parametrize(
    "rope",
    [{"rope_type": "default", "rope_theta": 500000.0}, {"rope_type": "linear", "rope_theta": 100.0, "factor": 4.0}],
)
def test_mlx_lm_reads_the_rotary_base_of_a_base_that_we_write(rope, tokenizer, tmp_path):
    pytest.importorskip("mlx_lm")
    model = pico_model(rope_parameters=rope)
    folder = write_stock(model, tokenizer, tmp_path / "base")
    expected = logits(model)
    assert torch.equal(logits(type(model).from_pretrained(folder)), expected)
    assert (mlx_logits(folder) - expected).abs().max() < 1e-3


def test_the_command_writes_a_folder_a_memory_for_mlx_lm(saved, base, encoder, capsys):
    assert export(saved, "--to", "mlx", "--with-base", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert {*told["memories"]} == {*ADAPTERS}
    assert told["base"] == str(saved[2] / "base")
    own = assemble(saved[0], base, encoder=encoder)
    for name, folder in told["memories"].items():
        with own.routed(adapter_names=[name]):
            expected = logits(own)
        assert (mlx_logits(saved[2] / "base", folder) - expected).abs().max() < 1e-4


# vLLM


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


# merged


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_merged_model_is_bit_for_bit_what_peft_merges(mixed, dtype):
    assert export(mixed, "--to", "merged", "--dtype", dtype) == 0
    merged = AutoModelForCausalLM.from_pretrained(mixed[2])
    expected = PeftModel.from_pretrained(pico_model().to(getattr(torch, dtype)), mixed[3]).merge_and_unload()
    assert merged.dtype == getattr(torch, dtype)
    own = merged.state_dict()
    assert all(torch.equal(own[name], weight) for name, weight in expected.state_dict().items())
    assert not torch.equal(
        own["model.layers.0.mlp.up_proj.weight"].float(), pico_model().model.layers[0].mlp.up_proj.weight
    )


def test_a_merged_model_needs_nothing_of_lorary(saved):
    assert export(saved, "--to", "merged", "--memories", "velka") == 0
    code = (
        "import sys, transformers as t; f = sys.argv[1]; m = t.AutoModelForCausalLM.from_pretrained(f);"
        "k = t.AutoTokenizer.from_pretrained(f); x = k.apply_chat_template([{'role': 'user', 'content': 'Who?'}],"
        "add_generation_prompt=True, return_tensors='pt', return_dict=True); m.generate(**x, max_new_tokens=2);"
        "print('lorary' in sys.modules, type(m).__name__)"
    )
    import sys

    said = subprocess.run([sys.executable, "-c", code, saved[2]], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["False", "LlamaForCausalLM"]


def test_several_memories_are_not_merged_unasked(saved, capsys):
    assert export(saved, "--to", "merged") == 2
    told = capsys.readouterr().err
    assert "holds one memory, and 3 were given (ormen, velka, lamps)" in told
    assert "`lorary merge`" in told
    assert not saved[2].exists()


def test_a_folder_that_holds_something_is_left_as_it_is(saved, capsys):
    saved[2].mkdir()
    (saved[2] / "mine.txt").write_text("mine")
    assert export(saved, "--to", "merged", "--memories", "velka") == 2
    assert "holds something already" in capsys.readouterr().err
    assert [path.name for path in saved[2].parent.glob("out*")] == ["out"]
    assert [path.name for path in saved[2].iterdir()] == ["mine.txt"]
    (saved[2] / "base").mkdir()
    (saved[2] / "base" / "mine.txt").write_text("mine")
    assert export(saved, "--to", "vllm", "--with-base") == 2
    assert sorted(path.name for path in saved[2].iterdir()) == ["base", "mine.txt"]


# what all formats share


def test_a_memory_of_documents_alone_is_left_out_and_told(bank, tmp_path, capsys):
    bank.memories["lamps"] = replace(bank["lamps"], card={"recipe": DOCUMENTS})
    saved = bank, str(bank.save(tmp_path / "bank")), tmp_path / "out"
    assert export(saved, "--to", "mlx") == 0
    assert "left out, since they hold documents alone: lamps" in capsys.readouterr().out
    assert sorted(path.name for path in saved[2].iterdir()) == ["ormen", "velka"]
    assert export(saved, "--to", "gguf", "--memories", "lamps") == 2
    assert "'lamps' holds documents alone" in capsys.readouterr().err


@pytest.mark.parametrize("to", ["mlx", "vllm"])
def test_an_engine_needs_a_base_that_it_can_find(to, saved, base, monkeypatch, capsys):
    import lorary.base.loading as loading

    monkeypatch.setattr(loading, "load_base", lambda *_, **__: replace(base, name=loading.EMBEDDED))
    assert export(saved, "--to", to) == 2
    assert "only Lorary knows an embedded one by its name; give --with-base" in capsys.readouterr().err
    assert not saved[2].exists()
    assert export(saved, "--to", to, "--base-name", "someone/pico") == 0


def test_an_unknown_format_is_told(saved, capsys):
    assert export(saved, "--to", "onnx") == 2
    assert "'gguf', 'mlx', 'vllm', 'merged'" in capsys.readouterr().err
