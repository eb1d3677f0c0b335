"""What a command prints: JSON for programs, text for people, and warnings, whatever the encoding of its streams."""

from __future__ import annotations

import io
import json
import sys
import warnings
from typing import Any

from lorary.errors import LoraryWarning


def print_json(content: Any) -> None:
    """Prints JSON; what standard output cannot write in its encoding is escaped, so that the JSON says the same."""
    text = json.dumps(content, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(content)
    print(text)


def replace_unprintable(stream: object) -> None:
    """Lets a stream write a question mark for what its encoding lacks, where it would raise an error."""
    if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
        stream.reconfigure(errors="replace")


def print_warnings_plainly() -> None:
    """Lets our warnings be one line on standard error, without the place in the code; others are shown as before."""
    show = warnings.showwarning

    def plainly(message: Warning | str, category: type[Warning], *place: Any, **options: Any) -> None:
        if issubclass(category, LoraryWarning):
            print(f"lorary: warning: {' '.join(str(message).split())}", file=sys.stderr)
        else:
            show(message, category, *place, **options)

    warnings.showwarning = plainly
