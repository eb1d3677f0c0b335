"""Whatever file a user gives, wherever it is given: one line that says what to do, exit status 2, and nothing written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lorary.__main__ import main

GOLDEN = Path(__file__).parent / "golden"
BASE, COMPOSITE = str(GOLDEN / "base"), str(GOLDEN / "composite")
ADAPTER = str(GOLDEN / "bank" / "memories" / "ormen")
JUNK = {
    "empty": b"",
    "binary": bytes(range(256)) * 20,
    "list": b"[1, 2]",
    "scalar": b"3",
    "null": b"null",
    "object": b'{"a": {"b": []}}',
    "endless": b"[" * 20_000,
    "number": b'{"a": ' + b"1" * 5_000 + b"}",
    "utf16": "{}".encode("utf-16"),
}
FILE, BANK = "FILE", "BANK"
"""Stand for the file that is given, and for a bank that is whole."""
POSITIONS = [
    ["list", FILE],
    ["route", FILE, "Who?"],
    ["ask", FILE, "Who?"],
    ["ask", COMPOSITE, "Who?", "--base", FILE],
    ["remove", FILE, "ormen"],
    ["new", "OUT", "--base", FILE],
    ["new", "OUT", "--base", BASE, "--encoder", FILE],
    ["build", FILE, "--out", "OUT", "--base", BASE],
    ["add", FILE, ADAPTER],
    ["add", BANK, FILE, "--name", "more"],
    ["add", BANK, ADAPTER, "--name", "more", "--same-base", "--facts", FILE],
    ["add", BANK, "--documents", FILE, "--name", "more"],
    ["merge", FILE, "--out", "OUT"],
    ["plan", FILE],
    ["plan", f"{ADAPTER}/facts.jsonl", "--capacity", FILE],
    ["train-router", FILE, "--out", "OUT"],
    ["train-router", BANK, "--out", "OUT", "--unrelated", FILE],
    ["train-router", BANK, "--out", "OUT", "--init-from", FILE],
    ["recall", FILE, "--out", "OUT"],
    ["recall", COMPOSITE, "--base", FILE, "--out", "OUT"],
    ["recall", COMPOSITE, "--base", BASE, "--out", "OUT", "--questions", FILE],
    ["recall", COMPOSITE, "--base", BASE, "--out", "OUT", "--also", FILE],
    ["recall", COMPOSITE, "--base", BASE, "--out", "OUT", "--answers", f"other={FILE}"],
    ["compare", FILE, FILE],
    ["task", "qa", FILE, "--out", "OUT"],
    ["task", "counterfact", FILE, "--out", "OUT"],
]


def refused(argv: list[str], capsys) -> str:
    """The one line that a command refuses what it was given with."""
    capsys.readouterr()
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("lorary: error: ")
    assert error.count("\n") == 1, error
    return error


@pytest.mark.parametrize("argv", POSITIONS, ids=" ".join)
def test_a_file_that_cannot_be_used_is_one_line(argv, tmp_path, capsys):
    bank, before = tmp_path / "bank", (GOLDEN / "bank" / "bank.json").read_bytes()
    shutil.copytree(GOLDEN / "bank", bank)
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for kind, content in JUNK.items():
        (tmp_path / kind).write_bytes(content)
    out = tmp_path / "out"
    for kind in ("folder", "loop", "nowhere", "x" * 300, *JUNK):
        file = str(tmp_path / kind)
        places = {FILE: file, BANK: str(bank), "OUT": str(out), f"other={FILE}": f"other={file}"}
        refused([places.get(argument, argument) for argument in argv], capsys)
        assert not (out / "bank.json").exists()
        assert (bank / "bank.json").read_bytes() == before


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"])
@pytest.mark.parametrize("kind", ["gone", *JUNK])
def test_a_damaged_composite_is_one_line(name, kind, tmp_path, capsys):
    shutil.copytree(COMPOSITE, tmp_path / "composite")
    (tmp_path / "composite" / name).unlink()
    if kind != "gone":
        (tmp_path / "composite" / name).write_bytes(JUNK[kind])
    if name == "tokenizer_config.json" and kind in ("gone", "object"):
        pytest.skip("transformers does without")
    error = refused(["ask", str(tmp_path / "composite"), "Who?", "--base", BASE], capsys)
    assert str(tmp_path / "composite") in error, error


def test_arguments_are_one_line_too(capsys):
    for argv in (
        ["ask"],
        ["ask", COMPOSITE],
        ["build", "a", "--out"],
        ["list", COMPOSITE, "--frobnicate"],
        ["nothing"],
    ):
        refused(argv, capsys)
    assert "--max-new-tokens" in refused(["ask", COMPOSITE, "Who?", "--max-new-tokens", "many"], capsys)
    assert "give 1 or more" in refused(["ask", COMPOSITE, "Who?", "--max-new-tokens", "0"], capsys)
    for command in ("ask", "route"):
        for question in ("", " \t\n"):
            assert "QUESTION: it is empty; ask something" in refused([command, COMPOSITE, question], capsys)
    refused(["task", "nothing"], capsys)


def test_a_full_disk_and_a_forbidden_place_are_one_line(tmp_path, capsys, monkeypatch):
    facts = tmp_path / "facts.jsonl"
    facts.write_text(json.dumps({"topic": "t", "question": "Q?", "answer": "A"}))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert "No space left on device" in refused(["task", "profiles", "--out", str(tmp_path / "out")], capsys)

    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "/forbidden")

    monkeypatch.setattr("pathlib.Path.mkdir", forbidden)
    assert "ermission denied" in refused(["task", "profiles", "--out", "/forbidden/out"], capsys)


@pytest.mark.parametrize(
    "option",
    [
        *(
            ["--r", "0"],
            ["--lora-alpha", "-1"],
            ["--max-epochs", "0"],
            ["--lr", "0"],
            ["--lr", "nan"],
            ["--recall", "2"],
        ),
        *(["--formats", "prose"], ["--visits", "0"], ["--validation-wordings", "-1"], ["--thinned-share", "1.5"]),
    ],
    ids=" ".join,
)
def test_a_recipe_that_cannot_be_is_told_before_anything_is_read(option, capsys):
    assert option[0].strip("-").replace("-", "_") in refused(["build", "nowhere", "--out", "nowhere", *option], capsys)


@pytest.mark.parametrize(
    "option",
    [
        *(["--granularity", "word"], ["--max-epochs", "0"], ["--batch-size", "0"], ["--lr", "-1"], ["--top-p", "0"]),
        *(["--top-k", "0"], ["--language-rows", "0"]),
    ],
    ids=" ".join,
)
def test_a_training_that_cannot_be_is_told_before_anything_is_read(option, capsys):
    argv = ["train-router", "nowhere", "--out", "nowhere", *option]
    assert option[0].strip("-").replace("-", "_") in refused(argv, capsys)
