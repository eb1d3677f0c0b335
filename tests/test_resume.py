"""Go on or refuse: what a run does with what stands in its folder."""

from __future__ import annotations

import json

import pytest

from lorary.errors import LoraryError
from lorary.resume import ResumeError, go_on, write_results

SETTINGS = {"settings": {"rows": 8, "names": ("a", "b"), "base": None}, "versions": {"torch": "2"}}
RESULTS = {"study": "colours", "schema": 3, **SETTINGS, "runs": {"red": 1}}


def held(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_equal_settings_go_on_and_an_empty_folder_begins(tmp_path):
    assert go_on(tmp_path, "colours", 3, SETTINGS) is None
    assert go_on(tmp_path / "new", "colours", 3, SETTINGS) is None
    assert not (tmp_path / "new").exists()
    write_results(tmp_path, RESULTS, {"report.md": b"# Colours", "plot.png": b"PNG"})
    assert set(held(tmp_path)) == {"results.json", "report.md", "plot.png"}
    assert go_on(tmp_path, "colours", 3, SETTINGS)["runs"] == {"red": 1}
    assert go_on(tmp_path, "colours", 3, {"settings": {"rows": 8}})["runs"] == {"red": 1}, "a name may be left free"
    assert go_on(tmp_path, "colours", 3, {"settings": {"later": None}}), "what results lack is None"


@pytest.mark.parametrize(
    ("study", "schema", "changed", "says"),
    [
        ("colours", 3, {"rows": 9}, "with rows 8, not 9: give another place, or the same settings"),
        ("colours", 3, {"rows": 9, "base": "b"}, "with rows 8, not 9; base None, not 'b'"),
        ("colours", 3, {"names": ("a",)}, r"names \['a', 'b'\], not \['a'\]"),
        ("colours", 4, {}, "has schema 3 and this version reads 4"),
        ("shapes", 3, {}, "holds results of 'colours', not of 'shapes'"),
    ],
)
def test_other_settings_schemas_and_studies_are_refused(study, schema, changed, says, tmp_path):
    write_results(tmp_path, RESULTS, {})
    before = held(tmp_path)
    with pytest.raises(ResumeError, match=says) as refused:
        go_on(tmp_path, study, schema, {"settings": SETTINGS["settings"] | changed})
    assert isinstance(refused.value, LoraryError)
    assert held(tmp_path) == before


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is not JSON"),
        ("\udcff", "is not JSON"),
        ("[]", "holds no results of this program"),
        (json.dumps({"title": "my own file"}), "holds no results of this program"),
        (json.dumps({"schema": 3, "settings": SETTINGS["settings"]}), "holds no results of this program"),
        (json.dumps({**RESULTS, "settings": []}), "rows None, not 8"),
    ],
)
def test_a_foreign_file_is_refused(text, says, tmp_path):
    (tmp_path / "results.json").write_text(text, errors="surrogateescape")
    with pytest.raises(ResumeError, match=says):
        go_on(tmp_path, "colours", 3, SETTINGS)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ResumeError, match="is a file; give a folder"):
        go_on(tmp_path / "file", "colours", 3, SETTINGS)


def test_a_folder_under_the_name_of_the_results_is_refused(tmp_path):
    (tmp_path / "results.json").mkdir()
    with pytest.raises(ResumeError, match="cannot be read"):
        go_on(tmp_path, "colours", 3, SETTINGS)


def test_a_report_that_no_results_tell_of_is_somebody_s_own(tmp_path):
    (tmp_path / "report.md").write_text("mine")
    with pytest.raises(ResumeError, match=r"holds report\.md but no results\.json"):
        go_on(tmp_path, "colours", 3, SETTINGS)
    (tmp_path / "report.md").rename(tmp_path / "notes.md")
    assert go_on(tmp_path, "colours", 3, SETTINGS) is None, "what is not written may stand there"
    with pytest.raises(ResumeError, match=r"notes\.md"):
        go_on(tmp_path, "colours", 3, SETTINGS, writes=("notes.md",))
