"""Documents in the form in which QuALITY and NarrativeQA are published, odd cases included; the content is invented."""

from __future__ import annotations

import csv
import json

import pytest
from test_eval_longdoc import TEXT, TOLD, write
from test_eval_tasks import questions_of

from lorary.__main__ import main
from lorary.eval.tasks.documents import plain, read_documents
from lorary.eval.tasks.generated import TaskError
from lorary.eval.tasks.long_documents import longdoc, sentences

OPTIONS = ["Halvard\n", " Anna Quill ", "Brisk", "nobody"]
HTML = (
    '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN">\n<html lang="en">\n <body>\n <p>\n  Mr. Brisk walked in. '
    '"Where is <i>\n Halvard\n </i> Olsen?" he asked.<br/>Nobody answered him.\n </p>\n <hr class="tb"/>\n <p>In 1912 the '
    "town of Ormen\nhad 4,000 people. The mayor, Anna Quill, lived in Tresk.</p><p>Nobody answered him.</p></body></html>"
)


def quality(question="Who was the mayor?", article=TEXT, writer="1", **more):
    """A line of QuALITY's v1.0.1 with one question."""
    answers = {"validation": [{"untimed_annotator_id": "7", "untimed_answer": 2}], "speed_validation": []}
    told = {"question": f"{question} ", "question_unique_id": f"20015_{writer}_1", "options": OPTIONS}
    told |= {"writer_label": 2, "gold_label": 2, **answers, "difficult": 0, **more}
    return {
        **{"article_id": "20015", "set_unique_id": f"20015_{writer}", "batch_num": "23", "writer_id": writer},
        **{"source": "Gutenberg", "title": "Ormen", "year": 1950, "author": "Nobody", "topic": "Science fiction; PS"},
        **{"url": "http://example.org", "license": "none", "article": article, "questions": [told]},
    }


def unlabelled(**more):
    """A line of the test set: nothing of what annotators said."""
    line = quality(**more)
    for name in ("gold_label", "writer_label", "validation", "speed_validation", "difficult"):
        line["questions"][0].pop(name)
    return line


@pytest.mark.parametrize("article", [TEXT, HTML, [f"{line}\n" for line in HTML.splitlines()]])
def test_quality_s_questions_are_to_be_chosen(article, tmp_path):
    lines = [quality(article=article, difficult=1), quality("Mayor?", article, writer="2")]
    made = longdoc(write(tmp_path / "QuALITY.v1.0.1.train", *lines), chunk_words=13)
    assert {fact.statement for fact in made.facts} == set(TOLD)
    hard, easy = questions_of(made, tmp_path)
    assert (hard.text, hard.kind, hard.answer) == ("Who was the mayor?", "choice-hard", "Anna Quill")
    assert (hard.options, hard.memory) == (("Halvard", "Anna Quill", "Brisk", "nobody"), "20015-3")
    assert easy.kind == "choice"
    assert len({fact.topic for fact in made.facts}) == 3, "both sets of questions are about one article"
    assert not made.notes


def test_what_has_no_gold_label_is_left_out_and_told(tmp_path, capsys):
    file = write(tmp_path / "QuALITY.v1.0.1.htmlstripped.dev", unlabelled(), quality("Mayor?", writer="2"))
    assert main(["task", "longdoc", file, "--out", str(tmp_path / "out")]) == 0
    assert "left out: 1 question whose answer the source does not tell" in capsys.readouterr().out
    assert len((tmp_path / "out" / "questions.jsonl").read_text().splitlines()) == 1
    write(tmp_path / "QuALITY.v1.0.1.htmlstripped.dev", unlabelled(), unlabelled(writer="2"))
    assert main(["task", "longdoc", file, "--out", str(tmp_path / "none")]) == 2
    assert "tells the answer of none of its 2 questions" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({"article": TEXT}, r"other.jsonl:2: is not a line of QuALITY's \(it has no 'article_id'\)"),
        (quality(gold_label=0), r"other.jsonl:2: the gold label of 'Who was the mayor\?' is 0, it must be 1 to 4"),
        (quality(gold_label="2"), r"other.jsonl:2: the gold label of 'Who was the mayor\?' is '2', it must be 1 to 4"),
        (quality(options=None), "other.jsonl:2: is not a line of QuALITY's"),
    ],
)
def test_a_bad_line_of_quality_is_told_with_its_place(line, told, tmp_path):
    with pytest.raises(TaskError, match=told):
        longdoc(write(tmp_path / "other.jsonl", quality(), line))


def test_a_line_may_hold_any_character(tmp_path):
    """Among them those at which Python's splitlines would cut a line of JSON."""
    file = tmp_path / "QuALITY.v1.0.1.htmlstripped.dev"
    line = quality(article="Anna\x85lived in Tresk.\u2028Nobody answered.", question="Where\u2028did Anna live?")
    file.write_text("\ufeff" + json.dumps(line, ensure_ascii=False) + "\n", encoding="utf-8")
    assert longdoc(str(file)).facts[0].statement == "Anna lived in Tresk."


def test_markup_is_left_out_and_paragraphs_stay_apart():
    script = (
        "<html><script>if (window != top)</script><pre><b>GALLEY, NIGHT</b>\n\nBrisk &amp; Halvard cook.\n</pre></html>"
    )
    assert sentences(plain(script)) == ["GALLEY, NIGHT", "Brisk & Halvard cook."]
    assert plain("a < b, and c > d & e; <3") == "a < b, and c > d & e; <3"


IDS = [f"{i:x}" * 40 for i in range(4)]
QAPS = ["document_id", "set", "question", "answer1", "answer2"]
QAPS += ["question_tokenized", "answer1_tokenized", "answer2_tokenized"]
DOCUMENTS = ["document_id", "set", "kind", "story_url", "story_file_size", "wiki_url", "wiki_title"]
DOCUMENTS += ["story_word_count", "story_start", "story_end"]
SUMMARY = ' The mayor, "old" Anna,\n lived in Tresk. '


@pytest.fixture
def narrativeqa(tmp_path):
    """A folder as it is published, after its script has downloaded what could be: a book in Western Windows' code, a
    film script in HTML, an empty file, and an error page in the place of a story."""
    folder = tmp_path / "narrativeqa"
    (folder / "third_party" / "wikipedia").mkdir(parents=True)
    (folder / "tmp").mkdir()
    sets = ["test", "train", "valid", "test"]
    asked = [
        ["Where did the mayor live?", "Tresk", "In Tresk"],
        ["What did Brisk burn?", "The lamps.", "the lamps"],
        ["What did Brisk keep?", "", ""],
        ["WHERE DID ANNA LIVE?", "Tresk", " "],
    ]
    stories = [b"All the lamps of caf\xe9 Ormen burned.\r\n\r\nThe mayor lived in Tresk.", b"", b"", b"404 Not Found"]
    stories[1] = b"<html><pre><b>BRISK</b> burns the lamps of Ormen.</pre></html>"
    sizes = [len(stories[0]) - 2, len(stories[1]), 54078, 27169]
    rows = {
        "qaps.csv": [QAPS, *([n, s, *told, *told] for n, s, told in zip(IDS, sets, asked, strict=True))],
        "documents.csv": [
            DOCUMENTS,
            *(
                [n, s, "movie", "u", z, "u", "Ormen, The", 9, "a", "b"]
                for n, s, z in zip(IDS, sets, sizes, strict=True)
            ),
        ],
        "third_party/wikipedia/summaries.csv": [
            ["document_id", "set", "summary", "summary_tokenized"],
            *([n, s, SUMMARY, SUMMARY] for n, s in zip(IDS, sets, strict=True)),
        ],
    }
    for name, lines in rows.items():
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(lines)
    for name, story in zip(IDS, stories, strict=True):
        (folder / "tmp" / f"{name}.content").write_bytes(story)
    return folder


def test_narrativeqa_is_read_from_its_folder(narrativeqa, tmp_path):
    made = longdoc(str(narrativeqa))
    mayor, lamps, anna = questions_of(made, tmp_path)
    assert (mayor.answer, mayor.accepted, mayor.memory) == ("Tresk", ("In Tresk",), f"{IDS[0]}-1")
    assert lamps.accepted == ("the lamps",)
    assert (anna.answer, anna.accepted) == ("Tresk", ()), "an empty second answer is none"
    assert {fact.statement for fact in made.facts} == {
        "All the lamps of café Ormen burned.",
        "The mayor lived in Tresk.",
        "BRISK burns the lamps of Ormen.",
        'The mayor, "old" Anna, lived in Tresk.',
    }
    assert made.notes == (
        "left out: 1 question whose answer the source does not tell",
        "read: 2 stories, 2 summaries of what has no whole story in tmp/",
    )


def test_documents_are_of_one_split_where_it_is_asked_for(narrativeqa):
    assert [document.title for document in read_documents(narrativeqa, split="test")] == [IDS[0], IDS[3]]
    assert {fact.topic for fact in longdoc(str(narrativeqa), documents=1, split="train").facts} == {f"{IDS[1]}-1"}
    with pytest.raises(TaskError, match=r"no questions of split 'dev'; its splits are \['test', 'train', 'valid'\]"):
        longdoc(str(narrativeqa), split="dev")


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("third_party/wikipedia/summaries.csv", "document_id,set\nd1,test\n", "has no column 'summary'"),
        ("qaps.csv", ",".join(QAPS) + f"\n{IDS[0]},test,Who\n", r"qaps.csv:2: this row has no 'answer1'"),
        ("qaps.csv", ",".join(QAPS) + "\nd9,test,Who?,Anna,Anna,,,\n", "d9 has neither a whole story"),
    ],
)
def test_a_bad_row_of_narrativeqa_is_told_with_its_place(file, text, told, narrativeqa):
    (narrativeqa / file).write_text(text)
    with pytest.raises(TaskError, match=told):
        longdoc(str(narrativeqa))


def test_options_that_do_not_go_with_the_source_are_refused(narrativeqa, tmp_path):
    file = write(tmp_path / "QuALITY.v1.0.1.dev", quality())
    with pytest.raises(TaskError, match="leave --questions out"):
        longdoc(file, questions=file)
    with pytest.raises(TaskError, match="leave --split out"):
        longdoc(file, split="test")
    with pytest.raises(TaskError, match="leave --questions out"):
        longdoc(str(narrativeqa), questions=file)


def test_a_text_is_read_in_the_encodings_that_people_save(tmp_path):
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "cp1252"):
        (tmp_path / "own.txt").write_bytes("Café Ormen has lamps.".encode(encoding))
        (document,) = read_documents(tmp_path / "own.txt")
        assert document.text == "Café Ormen has lamps."
    (tmp_path / "own.txt").write_bytes(b"PK\x03\x04\x00\x00")
    with pytest.raises(TaskError, match="is no text"):
        list(read_documents(tmp_path / "own.txt"))


def test_what_is_no_document_is_told_by_its_cause(narrativeqa, tmp_path):
    (tmp_path / "own.md").write_text("# A title")
    with pytest.raises(TaskError, match=r"own.md:1: not JSON.*a text's name ends in .txt"):
        longdoc(str(tmp_path / "own.md"))
    with pytest.raises(TaskError, match=r"is a folder without qaps.csv, so it is not NarrativeQA's"):
        longdoc(str(tmp_path))
    (narrativeqa / "qaps.csv").write_text(",".join(QAPS) + "\n")
    with pytest.raises(TaskError, match=r"qaps.csv: holds no question"):
        longdoc(str(narrativeqa))
