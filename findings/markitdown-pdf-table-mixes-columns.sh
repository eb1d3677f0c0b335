#!/usr/bin/env bash
# markitdown 0.1.9: one small table in a PDF mixes the columns of text on every other page, line by line.
#
# Without a table, markitdown reads a PDF by pdfminer, which reads one column after the other, and paragraphs stay apart.
# If any page holds rows of three cells or more, all pages are read otherwise: pages with such rows line by line across the
# page, the other pages by pdfplumber's `extract_text`, which does the same. So a table on page 2 changes the text of page
# 1: each line of the left column is followed by the line of the right column beside it, no sentence longer than a line is
# left whole, and no blank line parts paragraphs. The documentation says that PDF is read, and nothing of columns or order.
#
# Seen: "is oiled every nine weeks" becomes "is oiled every Refunds above two hundred euros are signed by nine weeks".
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

LEFT = "The lathe stands in the west hall and is oiled every nine weeks by the mechanic who is on duty that day."
RIGHT = "Refunds above two hundred euros are signed by Marta Oule alone, who works on Mondays and on Thursdays."
TABLE = [("Machine", "Oil", "Pressure"), ("Lathe", "ISO 32", "4 bar"), ("Press", "ISO 46", "62 bar")]


def first_page(with_table):
    pdf = FPDF()
    pdf.set_font("helvetica", size=10)
    pdf.add_page()
    top = pdf.get_y()
    for left, text in ((15, LEFT), (110, RIGHT)):
        pdf.set_xy(left, top)
        pdf.multi_cell(85, 5, text)
    if with_table:
        pdf.add_page()
        for cells in TABLE:
            for cell in cells:
                pdf.cell(60, 6, cell)
            pdf.ln()
    stream = io.BytesIO(bytes(pdf.output()))
    text = MarkItDown().convert_stream(stream, file_extension=".pdf").markdown
    return " ".join(text.split("|")[0].split())


alone, beside = first_page(False), first_page(True)
print(f"markitdown {version('markitdown')}")
print(f"page 1 of 1:                       {alone}")
print(f"page 1 of 2, with a table on page 2: {beside}")
expected = alone == f"{LEFT} {RIGHT}" and "is oiled every Refunds above two hundred euros" in beside
print("as described" if expected else "THIS HAS CHANGED")
sys.exit(not expected)
PYTHON
"$work/venv/bin/python" "$work/finding.py"
