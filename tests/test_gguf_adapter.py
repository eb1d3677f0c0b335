"""Memories as GGUF adapters: the factors in the file, and what llama.cpp itself computes of them."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import ADAPTERS, empty_bank, pico_model, save_adapter

from lorary.__main__ import main
from lorary.bank.files import BankError
from lorary.bank.gguf_adapter import write_gguf
from lorary.base.loading import load_base
from lorary.model.composite import assemble

gguf = pytest.importorskip("gguf")
import gguf_files  # noqa: E402


@pytest.fixture
def packed(tmp_path, tokenizer, monkeypatch):
    """A pico Llama as a GGUF file, and the same weights as Lorary opens them."""
    monkeypatch.setenv("LORARY_CACHE", "")
    (tmp_path / "packed").mkdir()
    file = gguf_files.write_gguf(tmp_path / "packed" / "pico.gguf", pico_model(), tokenizer)
    return file, load_base(str(file.parent), gguf_file=file.name, dtype=torch.float32)


def tensors(file):
    reader = gguf.GGUFReader(file)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    return fields, {tensor.name: np.array(tensor.data).reshape(tensor.shape[::-1]) for tensor in reader.tensors}


def test_the_file_holds_the_update_of_every_linear(bank, base, tmp_path):
    for memory in bank:
        fields, held = tensors(write_gguf(memory, tmp_path / f"{memory.name}.gguf", base.model.config))
        assert (fields["general.type"], fields["general.architecture"]) == ("adapter", "llama")
        assert (fields["adapter.type"], fields["general.name"]) == ("lora", memory.name)
        factors = memory.factors()
        assert len(held) == 2 * len(factors)
        for path, (down, up) in factors.items():
            name = gguf_files._gguf_name(f"{path}.weight")
            a, b = held[f"{name}.lora_a"], held[f"{name}.lora_b"]
            update = (up @ down).numpy()
            if path.endswith("q_proj"):  # each head's two halves lie side by side
                update = update.reshape(4, 2, 4, -1).swapaxes(1, 2).reshape(update.shape)
            np.testing.assert_allclose(b @ a * fields["adapter.lora.alpha"] / len(a), update, atol=1e-6)


def test_ranks_may_differ_from_linear_to_linear(base, tmp_path):
    folder = save_adapter(
        base.model,
        tmp_path / "a",
        r=2,
        lora_alpha=3,
        target_modules=["up_proj", "down_proj"],
        rank_pattern={"up_proj": 5},
    )
    memory = empty_bank(base).add(folder, same_base=True)
    fields, held = tensors(write_gguf(memory, tmp_path / "a.gguf", base.model.config))
    for path, (down, up) in memory.factors().items():
        name = gguf_files._gguf_name(f"{path}.weight")
        a, b = held[f"{name}.lora_a"], held[f"{name}.lora_b"]
        np.testing.assert_allclose(b @ a * fields["adapter.lora.alpha"] / len(a), (up @ down).numpy(), atol=1e-6)


def test_another_kind_of_base_is_told_and_nothing_is_written(bank, tmp_path):
    config = pico_model("gemma3").config
    with pytest.raises(BankError, match=r"for a base of type 'gemma3_text'; .* stock PEFT adapter"):
        write_gguf(bank["ormen"], tmp_path / "ormen.gguf", config)
    assert not list(tmp_path.glob("*.gguf*"))


def test_the_command_writes_a_file_a_memory(bank, base, tmp_path, capsys):
    bank.save(tmp_path / "bank")
    export = ["export", str(tmp_path / "bank"), "--out", str(tmp_path / "out")]
    assert main([*export, "--json"]) == 0
    files = json.loads(capsys.readouterr().out)["memories"]
    assert files == {name: str(tmp_path / "out" / f"{name}.gguf") for name in bank.names}
    before = (tmp_path / "out" / "velka.gguf").read_bytes()
    assert main([*export, "--memories", "velka"]) == 0
    assert "--lora-init-without-apply" in capsys.readouterr().out
    assert (tmp_path / "out" / "velka.gguf").read_bytes() == before
    assert main([*export, "--memories", "paris"]) == 2
    assert "'paris' has no memory" in capsys.readouterr().err


def test_a_composite_that_holds_its_base_needs_no_other(bank, base, encoder, tmp_path):
    bank.base = "nowhere"
    assemble(bank, base, encoder=encoder).save_pretrained(tmp_path / "composite", include_base=True)
    assert main(["export", str(tmp_path / "composite"), "--out", str(tmp_path / "out")]) == 0
    assert len(list((tmp_path / "out").glob("*.gguf"))) == len(bank)


def test_llama_cpp_answers_under_a_memory_as_the_composite_does(packed, tmp_path, tokenizer, encoder):
    """Its next tokens and their probabilities, up to what it rounds: it multiplies with 8-bit states."""
    pytest.importorskip("xllamacpp")
    file, base = packed
    bank = empty_bank(replace(base, name=str(file.parent)))
    for seed, (name, config) in enumerate(ADAPTERS.items()):
        bank.add(save_adapter(base.model, tmp_path / name, seed, **config), name=name, same_base=True)
    composite = assemble(bank, base, encoder=encoder)
    files = [write_gguf(memory, tmp_path / f"{memory.name}.gguf", base.model.config) for memory in bank]
    server = gguf_files.llama_cpp(file, files)
    apart = dict[str, float]()
    for start, (number, name) in itertools.product((4, 30, 60), [(None, "__base__"), *enumerate(bank.names)]):
        ids = list(range(start, start + 20))
        with torch.no_grad():
            rows = torch.tensor([ids, ids])
            own, plain = composite(input_ids=rows, adapter_names=[name, "__base__"]).logits[:, -1].log_softmax(-1)
        active = [{"id": number, "scale": 1.0}] if number is not None else []
        request = {
            "prompt": ids,
            "n_predict": 1,
            "temperature": 0,
            "logprobs": 5,
            "lora": active,
            "cache_prompt": False,
        }
        [choice] = server.handle_completions(request)["choices"]
        if choice["logprobs"] is None:  # of half a character nothing is told
            continue
        [first] = choice["logprobs"]["content"]
        told = {entry["id"]: entry["logprob"] for entry in first["top_logprobs"]}
        assert first["id"] == int(own.argmax())
        assert told == pytest.approx({token: float(own[token]) for token in told}, abs=0.15)
        apart[name] = max(apart.get(name, 0.0), float((own - plain).abs().max()))
    assert apart.pop("__base__") == 0
    assert {*apart} == {*bank.names}, "each was told at least once"
    assert min(apart.values()) > 1, "each memory answers otherwise than the base, by far more than the rounding"
