"""Plain words on the command line become one option, whatever files are called."""

import subprocess
import sys
from importlib import import_module

import pytest
from hydra import compose, initialize_config_dir

from gan_style.cli import PLAIN_WORDS, join_plain_words
from gan_style.config import CONFIG_PATH


def test_words_become_one_list_and_the_rest_stays():
    assert join_plain_words(["runs/a", "output=x", "runs/b", "--info"], "runs") == [
        "output=x",
        "--info",
        "runs=['runs/a','runs/b']",
    ]
    assert join_plain_words(["runs=[a,b]", "output=x"], "runs") == ["runs=[a,b]", "output=x"]
    assert join_plain_words([], "file") == []


def test_the_value_of_a_flag_is_none_of_them():
    assert join_plain_words(["--cfg", "job", "a"], "runs") == ["--cfg", "job", "runs=['a']"]


def test_what_exists_is_a_word_even_with_an_equals_sign(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "0-loss.style.weight=1").mkdir()
    assert join_plain_words(["0-loss.style.weight=1", "size=64"], "runs") == [
        "size=64",
        "runs=['0-loss.style.weight=1']",
    ]


def test_both_at_once_are_refused(capsys):
    with pytest.raises(SystemExit) as exit_:
        join_plain_words(["a", "runs=[b]"], "runs")
    assert exit_.value.code == 2 and "runs=[...]" in capsys.readouterr().err


def gathered_existing(word):
    """As if there were a folder of that name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.path.exists", lambda path: path == word)
        return join_plain_words([word], "runs")


@pytest.mark.parametrize(
    "word",
    ["a b", "it's", "a,b", "0-x=1,y=2", "[a]", "{b}", "c:\\d", "e\\", "f\\'g", "${oc.env:HOME}x", '"h"', "ä✓", "1"],
)
def test_hydra_reads_every_name_as_it_was_written(word):
    import_module("gan_style.commands.compare")  # registers its options
    (override,) = join_plain_words([word], "runs") if "=" not in word else gathered_existing(word)
    with initialize_config_dir(str(CONFIG_PATH), version_base="1.3"):
        cfg = compose("compare", overrides=[override])
    actual = cfg._get_node("runs")._get_node(0)._value()
    assert actual == word


def test_every_command_with_plain_words_has_that_option():
    for command, option in PLAIN_WORDS.items():
        assert f"\n{option}: ???" in (CONFIG_PATH / f"{command}.yaml").read_text()


def test_a_value_for_a_group_of_options_is_refused_in_our_words():
    arguments = ["train", "run=mine", "data.content=.", "data.style=."]
    result = subprocess.run([sys.executable, "-m", "gan_style.cli", *arguments], capture_output=True, text=True)
    assert result.returncode == 2 and "run.NAME" in result.stderr
