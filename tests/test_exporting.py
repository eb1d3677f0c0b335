"""Memories as merged models, and what the formats of all engines share."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from conftest import pico_model
from exports import export, mixed_bank, saved_bank
from peft import PeftModel
from transformers import AutoModelForCausalLM

from lorary.bank.joining import DOCUMENTS


@pytest.fixture
def saved(bank, tmp_path):
    return saved_bank(bank, tmp_path)


@pytest.fixture
def mixed(base, tmp_path):
    return mixed_bank(base, tmp_path)


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
