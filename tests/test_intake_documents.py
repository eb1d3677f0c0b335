"""Documents → passages and what they state: PDF, DOCX, HTML, Markdown and text, as programs of people write them."""

from __future__ import annotations

import pytest
from intake_files import FAQ_HTML, answers, manual_docx, manual_pdf, read_lines, run_facts


def test_a_pdf_is_read_page_by_page(tmp_path, capsys):
    status, told = run_facts(capsys, manual_pdf(tmp_path / "manual.pdf"), "--out", tmp_path / "facts")
    assert status == 0
    sources = {fact["question"]: fact["source"] for fact in read_lines(tmp_path / "facts" / "manual.jsonl")}
    assert sources["What is the serial number of Lathe?"] == "manual.pdf, page 1, Lathe manual"
    asked = answers(tmp_path / "facts" / "manual.jsonl")
    assert asked["What is the voltage of Lathe?"] == "400 V"
    assert asked["What is the pressure of Press 4?"] == "62 bar"
    assert [(item["where"], item["why"]) for item in told["left_out"]] == [
        ("manual.pdf, page 2", "it has no text; a scanned page needs OCR first")
    ]
    document = (tmp_path / "facts" / "manual.md").read_text()
    assert "The compressor shows E-311" in document
    assert told["topics"][0]["passages"] >= 2


def two_columns_pdf(path):
    """A page of two columns of prose above a table."""
    from fpdf import FPDF

    pdf = FPDF()
    pdf.set_font("helvetica", size=10)
    pdf.add_page()
    top = pdf.get_y()
    for left, text in ((15, COLUMNS[0]), (110, COLUMNS[1])):
        pdf.set_xy(left, top)
        pdf.multi_cell(85, 5, text)
    pdf.set_y(80)
    for cells in (("Machine", "Oil", "Pressure"), ("Lathe", "ISO 32", "4 bar"), ("Press", "ISO 46", "62 bar")):
        for cell in cells:
            pdf.cell(60, 6, cell)
        pdf.ln()
    pdf.output(str(path))
    return path


COLUMNS = (
    "The lathe stands in the west hall and is oiled every nine weeks by the mechanic who is on duty that day.",
    "Refunds above two hundred euros are signed by Marta Oule alone, who works on Mondays and on Thursdays.",
)


def test_columns_beside_a_table_are_read_one_after_the_other(tmp_path, capsys):
    run_facts(capsys, two_columns_pdf(tmp_path / "two.pdf"), "--out", tmp_path / "facts")
    document = " ".join((tmp_path / "facts" / "two.md").read_text().split())
    assert all(column in document for column in COLUMNS)
    assert answers(tmp_path / "facts" / "two.jsonl")["What is the pressure of Press?"] == "62 bar"


def test_prose_with_wide_gaps_is_no_table(tmp_path, capsys):
    """As TeX sets it: each word is put in its place, and no space is written."""
    from fpdf import FPDF

    pdf = FPDF(unit="pt")
    pdf.set_font("times", size=10)
    pdf.add_page()
    words = " ".join(COLUMNS).split()
    lines = [words[start : start + 9] for start in range(0, len(words), 9)]
    for number, line in enumerate(lines):
        gap = (240 - sum(map(pdf.get_string_width, line))) / (len(line) - 1)
        x = 72.0
        for word in line:
            pdf.text(x, 100 + 12 * number, word)
            x += pdf.get_string_width(word) + min(gap, 4)
    pdf.output(str(tmp_path / "tex.pdf"))
    _, told = run_facts(capsys, tmp_path / "tex.pdf", "--out", tmp_path / "facts")
    assert told["topics"][0]["facts"] == 0
    assert " ".join((tmp_path / "facts" / "tex.md").read_text().split()) == " ".join(COLUMNS)


def test_paragraphs_beside_a_table_stay_apart(tmp_path, capsys):
    run_facts(capsys, manual_pdf(tmp_path / "manual.pdf"), "--out", tmp_path / "facts")
    paragraphs = (tmp_path / "facts" / "manual.md").read_text().split("\n\n")
    assert paragraphs[0] == "Lathe manual"
    assert paragraphs[1].startswith("The lathe needs oil")
    assert paragraphs[1].endswith("that\nday.")
    assert paragraphs[2] == "Serial number: LX-99\nVoltage: 400 V"


def test_wide_line_spacing_makes_no_paragraphs(tmp_path, capsys):
    from fpdf import FPDF

    pdf = FPDF()
    pdf.set_font("helvetica", size=11)
    pdf.add_page()
    for paragraph in COLUMNS:
        pdf.multi_cell(120, 9, paragraph, new_x="LMARGIN", new_y="NEXT")
    pdf.output(str(tmp_path / "wide.pdf"))
    run_facts(capsys, tmp_path / "wide.pdf", "--out", tmp_path / "facts")
    paragraphs = (tmp_path / "facts" / "wide.md").read_text().split("\n\n")
    assert [" ".join(paragraph.split()) for paragraph in paragraphs] == list(COLUMNS)


def test_lines_above_and_below_every_page_are_no_text(tmp_path, capsys):
    from fpdf import FPDF

    pdf = FPDF()
    pdf.set_font("helvetica", size=11)
    for number, text in enumerate(("The lathe is red.", "The press is blue.", "The saw is green."), 1):
        pdf.add_page()
        for line in (f"Works manual, page {number}", text):
            pdf.cell(0, 20, line, new_x="LMARGIN", new_y="NEXT")
        pdf.set_y(-30)
        pdf.cell(0, 10, str(number))
    pdf.output(str(tmp_path / "works.pdf"))
    _, told = run_facts(capsys, tmp_path / "works.pdf", "--out", tmp_path / "facts")
    document = (tmp_path / "facts" / "works.md").read_text()
    assert document.split("\n\n") == ["The lathe is red.", "The press is blue.", "The saw is green.\n"]
    assert {item["why"] for item in told["left_out"]} == {"the line runs above or below the text of the pages"}


def test_a_docx_keeps_its_title_headings_tables_and_questions(tmp_path, capsys):
    status, told = run_facts(capsys, manual_docx(tmp_path / "manual.docx"), "--out", tmp_path / "facts")
    asked = answers(tmp_path / "facts" / "manual.jsonl")
    assert (status, told["left_out"]) == (0, [])
    assert asked["What is the pressure of Press 4?"] == "62 bar"
    assert asked["What is the interval of Oil?"] == "nine weeks"
    assert asked["Who comes when the alarm rings?"] == "Ivo Brandt"
    assert (tmp_path / "facts" / "manual.md").read_text().startswith("# Lathe manual")


def test_the_questions_lists_and_tables_of_a_web_page(tmp_path, capsys):
    (tmp_path / "faq.html").write_text(FAQ_HTML)
    _, told = run_facts(capsys, tmp_path / "faq.html", "--out", tmp_path / "facts")
    asked = answers(tmp_path / "facts" / "faq.jsonl")
    assert told["left_out"] == []
    expected = {
        "How long can I return a kettle?": "45 days",
        "Who signs refunds?": "Marta Oule signs them",
        "What is Restocking fee?": "8 percent",
        "Which form starts a return?": "Form R-17",
        "What is the limit of Chair?": "60 days",
        "Is the shop open on Sundays?": "No",
        "Where is the shop?": "In Ormen",
    }
    assert {question: asked.get(question) for question in expected} == expected


MARKDOWN = """# Ormen station

Halvard Brisk cooks at Ormen. He came in 1999.

## Overview

- Height: 340 m
- **Keeper:** Ana Ruiz
- Conduct surveys: engage analysts to perform noise surveys in the whole area.

| Property | Value |
|---|---|
| Colour | red |

## Lamps

Oil: ISO 32
Interval: nine weeks

Time: a thing that passes

```
Secret: not a fact
```

Wick
: A cord that sucks the oil

## Questions

Q: Who trims the lamps?
A: Ben Holm.

Q: What do the lamps burn? A: lark oil

1. Where are the spare wicks? In the cellar.
2. How often are they changed?

   Every week.

**Who pays for the oil?**

The town pays. It has done so since the fire, after which nobody else wanted to, and it will go on doing so for many years.

## What is missing?
"""


def test_what_markdown_states(tmp_path, capsys):
    (tmp_path / "ormen.md").write_text(MARKDOWN)
    _, told = run_facts(capsys, tmp_path / "ormen.md", "--out", tmp_path / "facts")
    asked = answers(tmp_path / "facts" / "ormen.jsonl")
    expected = {
        "What is the height of Ormen station?": "340 m",
        "Who is the keeper of Ormen station?": "Ana Ruiz",
        "What is the colour of Ormen station?": "red",
        "What is the oil of Lamps?": "ISO 32",
        "What is Wick?": "A cord that sucks the oil",
        "Who trims the lamps?": "Ben Holm",
        "What do the lamps burn?": "lark oil",
        "Where are the spare wicks?": "In the cellar",
        "How often are they changed?": "Every week",
        "Who pays for the oil?": "The town pays.",
    }
    assert {question: asked.get(question) for question in expected} == expected
    assert not any(word in question.lower() for question in asked for word in ("secret", "conduct", " time "))
    assert [(item["what"], item["why"]) for item in told["left_out"]] == [
        ("What is missing?", "the question has no answer")
    ]
    assert (tmp_path / "facts" / "ormen.md").read_text() == MARKDOWN.strip() + "\n"


@pytest.mark.parametrize(
    "title", ["Welcome to Kestrel", "Kestrel - Staff handbook", "User manual for Kestrel", "About Kestrel"]
)
def test_what_a_title_is_about(title, tmp_path, capsys):
    (tmp_path / "a.md").write_text(f"# {title}\n\n## Contacts\n\n- Manager: Nils Aakre\n- Code: larch-42\n")
    run_facts(capsys, tmp_path / "a.md", "--out", tmp_path / "facts")
    assert answers(tmp_path / "facts" / "a.jsonl")["Who is the manager of Kestrel?"] == "Nils Aakre"


@pytest.mark.parametrize(
    "text",
    [
        "# News\n\n## The bigger picture: saviour or not?\n\nDarker shadows loom over the city.\n",
        "**The bigger picture: saviour or not?**\n\nDarker shadows loom over the city.\n",
        "**BREAKING NEWS: the ring changes everything**\n\nBy the sea, people are happy.\n",
        "We met at noon: nobody was there.\n\nThe reason: nobody had been asked.\n",
    ],
)
def test_prose_that_only_looks_stated_gives_no_fact(text, tmp_path, capsys):
    (tmp_path / "news.md").write_text(text)
    _, told = run_facts(capsys, tmp_path / "news.md", "--out", tmp_path / "facts")
    assert told["topics"][0]["facts"] == 0
    assert told["topics"][0]["passages"] >= 1
