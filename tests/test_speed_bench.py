"""The speed bench: its cells, its ratios, and one run over a pico base that compares outputs before it times them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from lorary.__main__ import main
from lorary.model.composite import assemble
from lorary.research import bench_checks, bench_steps
from lorary.research.bench_cells import Cell, cells_of
from lorary.research.bench_report import TARGETS, ratio, summary
from lorary.research.bench_settings import SpeedBench
from lorary.research.settings import StudyError

QUICK = SpeedBench(counts=(8,), prompts=(16,))
NEEDS = {"llama.cpp": "xllamacpp", "polylora": "polylora"}
"""A peer → its package."""


def test_cells_are_chosen_by_name_or_pattern():
    every = cells_of(SpeedBench())
    assert {*TARGETS} <= {*every}
    assert [*cells_of(SpeedBench(cells=("decode_token_*", "prefill_peft")))] == [
        *(f"decode_token_{count}" for count in (1, 4, 16, 64, 256, 1024)), "decode_token_64_two",
        "decode_token_64_bf16", "decode_token_64_all",
        "prefill_peft",
    ]  # fmt: skip
    with pytest.raises(StudyError, match="cell 'lamp' is unknown; choose from decode_query_1, "):
        cells_of(SpeedBench(cells=("lamp",)))


def test_a_ratio_is_of_steps_side_by_side():
    slow_machine = [[0.0, 10.0, 11.0], [1.0, 1.0, 1.1], [2.0, 1.0, 5.0]]
    assert ratio([slow_machine, [[3.0, 1.0, 1.2]], [[4.0, 2.0, 2.0]]]) == [1.1, 1.0, 1.2]


@pytest.fixture
def packed(base, tmp_path):
    """The folder of a pico base that holds a GGUF file of it, too."""
    pytest.importorskip("gguf")
    import gguf_files

    folder = shutil.copytree(base.name, tmp_path / "packed")
    gguf_files.write_gguf(folder / "pico.gguf", base.model, base.tokenizer)
    return folder


@pytest.mark.parametrize("name", [*cells_of(QUICK)])
def test_every_cell_is_compared_and_timed(name, base, packed):
    cell = cells_of(QUICK)[name]
    if cell.batch > cell.memories:
        pytest.skip("a larger bank")
    if cell.way in NEEDS:
        pytest.importorskip(NEEDS[cell.way])
    measured = bench_steps.measure(cell, str(packed), repeats=2, steps=2)
    assert [len(block) for block in measured["blocks"]] == [2, 2]
    assert all(base_s > 0 and own > 0 for block in measured["blocks"] for _, base_s, own in block)
    if cell.way == "llama.cpp":
        assert 0 < measured["checked"]["logprobs"] <= 0.3
    elif cell.way not in ("arrow", "xlora"):
        assert measured["checked"]["peer"] <= (1e-4 if cell.dtype == "float32" and cell.light != "bfloat16" else 5e-2)


def test_llama_cpp_needs_a_file_of_the_base(base):
    pytest.importorskip("xllamacpp")
    with pytest.raises(StudyError, match=r"llama\.cpp reads a base of a GGUF file; .* holds 0 of them"):
        bench_steps.measure(cells_of(QUICK)["decode_llama.cpp"], base.name, repeats=1, steps=1)


def test_llama_cpp_that_answers_otherwise_is_not_timed(packed, monkeypatch):
    pytest.importorskip("xllamacpp")
    monkeypatch.setattr(bench_checks, "_LIKELIHOODS", 0.0)
    with pytest.raises(StudyError, match="log-probabilities and ours differ by"):
        bench_steps.measure(cells_of(QUICK)["decode_llama.cpp"], str(packed), repeats=1, steps=1)


def test_outputs_that_differ_are_not_timed(base, monkeypatch):
    cell = cells_of(QUICK)["prefill_peft"]
    monkeypatch.setattr(bench_checks, "_TOLERANCE", {"float32": -1.0})
    with pytest.raises(StudyError, match="our logits and the peer's differ"):
        bench_steps.measure(cell, base.name, repeats=1, steps=1)


def test_a_pass_without_a_memory_is_no_time_of_one(base, bank, encoder):
    cell = cells_of(QUICK)["decode_query_8"]
    model = assemble(bank, base, encoder=encoder)
    timed = bench_steps.Timed(model, bank, base, replace(cell, way="none"), 1)
    timed.decoding(["Who cooks?"])[1]()
    assert timed.routed() == {"memories_used": 0}
    timed.cell = cell
    with pytest.raises(StudyError, match="cell 'decode_query_8' used no memory, so its time tells nothing"):
        timed.routed()


def test_a_run_goes_on_and_may_measure_more(base, tmp_path, capsys):
    command = ["research", "bench", "--base", base.name, "--out", str(tmp_path / "run"), "--quick", "--quiet", "--json"]
    assert main([*command, "--cells", "decode_query_8"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert main([*command, "--cells", "decode_query_8", "decode_peft"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["spread"]["decode_query_8"] == first["spread"]["decode_query_8"], "not measured again"
    assert {*told["ratios"]} == {"decode_query_8", "decode_peft"}
    assert json.loads((tmp_path / "run" / "bench.json").read_text())["ratios"] == told["ratios"]
    assert "`decode_peft`" in (tmp_path / "run" / "report.md").read_text()
    assert (tmp_path / "run" / "speed.png").read_bytes().startswith(b"\x89PNG")


def test_lines_of_the_plot_are_by_memories():
    cells = {
        name: {**vars(cell), "blocks": [[[0.0, 1.0, 1.5]]], "checked": {}}
        for name, cell in cells_of(SpeedBench(counts=(4, 64), cells=("first_token_*", "decode_query_*"))).items()
    }
    results = {"made": "", "versions": {}, "machine": {}, "settings": {}, "cells": cells}
    lines = summary(results)["by_memories"]
    assert lines["first token, a route a request"] == {"4": [1.5, 1.5, 1.5], "64": [1.5, 1.5, 1.5]}
    assert {*lines} == {"first token, a route a request", "first token, a memory by name", "a token, a route a request"}


def test_a_cell_is_what_json_gives_back(base):
    cell = cells_of(QUICK)["decode_token_8"]
    assert Cell(**json.loads(json.dumps(vars(cell)))) == cell
