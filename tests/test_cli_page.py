"""docs/cli.md is what the commands print for --help, whatever the terminal."""

from __future__ import annotations

import itertools
from pathlib import Path

from lorary.__main__ import COMMANDS
from lorary.reference import page


def test_the_page_is_what_the_commands_print(monkeypatch):
    monkeypatch.setenv("COLUMNS", "33")
    written = (Path(__file__).parent.parent / "docs" / "cli.md").read_text(encoding="utf-8")
    assert page() == written, "run: python -m lorary.reference > docs/cli.md"
    assert all(f"## `lorary {name}`" in written for name in COMMANDS)


def test_every_option_says_what_it_is_for():
    """A line of options ends with a help, or one follows in the next line."""
    lines = page().splitlines()
    for line, following in itertools.pairwise(lines):
        if line.startswith("  -") and "  " not in line.strip():
            assert following.startswith("       "), line
