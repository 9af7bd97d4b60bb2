"""``gan-style export format=web``: what it refuses, before anything is written."""

import pytest

BAD_INPUT = {
    "a file": ("{tmp}/file.txt", [], "output="),
    "a folder of other things": ("{tmp}/full", [], "overwrite=true"),
    "bytes": ("{tmp}/page", ["input=uint8"], "input=uint8"),
    "a model without styles of its own": ("{tmp}/page", ["checkpoint=shipped:any"], "checkpoint=shipped:any"),
    "no such runtime": ("{tmp}/page", ["runtime.web={tmp}/full"], "runtime.web="),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_named_and_nothing_written(gan_style, tmp_path, case):
    pytest.importorskip("onnxscript", reason="the extra export is not installed")
    (tmp_path / "file.txt").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "index.html").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    output, more, words = BAD_INPUT[case]
    arguments = [f"output={output}", "format=web", "checkpoint=shipped:mobile", *more]
    outcome = gan_style("export", *(argument.format(tmp=tmp_path) for argument in arguments))
    assert outcome.status == 2 and words in outcome.err
    assert sorted(tmp_path.rglob("*")) == before and (tmp_path / "full" / "index.html").read_text() == "mine"
