"""What a token costs: operations counted as they are, and a run over a pico base, gone on with."""

from __future__ import annotations

import json

import pytest
import torch

from lorary.__main__ import main
from lorary.research.counting import Asked, Rates, counted_pass
from lorary.research.token_cost import cells, measure


def test_operations_ask_for_what_they_read_write_and_multiply():
    weight, table, x = torch.randn(32, 64), torch.randn(1000, 64), torch.randn(4, 64)
    ids = torch.tensor([3, 5, 3, 7])
    with torch.inference_mode():
        [product] = counted_pass(lambda: torch.nn.functional.linear(x, weight).view(2, 64).T)
        [picked] = counted_pass(lambda: torch.nn.functional.embedding(ids, table))
        [twice] = counted_pass(lambda: x @ weight.T)
        [grown] = counted_pass(lambda: x.clone().add_(1)[:2])[1:]
    assert product == twice == Asked(bytes=4 * (32 * 64 + 4 * 64 + 4 * 32), flops=2 * 4 * 64 * 32, product=True)
    assert picked == Asked(bytes=2 * x.nbytes, flops=0, product=False), "an embedding reads its rows alone"
    assert grown == Asked(bytes=2 * x.nbytes, flops=0, product=False), "what changes in place is read and written"


def test_seconds_are_of_bytes_or_of_arithmetic_and_of_launches():
    rates = Rates(bytes=100.0, flops=1000.0, launch=0.5)
    assert rates.seconds([Asked(200, 0, False), Asked(100, 5000, True)]) == pytest.approx(2 + 5 + 2 * 0.5)


@pytest.mark.parametrize("cell", [cell for cell in cells(3, 24) if cell.dtype == "float32"], ids=lambda cell: cell.name)
def test_what_a_memory_adds_is_counted(cell, base):
    measured = measure(cell, base.name, steps=1)
    own, plain = measured["own"], measured["base"]
    assert min(measured["rates"].values()) > 0
    if cell.way == "none":
        assert (own["products"], own["flops"]) == (plain["products"], plain["flops"])
    else:
        assert own["products"] > plain["products"]
        assert own["launches"] > plain["launches"]


def test_a_run_goes_on(base, tmp_path, capsys):
    command = ["research", "token-cost", "--out", str(tmp_path), "--base", base.name, "--memories", "3", "--quiet"]
    command += ["--prompt", "24", "--steps", "2", "--cells"]
    assert main([*command, "decode_named_float32", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert main([*command, "decode_named_*"]) == 0
    assert "| a token, a memory by name | float32 |" in capsys.readouterr().out
    told = json.loads((tmp_path / "results.json").read_text())["cells"]
    assert first.items() <= told.items()
    whole, half = (told[f"decode_named_{dtype}"]["base"]["bytes"] for dtype in ("float32", "bfloat16"))
    assert half < 0.7 * whole, "half the bytes, but for what is kept in fp32"
    assert main([*command, "lamp"]) == 2
    assert "cell 'lamp' is unknown; choose from decode_none_float32" in capsys.readouterr().err
