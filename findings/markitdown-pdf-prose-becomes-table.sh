#!/usr/bin/env bash
# markitdown 0.1.9: a justified column of prose, set as TeX sets it, becomes a Markdown table.
#
# TeX writes no space characters: it puts each word in its place. markitdown takes words that are more than 3 points apart
# for cells, whatever the size of the letters, and a line shorter than 55 % of the page (a column, the last line of a
# paragraph, code) with three of them for a row. In justified text of 10 points many gaps are wider. So sentences are cut
# into cells, and the first line is the head of a table. pdfminer, which reads such pages where no table is seen, finds the
# words' gaps and the lines. The documentation says that PDF is read, and nothing of how tables are found.
#
# Seen: "| The lathe | stands in the west | hall and is      | oiled every nine |", and four more rows.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "markitdown[pdf]==0.1.9" fpdf2==2.8.9 2>/dev/null
cat > "$work/finding.py" <<'PYTHON'
import io
import sys
from importlib.metadata import version

from fpdf import FPDF
from markitdown import MarkItDown
from pdfminer.high_level import extract_text

TEXT = (
    "The lathe stands in the west hall and is oiled every nine weeks by the mechanic who is on duty that day. Nobody else "
    "may open its cover, because the belt is sharp and has no guard on the inner side. Refunds above two hundred euros are "
    "signed by Marta Oule alone, who works on Mondays and on Thursdays."
)
WIDTH, SPACE = 240, 3

pdf = FPDF(unit="pt")
pdf.set_font("times", size=10)
pdf.add_page()
lines = [[]]
for word in TEXT.split():
    if sum(pdf.get_string_width(other) + SPACE for other in lines[-1]) + pdf.get_string_width(word) > WIDTH:
        lines.append([])
    lines[-1].append(word)
for number, line in enumerate(lines):
    gap = (WIDTH - sum(map(pdf.get_string_width, line))) / (len(line) - 1) if line is not lines[-1] else SPACE
    x = 72
    for word in line:
        pdf.text(x, 100 + 12 * number, word)
        x += pdf.get_string_width(word) + gap
data = bytes(pdf.output())

text = MarkItDown().convert_stream(io.BytesIO(data), file_extension=".pdf").markdown
print(f"markitdown {version('markitdown')}")
print(text)
read = " ".join(extract_text(io.BytesIO(data)).split())
expected = text.startswith("| The lathe | stands in the west |") and read == TEXT
print("as described" if expected else "THIS HAS CHANGED")
sys.exit(not expected)
PYTHON
"$work/venv/bin/python" "$work/finding.py"
