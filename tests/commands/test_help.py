"""--help tells the truth: every command, every option of every root config, every group's choices."""

import subprocess
import sys

import pytest
from hydra import compose, initialize_config_dir

from gan_style.cli import COMMANDS
from gan_style.config import CONFIG_PATH


def shown(*arguments: str) -> str:
    return subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, check=True).stdout


def test_the_overview_names_every_command():
    overview = shown("gan_style.cli", "--help")
    assert all(name in overview for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_commands_help_names_every_option_and_no_other_block(name):
    text = shown("gan_style.cli", name, "--help")
    with initialize_config_dir(str(CONFIG_PATH), version_base="1.3"):
        config = compose(name)
    groups = {"generator", "discriminator", "perceptual", "loss"}
    for block in config:
        assert f"{block}:" in text
        options = config._get_node(block) if block not in groups else ()
        for option in options if hasattr(options, "keys") else ():
            assert f"  {option}:" in text
    assert "defaults:" not in text
    assert "sweep:" not in text


def test_the_help_of_train_lists_the_choices_of_every_group():
    text = shown("gan_style.commands.train", "--help")
    for path in CONFIG_PATH.glob("*/*.yaml"):
        assert path.stem in text
