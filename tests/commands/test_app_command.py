"""``gan-style app``: what it refuses before it serves anything. The page itself is in tests/app."""

import socket

import pytest

BAD_INPUT = {
    "no such run": (["checkpoint={tmp}/none"], "none"),
    "a table of runs": (["checkpoint={{a: b}}"], "checkpoint="),
    "a port that is none": (["port=70000"], "port=70000"),
    "no pixels": (["max_megapixels=0"], "max_megapixels=0"),
    "a port that is taken": (["port={port}"], "port={port}"),
    "another machine's address": (["host=192.0.2.1"], "host=192.0.2.1"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_named_in_the_users_words(gan_style, tmp_path, case):
    pytest.importorskip("gradio", reason="Gradio (the extra app) is not installed")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        places = {"tmp": tmp_path, "port": other.getsockname()[1]}
        arguments, message = BAD_INPUT[case]
        outcome = gan_style("app", *(argument.format(**places) for argument in arguments), status=2)
    assert message.format(**places) in outcome.err


def test_without_gradio_it_says_how_to_get_it(gan_style, monkeypatch):
    monkeypatch.setattr("gan_style.commands.app.find_spec", lambda name: None)
    assert "gan_style[app]" in gan_style("app", status=2).err
