"""Pictures that a style is taken from, by name."""

from pathlib import Path

import pytest

from gan_style.stylize.model import find_references


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_a_name_is_the_files_and_where_it_comes_again_its_folders_too(tmp_path):
    folder = touch(tmp_path / "paintings", "monet/1.jpg", "munch/1.jpg", "munch/scream.png")
    found = {name: path.relative_to(folder).as_posix() for name, path in find_references(str(folder)).items()}
    assert found == {"monet_1": "monet/1.jpg", "munch_1": "munch/1.jpg", "scream": "munch/scream.png"}


def test_two_of_one_name_beside_each_other_are_refused(tmp_path):
    folder = touch(tmp_path, "a.jpg", "a.png")
    with pytest.raises(ValueError, match="reference"):
        find_references(str(folder))
    assert list(find_references([str(folder / "a.jpg"), str(folder / "a.jpg")])) == ["a"]
