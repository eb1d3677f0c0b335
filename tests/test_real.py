"""The embedded base and encoder: they load offline, answer, and take a memory. Slow: marked `real`."""

from __future__ import annotations

import json
import logging

import pytest
from gguf_files import llama_cpp

from lorary.__main__ import main
from lorary.base.layers import fingerprint
from lorary.base.loading import EMBEDDED, embedded_file, load_base, load_tokenizer
from lorary.base.prompts import prompt, prompt_ids, routing_text
from lorary.base.unpacking import CACHE

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
