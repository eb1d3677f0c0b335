"""The bench of a server: a run over a pico base with a soak, gone on with, and its tables."""

from __future__ import annotations

import json
from pathlib import Path

import gguf_files
import pytest

from lorary.__main__ import main
from lorary.research import serve_chat
from lorary.research.serve_bench import AIMS, WAYS, ratios, tell_serving
from lorary.research.serve_soak import SOAK, tell_soak


def test_a_server_is_measured_and_soaked_and_a_run_goes_on(base, tmp_path, capsys):
    pytest.importorskip("xllamacpp")
    gguf_files.write_gguf(Path(base.name) / "pico.gguf", base.model, base.tokenizer)
    command = ["research", "serve-bench", "--out", str(tmp_path), "--base", base.name, "--quiet", "--repeats", "1"]
    sizes = ["--clients", "3", "--memories", "4", "--prompt", "64", "--answer", "4", "--requests", "6", "--alone", "1"]
    assert main([*command, *sizes, "--json"]) == 0
    assert {*json.loads(capsys.readouterr().out)} == {*AIMS}
    [first] = json.loads((tmp_path / "results.json").read_text())["rounds"]
    assert {*first} == {*WAYS}
    assert first["named"]["memories"] == 4
    assert first["base"]["memories"] == 0
    assert all(first[way]["processor"] > 0 for way in ("base", "named", "routed"))
    assert not any(first[way]["unfinished"] for way in WAYS if way != "alone")
    assert main([*command, *sizes, "--soak-minutes", "0.05"]) == 0
    assert "Soak of 0.05 minutes" in capsys.readouterr().out
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["rounds"] == [first]
    soak = results[SOAK]
    assert soak["requests"] > 0
    assert soak["changes"] > 0
    assert soak["wrong"] == soak["lost"] == 0
    assert main([*command, "--clients", "5"]) == 2
    assert "holds a run with" in capsys.readouterr().err


def test_the_second_turn_of_a_chat_is_measured(composite, base, tmp_path):
    composite.save_pretrained(tmp_path / "composite")
    told = serve_chat.measure(str(tmp_path / "composite"), base.name, 1, (4, 3))
    assert told["equal"]
    assert told["same"]["tokens"][1] > told["same"]["tokens"][0] > 64
    assert {*told["other"]} == {"tokens", "anew", "kept"}


def test_a_soak_tells_why_answers_were_lost():
    held = {"start": 1.0, "second_quarter": 1.0, "last_quarter": 1.0, "most": 2.0}
    found = {"minutes": 9, "requests": 5, "changes": 2, "wrong": 0, "lost": 3, "held": held}
    assert "3 lost. The server" in tell_soak(found)
    told = tell_soak(found | {"reasons": {"the server answered 504": 3}, "stood_still": 4.5})
    assert "Soak of 9 minutes, in 4.5 of which the machine let it stand still: 5 requests" in told
    assert "3 lost (3 times the server answered 504)." in told


def test_the_tables_tell_what_missed_its_aim():
    def way(rate, first):
        return {"rate": rate, "first": first, "first_most": 2 * first, "memories": 2, "unfinished": 0}

    rounds = [
        {"alone": {"rate": 10.0}, "base": way(60.0, 1.0), "named": way(57.0, 1.0), "routed": way(routed, 1.2)}
        for routed in (30.0, 50.0, 55.0)
    ]
    assert ratios(rounds)["rate ÷ alone"] == [5.0, 3.0, 5.5]
    machine = {"cpu": "x", "cores": 2, "threads": None}
    settings = {
        "base": "b",
        "dtype": "float32",
        "clients": 2,
        "memories": 3,
        "prompt": 4,
        "answer": 5,
        "requests": 6,
        "alone": 1,
    }
    told = tell_serving({"rounds": rounds, "machine": machine, "made": "", "versions": {}, "settings": settings})
    assert "| rate ÷ alone | 5.000 (3.000 to 5.500) | ≥ 4 |" in told
    assert "| rate of named ÷ the base's | 0.950 (0.950 to 0.950) | ≥ 0.95 |" in told
    assert "| first token of routed ÷ the base's | 1.200 (1.200 to 1.200) | ≤ 1.1 (missed) |" in told
    assert "| llama.cpp's server, one memory for all clients | – |" in told
    rounds[0]["no_llama"] = "the package xllamacpp is not installed"
    results = {"rounds": rounds, "machine": machine, "made": "", "versions": {}, "settings": settings}
    assert "llama.cpp's server was not measured: the package xllamacpp is not installed." in tell_serving(results)
    assert "| asked one after the other, in-process, routed | 10 (10 to 10) | – | – | – |" in told
