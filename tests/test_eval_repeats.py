"""The same seeds give the same results, apart from what they cost: in another process, and after an interruption."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lorary.eval import evaluation, recall
from lorary.eval.asking import Asker
from lorary.eval.costs import retention
from lorary.eval.results import read, to_json, without_cost

CONDITIONS = ("base", "oracle", "policy", "shuffled", "hybrid")
PARTS = ("questions", "retention")


def check_same(one: Path, other: Path) -> None:
    """The two runs told the same, in the same order; the predictions byte for byte."""
    assert (one / "predictions.jsonl").read_bytes() == (other / "predictions.jsonl").read_bytes()
    first, second = (json.dumps(without_cost(to_json(read(run)[0])), indent=1) for run in (one, other))
    assert first == second


def test_the_same_seeds_give_the_same_results(composite, tmp_path, monkeypatch):
    folder, whole, again, cut = (tmp_path / name for name in ("composite", "whole", "again", "cut"))
    composite.save_pretrained(folder)
    given = {"conditions": CONDITIONS, "parts": PARTS, "counts": (2,), "seed": 3, "quiet": True}
    recall(folder, out=whole, **given)

    environment = os.environ | {"PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"}  # sets have another order there
    asked = ["recall", str(folder), "--out", str(again), "--conditions", *CONDITIONS, "--parts", *PARTS]
    asked += ["--counts", "2", "--seed", "3", "--quiet"]
    subprocess.run([sys.executable, "-m", "lorary", *asked], check=True, capture_output=True, env=environment)
    check_same(whole, again)

    answers, calls = Asker.answers, []

    def interrupted(self, asks, *rest):
        calls.append(len(asks))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return answers(self, asks, *rest)

    monkeypatch.setattr(Asker, "answers", interrupted)
    with pytest.raises(KeyboardInterrupt):
        recall(folder, out=cut, **given)
    stopped = read(cut)[0]
    assert (list(stopped.conditions), stopped.partial) == (["base", "oracle"], True)
    recall(folder, out=cut, **given)
    check_same(whole, cut)

    before = to_json(read(whole)[0])
    monkeypatch.setattr(evaluation, "retention", lambda *_, **__: pytest.fail("its damage is measured again"))
    assert without_cost(recall(folder, out=whole, **given)) == without_cost(before)
    fewer = recall(folder, out=whole, **given | {"conditions": ("policy",)})
    assert fewer["retention"] == before["retention"], "asked for fewer conditions, it keeps what it knows of the others"
    monkeypatch.setattr(evaluation, "retention", retention)
    more = recall(folder, out=whole, **given | {"conditions": ("policy", "top-three")})["retention"]
    assert more["damage"]["top-three"]["perplexity"] > 0
    assert before["retention"]["damage"].items() <= more["damage"].items(), (
        "what one condition more adds, takes nothing away"
    )
    (tmp_path / "own.txt").write_text("Another text.")
    told = recall(folder, out=whole, text=tmp_path / "own.txt", **given)["retention"]
    assert told["text_sha256"] != before["retention"]["text_sha256"]
    assert told["damage"]["base"] != before["retention"]["damage"]["base"]


def test_cost_is_times_memory_and_what_was_reused():
    told = {
        "seconds": {"recall": 3.0},
        "latency": {"base": {}},
        "peak_rss_mib": 800,
        "conditions": {"base": {"seconds": 1.0, "generated": 4, "exact_match": {"value": 0.5}}},
        "studies": {"in_bank": [{"memories": 2, "top1": 1.0}]},
    }
    assert without_cost(told) == {
        "conditions": {"base": {"exact_match": {"value": 0.5}}},
        "studies": {"in_bank": [{"memories": 2, "top1": 1.0}]},
    }
