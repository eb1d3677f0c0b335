"""The composite under EleutherAI's lm-evaluation-harness, as the `hf` model that it takes any causal model for."""

from __future__ import annotations

import json

import pytest
import torch

from lorary.base.prompts import prompt
from lorary.eval.asking import Ask, Asker

ROWS = (
    {"question": "Who cooks at Ormen station?", "options": ["Halvard", "Brisk and others"], "label": 0},
    {"question": "What is the airlock code of Velka?", "options": ["9020", "lark oil"], "label": 0},
    {"question": "Name the lamplighters' oil.", "options": ["Halvard", "lark oil"], "label": 1},
)


def harness(composite, tmp_path, more=None, **settings):
    """What the harness asked and got, by task, in batches of two; `more` is for each task, `settings` for the run."""
    from lm_eval import simple_evaluate

    composite.save_pretrained(tmp_path / "composite")
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    data = {"data_files": {"test": str(tmp_path / "rows.jsonl")}, "cache_dir": str(tmp_path / "cache")}
    shared = {"dataset_path": "json", "dataset_kwargs": data, "test_split": "test", "doc_to_text": "{{question}}"}
    shared |= {"target_delimiter": "", **(more or {})}
    choice = {"output_type": "multiple_choice", "doc_to_target": "label", "doc_to_choice": "options"}
    told = {"output_type": "generate_until", "doc_to_target": "{{options[label]}}"}
    tasks = [
        {**shared, **choice, "task": "options"},
        {**shared, **told, "task": "answers", "generation_kwargs": {"until": ["<|im_end|>"], "max_gen_toks": 4}},
    ]
    results = simple_evaluate(
        model="hf",
        model_args=f"pretrained={tmp_path / 'composite'},trust_remote_code=True",
        tasks=tasks,
        batch_size=2,
        device="cpu",
        bootstrap_iters=0,
        **settings,
    )
    return results["samples"]


def log_likelihood(model, question, option, **given):
    """The log-probability of `option` as the answer, asked by itself."""
    tokenizer = model.tokenizer
    asked, whole = (
        tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
        # The harness counts the white space that ends a prompt to the answer.
        for text in (prompt(tokenizer, question).rstrip(), prompt(tokenizer, question) + option)
    )
    predicted = model(whole, **given).logits[0, asked.shape[1] - 1 : -1].log_softmax(-1)
    return float(predicted.gather(-1, whole[0, asked.shape[1] :, None]).sum())


def test_the_harness_gets_each_row_s_route(composite, tmp_path):
    samples = harness(composite, tmp_path, apply_chat_template=True)
    with torch.no_grad():
        for sample, row in zip(samples["options"], ROWS, strict=True):
            found = [float(answer[0][0]) for answer in sample["resps"]]
            routed = [log_likelihood(composite, row["question"], option) for option in row["options"]]
            base = [log_likelihood(composite, row["question"], o, adapter_names=["__base__"]) for o in row["options"]]
            assert found == pytest.approx(routed, abs=1e-3)
            assert found != pytest.approx(base, abs=1e-3)
    said = Asker(composite, batch_size=1).answers([Ask(row["question"], new_tokens=4) for row in ROWS])
    assert [sample["resps"][0][0].strip() for sample in samples["answers"]] == [one.text for one in said]
    assert [one.route.memories for one in said] == [("ormen",), ("velka",), ("lamps",)]


def test_with_examples_and_no_chat_template_the_last_question_routes(composite, tmp_path):
    shots = {"doc_to_text": "Question: {{question}}\nAnswer:", "target_delimiter": " ", "fewshot_split": "test"}
    samples = harness(composite, tmp_path, shots, num_fewshot=2)
    for sample, row in zip(samples["options"], ROWS, strict=True):
        asked = sample["arguments"][0][0]
        assert asked.count("Question: ") == 3, "two examples and the question"
        found = [float(answer[0][0]) for answer in sample["resps"]]
        for settings, equal in (({"routing_text": row["question"]}, True), ({"adapter_names": ["__base__"]}, False)):
            expected = [continued(composite, asked, f" {option}", **settings) for option in row["options"]]
            assert (found == pytest.approx(expected, abs=1e-3)) is equal


@torch.no_grad()
def continued(model, text, more, **settings):
    """The log-probability of `more` behind `text`."""
    before, ids = (model.tokenizer(part, return_tensors="pt").input_ids for part in (text, text + more))
    predicted = model(ids, **settings).logits[0, before.shape[1] - 1 : -1].log_softmax(-1)
    return float(predicted.gather(-1, ids[0, before.shape[1] :, None]).sum())
