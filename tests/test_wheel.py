"""Installed as a wheel, without the checkout, the commands work from any folder."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


def run(*command: str | Path, folder: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_wheel_in_another_environment_trains_and_stylizes(tmp_path):
    pip = (sys.executable, "-m", "pip")
    run(*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, REPOSITORY, folder=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    (site_packages,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    # what gan_style depends on comes from the tests' own environment, whose editable gan_style a .pth line leaves out
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    run(*pip, "--python", python, "install", "-q", "--no-deps", "--no-index", wheel, folder=tmp_path)
    folder_of_user = tmp_path / "elsewhere"
    folder_of_user.mkdir()
    place = run(python, "-c", "import gan_style; print(gan_style.__file__)", folder=folder_of_user)
    assert str(site_packages) in place
    script = tmp_path / "venv" / "bin" / "gan-style"
    run(script, "train", "experiment=smoke", folder=folder_of_user)
    run(script, "stylize", "checkpoint=runs/smoke", "input=demo:heldout", "output=stylized", folder=folder_of_user)
    assert len(list((folder_of_user / "stylized").iterdir())) == 2
    assert "stylize" in run(python, "-m", "gan_style.cli", "--help", folder=folder_of_user)
    assert "training:" in run(python, "-m", "gan_style.commands.train", "--help", folder=folder_of_user)
