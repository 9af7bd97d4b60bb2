"""--help tells the truth: every command, every option of every root config, every group's choices."""

import re
import subprocess
import sys

import pytest
from hydra import compose, initialize_config_dir

from gan_style.cli import COMMANDS
from gan_style.config import CONFIG_PATH


def help_of(*arguments: str) -> str:
    return subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, check=True).stdout


def test_the_overview_names_every_command():
    overview = help_of("gan_style.cli", "--help")
    assert all(name in overview for name in COMMANDS)
    assert "gan-style stylize name=value" in help_of("gan_style.cli", "stylize", "--help")


def groups_of(name: str) -> set[str]:
    """The groups from which a command's root config chooses."""
    lines = (CONFIG_PATH / f"{name.replace('-', '_')}.yaml").read_text().splitlines()
    actual = (re.fullmatch(r"  - (\w+): \w+", line) for line in lines)
    return {match[1] for match in actual if match}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_commands_help_names_every_option_and_no_other_block_and_lists_the_choices_of_groups(gan_style, name):
    text = gan_style(name.replace("-", "_"), "--help").out
    with initialize_config_dir(str(CONFIG_PATH), version_base="1.3"):
        config = compose(name.replace("-", "_"))
    for block in config:
        assert f"{block}:" in text
        options = config._get_node(block) if block not in groups_of(name) else ()
        for option in options if hasattr(options, "keys") else ():
            assert f"  {option}:" in text
    assert "defaults:" not in text
    assert "hydra:" not in text and "sweep: {dir" not in text
    for group in groups_of(name):
        listed = next(line for line in text.splitlines() if line.startswith(f"  {group}: "))
        assert listed == f"  {group}: {', '.join(sorted(path.stem for path in (CONFIG_PATH / group).glob('*.yaml')))}"


def test_every_group_belongs_to_a_command():
    groups = {path.name for path in CONFIG_PATH.iterdir() if path.is_dir()} - {"hydra", "spaces"}  # of sweeps, searches
    assert groups == set().union(*map(groups_of, COMMANDS))
