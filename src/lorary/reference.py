"""docs/cli.md: the helps of all commands as one page. `python -m lorary.reference > docs/cli.md` writes it."""

from __future__ import annotations

import io
import os
from contextlib import redirect_stdout
from unittest.mock import patch

from lorary.__main__ import COMMANDS, main, usage

_HEAD = """# The command line

This page is made from `--help` by `python -m lorary.reference > docs/cli.md`; a test keeps it true.

Every command exits with 0 where it did what was asked, with 2 and one line on standard error where what was given cannot be
used, with 1 and one line where Lorary has a bug, and with 130 where the user stopped it. `--debug`, anywhere on the command
line, shows where an error arose. Progress goes to standard error, so `--json` leaves clean JSON on standard output.
"""


def page() -> str:
    """The page, the same for every terminal."""
    from lorary.eval.command import TASKS
    from lorary.research.commands import STUDIES

    nested = {"task": TASKS, "research": STUDIES}
    sections = [_HEAD, _section("lorary", usage())]
    for name in COMMANDS:
        sections.append(_section(f"lorary {name}", _help(name)))
        sections += [_section(f"lorary {name} {part}", _help(name, part), "###") for part in nested.get(name, ())]
    return "\n".join(sections)


def _help(*names: str) -> str:
    """What a command prints for --help, 80 columns wide and without colours."""
    with patch.dict(os.environ, {"COLUMNS": "80", "NO_COLOR": "1"}), redirect_stdout(io.StringIO()) as printed:
        main([*names, "--help"])
    return printed.getvalue()


def _section(title: str, text: str, level: str = "##") -> str:
    return f"{level} `{title}`\n\n```\n{text.strip()}\n```\n"


if __name__ == "__main__":
    print(page(), end="")
