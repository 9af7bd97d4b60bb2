"""Weights & Biases; the one file that names wandb, imported only when a run tracks with it."""

import netrc
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gan_style.files import write_bytes

MODES = ("auto", "online", "offline", "disabled")
_INIT_TIMEOUT = 30.0  # seconds until a server counts as out of reach


def resolve_mode(mode: str) -> str:
    """ "auto" to online where a key is configured, else offline; never a prompt. ValueError for an unknown mode.

    The environment's WANDB_MODE, where it is set, decides in place of auto.
    """
    if mode not in MODES:
        raise ValueError(f"tracking.wandb={mode}; allowed are {', '.join(MODES)}")
    wanted = os.environ.get("WANDB_MODE", "") if mode == "auto" else mode
    if wanted == "online" and not _key_is_configured():
        raise ValueError("tracking.wandb=online needs a key: wandb login, or WANDB_API_KEY; or use offline")
    if wanted in ("online", "offline", "disabled"):
        return wanted
    return "online" if _key_is_configured() else "offline"


def _key_is_configured() -> bool:
    """In the environment, or for W&B's host in the netrc file (where ``wandb login`` puts it)."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


class WandbTracker:
    """One W&B run. Its id is kept in the run's folder, so that a resumed run goes on in the same one.

    mode: "online" (ConnectionError where that fails) or "offline". Numbers have their own axis, ``step``, so that a
    resumed run draws one line.
    """

    def __init__(self, *, mode: str, project: str, name: str, config: Mapping[str, Any], folder: Path) -> None:
        import wandb

        self._wandb = wandb
        id_file = folder / "wandb_id"
        run_id = id_file.read_text().strip() if id_file.exists() else secrets.token_hex(4)
        try:
            self._run = wandb.init(
                mode=mode,  # type: ignore[arg-type]
                project=project,
                name=name,
                id=run_id,
                resume="allow",
                config=dict(config),
                dir=str(folder),
                settings=wandb.Settings(silent=True, console="off", init_timeout=_INIT_TIMEOUT),
            )
        except wandb.errors.Error as error:
            reason = str(error).splitlines()[0]
            raise ConnectionError(f"tracking.wandb={mode}: {reason}; offline needs no server") from error
        write_bytes(id_file, run_id.encode())
        self._run.define_metric("*", step_metric="step")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({"step": step, **values})

    def picture(self, step: int, name: str, path: Path) -> None:
        self._run.log({"step": step, name: self._wandb.Image(str(path))})

    def rewind(self, step: int) -> None:
        """Lines are drawn over the axis ``step``, where later values replace earlier ones."""

    def preempted(self) -> None:
        self._run.mark_preempting()

    def finish(self, *, failed: bool) -> None:
        self._run.finish(exit_code=1 if failed else 0)
