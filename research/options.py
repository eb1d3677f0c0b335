"""What the commands of studies share: the folder that they write into, and how they print what they found."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from typing import Any

from lorary.options import Options
from lorary.printing import print_json

NEVER = "a run that was stopped goes on there, and a run of other settings is never overwritten"
BASE = "base to measure on: a hub id or a local folder; by default the embedded one"
"""What the option --base of studies says."""


def print_study(options: Namespace, content: Callable[[], Any], text: Callable[[], str]) -> None:
    """Prints what a study found: as JSON where that is asked for, else as text."""
    if options.json:
        print_json(content())
    else:
        print(text())


def add_folder(parser: Options, files: str) -> None:
    """The option --out, for a folder that the study writes these files into."""
    parser.add_argument("--out", metavar="FOLDER", required=True, help=f"folder to write {files} into; {NEVER}")
