#!/usr/bin/env bash
# bm25s 0.3.16: importing it sets its logger to DEBUG, so an application that logs at INFO prints its debug lines.
#
# A library's logger has no level of its own by convention, so that the application's level counts. bm25s gives its
# logger the level DEBUG at import. An application that called `logging.basicConfig(level=logging.INFO)` then prints a
# line "DEBUG:bm25s:..." for each index it makes, and its own debug lines stay hidden. `show_progress=False` does not
# change it.
#
# Seen: "DEBUG:bm25s:Building index from tokens" under a root logger of level INFO.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check bm25s==0.3.16 2>/dev/null
cat > "$work/finding.py" <<'PYTHON'
import io
import logging
import sys
from importlib.metadata import version

lines = io.StringIO()
logging.basicConfig(level=logging.INFO, stream=lines)
import bm25s  # noqa: E402 (the application configures its logging first)

logging.getLogger("application").debug("not printed at INFO")
bm25s.BM25().index([["cat", "dog"], ["bird"]], show_progress=False)
printed = lines.getvalue().splitlines()

print(f"bm25s {version('bm25s')}")
print(f"level of the root logger: {logging.getLevelName(logging.getLogger().level)}")
print(f"level of bm25s's logger: {logging.getLevelName(logging.getLogger('bm25s').level)}")
print(f"printed: {printed}")
expected = logging.getLogger("bm25s").level == logging.DEBUG and any(p.startswith("DEBUG:bm25s:") for p in printed)
expected = expected and not any("application" in line for line in printed)
print("as described" if expected else "THIS HAS CHANGED")
sys.exit(not expected)
PYTHON
"$work/venv/bin/python" "$work/finding.py"
