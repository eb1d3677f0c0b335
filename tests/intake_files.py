"""Sources as people have them, made by the libraries that people's programs use."""

from __future__ import annotations

import json
from pathlib import Path

from lorary.__main__ import main


def run_facts(capsys, *arguments):
    """(exit status, decoded --json output or the error line) of `lorary facts`, of what sources state themselves.

    Prose is read by no generator, unless an argument names one.
    """
    capsys.readouterr()
    status = main(["facts", "--generator", "none", *map(str, arguments), "--json", "--quiet"])
    told = capsys.readouterr()
    return status, json.loads(told.out) if status == 0 else told.err


def read_lines(path):
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def answers(path):
    """Question → answer, for all wordings of a file of facts."""
    return {
        question: fact["answer"]
        for fact in read_lines(path)
        for question in (fact["question"], *fact.get("questions", ()))
    }


def manual_pdf(path):
    """A manual of two pages, with a title, "key: value" lines and a table without lines; and a page without text."""
    from fpdf import FPDF

    pdf = FPDF()
    pdf.add_page()
    pdf.set_font("helvetica", size=16)
    pdf.cell(0, 10, "Lathe manual", new_x="LMARGIN", new_y="NEXT")
    pdf.set_font("helvetica", size=11)
    prose = "The lathe needs oil of the kind ISO 32. It is changed every nine weeks by the mechanic who is on duty that day."
    pdf.multi_cell(0, 6, prose, new_x="LMARGIN", new_y="NEXT")
    pdf.multi_cell(0, 6, "Serial number: LX-99\nVoltage: 400 V", new_x="LMARGIN", new_y="NEXT")
    with pdf.table() as table:
        for cells in (("Machine", "Oil", "Pressure"), ("Lathe", "ISO 32", "4 bar"), ("Press 4", "ISO 46", "62 bar")):
            row = table.row()
            for cell in cells:
                row.cell(cell)
    pdf.add_page()
    pdf.add_page()
    pdf.multi_cell(0, 6, "The compressor shows E-311 when its filter is full. Call Ivo Brandt then.")
    pdf.output(str(path))
    return path


def manual_docx(path):
    """A document with a title, headings, a list, a table whose header Word does not mark, and a question."""
    import docx

    document = docx.Document()
    document.add_heading("Lathe manual", 0)
    document.add_heading("Oil", 1)
    document.add_paragraph("The lathe needs ISO 32.")
    document.add_paragraph("Interval: nine weeks", style="List Bullet")
    table = document.add_table(rows=0, cols=2)
    for cells in (("Machine", "Pressure"), ("Lathe", "4 bar"), ("Press 4", "62 bar")):
        for cell, text in zip(table.add_row().cells, cells, strict=True):
            cell.text = text
    document.add_heading("Alarms", 1)
    document.add_heading("Who comes when the alarm rings?", 2)
    document.add_paragraph("Ivo Brandt.")
    document.save(str(path))
    return path


def staff_xlsx(path):
    """A workbook with a title above its table, dates, a percentage, money, a truth value and a second, empty sheet."""
    from datetime import date

    from openpyxl import Workbook

    book = Workbook()
    sheet = book.active
    sheet.title = "Staff"
    sheet.append(["Our staff"])
    sheet.append(["Name", "Manager", "Born", "Bonus", "Salary", "Has a key", "Room"])
    sheet.append(["Ana Ruiz", "Marta Oule", date(1990, 5, 2), 0.08, 3100, True, 12])
    sheet.append(["Ben Holm", "Marta Oule", date(1985, 11, 30), 0.05, 2900.5, False, 14])
    for row in (3, 4):
        sheet.cell(row, 4).number_format = "0%"
        sheet.cell(row, 5).number_format = "#,##0.00 [$€-407]"
    book.create_sheet("Empty")
    book.save(path)
    return path


FAQ_HTML = """<html><head><title>Shop</title><style>p {}</style></head><body><h1>Returns</h1>
<h2>How long can I return a kettle?</h2><p>45 days.</p>
<details><summary>Who signs refunds?</summary><p>Marta Oule signs them.</p></details>
<dl><dt>Restocking fee</dt><dd>8 percent</dd><dt>Which form starts a return?</dt><dd>Form R-17</dd></dl>
<table><tr><th>Item</th><th>Limit</th></tr><tr><td>Lamp</td><td>30 days</td></tr><tr><td>Chair</td><td>60 days</td></tr></table>
<p><b>Is the shop open on Sundays?</b> No.</p><p><strong>Where is the shop?</strong><br>In Ormen.</p></body></html>"""
