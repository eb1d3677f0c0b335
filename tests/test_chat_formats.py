"""Chat formats for other engines: a Modelfile of Ollama, whose template Go's own interpreter runs."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess

import pytest
from conftest import FACTS
from tokenizers.processors import TemplateProcessing

from lorary.__main__ import main
from lorary.base.chat_formats import go_template, modelfile
from lorary.base.prompts import chat_text

GO = """package main

import (
	"encoding/json"
	"os"
	"text/template"
)

type turn struct{ Role, Content string }

func main() {
	var asked struct {
		Template string
		Chats    [][]turn
	}
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		panic(err)
	}
	parsed := template.Must(template.New("").Parse(asked.Template))
	for _, chat := range asked.Chats {
		if err := parsed.Execute(os.Stdout, map[string]any{"Messages": chat}); err != nil {
			panic(err)
		}
		os.Stdout.WriteString("\\x00")
	}
}
"""
USER, ANSWER = {"role": "user", "content": "Who {{ is }} it?"}, {"role": "assistant", "content": "Ada"}
SYSTEM, AGAIN = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}
CHATS = [[USER], [USER, ANSWER, AGAIN], [USER, ANSWER, AGAIN, ANSWER, USER]]
TEMPLATES = {
    "none": None,
    "llama": "{% for m in messages %}<|im_start|>{{ m['role'] }}<|im_end|>\\n\\n{{ m['content'] }}<unk>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant<|im_end|>\\n\\n{% endif %}",
    "braces and quotes": "{% for m in messages %}{{ '{{\"' + m['role'] + '\\\\\"}}' + m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '{{\"assistant\\\\\"}}' }}{% endif %}",
}


def rendered(template, chats, folder):
    (folder / "main.go").write_text(GO)
    turns = [[{"Role": turn["role"], "Content": turn["content"]} for turn in chat] for chat in chats]
    environment = {**os.environ, "GOCACHE": str(folder / "cache"), "GOFLAGS": "-mod=mod", "GO111MODULE": "off"}
    asked = json.dumps({"Template": template, "Chats": turns})
    run = subprocess.run(
        ["go", "run", folder / "main.go"], input=asked, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.split("\x00")[:-1]


@pytest.mark.skipif(shutil.which("go") is None, reason="Go is not installed")
@pytest.mark.parametrize("name", ["chatml", *TEMPLATES])
def test_go_writes_a_chat_as_the_memories_were_trained(name, tokenizer, tmp_path):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = TEMPLATES.get(name, tokenizer.chat_template)
    chats = [*CHATS, *([[SYSTEM, USER]] if name != "none" else [])]
    expected = [chat_text(tokenizer, chat) for chat in chats]
    assert rendered(go_template(tokenizer), chats, tmp_path) == expected


def test_the_token_that_begins_a_text_is_left_to_ollama(tokenizer):
    tokenizer = copy.deepcopy(tokenizer)
    ids = [("<unk>", tokenizer.convert_tokens_to_ids("<unk>"))]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<unk> $A", special_tokens=ids)
    tokenizer.chat_template = "<unk>" + tokenizer.chat_template
    assert "<unk>" not in go_template(tokenizer)


def test_a_modelfile_has_the_base_the_adapter_and_the_format_of_the_chat(tokenizer):
    lines = modelfile(tokenizer, "/models/base.gguf", "boat.gguf")
    assert lines.startswith("FROM /models/base.gguf\nADAPTER ./boat.gguf\nTEMPLATE ")
    [template] = re.findall(r'TEMPLATE """(.*)"""', lines, re.DOTALL)
    assert template == go_template(tokenizer)
    assert "SYSTEM " not in lines
    assert 'PARAMETER stop "<|im_end|>"' in lines


def test_the_command_writes_a_modelfile_a_memory_where_ollama_can_find_the_base(bank, base, tmp_path):
    pytest.importorskip("gguf")
    folder = bank.save(tmp_path / "bank")
    assert main(["export", str(folder), "--out", str(tmp_path / "a")]) == 0
    assert {path.name for path in (tmp_path / "a").glob("*.Modelfile")} == {f"{name}.Modelfile" for name in FACTS}
    assert (tmp_path / "a" / "velka.Modelfile").read_text().startswith(f"FROM {base.name}\nADAPTER ./velka.gguf\n")
    assert main(["export", str(folder), "--out", str(tmp_path / "b"), "--base-name", "pico.gguf"]) == 0
    assert (tmp_path / "b" / "velka.Modelfile").read_text().startswith("FROM pico.gguf\n")
