"""Weights & Biases; the one file that names wandb, imported only when a run tracks with it."""

import netrc
import os
import secrets
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gan_style.runtime.files import write_bytes
from gan_style.runtime.machine import first_line
from gan_style.runtime.tracking import FinalResult, Tracker

MODES = ("auto", "online", "offline", "disabled")
# Seconds. Together with the start of an offline run they stay below half a minute.
PROBE_TIMEOUT = 6.0  # until a server that does not answer counts as out of reach
_INIT_TIMEOUT = 15.0  # and one that answers, but not as W&B does
_FINISH_TIMEOUT = 120.0  # for what is still to be uploaded; it stays on disk, for wandb sync


def resolve_mode(mode: str) -> str:
    """Resolve "auto": online where a key is configured, else offline; never ask. ValueError for an unknown mode.

    The environment's WANDB_MODE, where it is set, decides in place of auto.
    """
    if mode not in MODES:
        raise ValueError(f"tracking.wandb={mode}; allowed are {', '.join(MODES)}")
    resolved = os.environ.get("WANDB_MODE", "") if mode == "auto" else mode
    if resolved == "online" and not _key_is_configured():
        raise ValueError("tracking.wandb=online needs a key: wandb login, or WANDB_API_KEY; or use offline")
    if resolved in ("online", "offline", "disabled"):
        return resolved
    return "online" if _key_is_configured() else "offline"


def _server() -> str:
    return os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")


def _key_is_configured() -> bool:
    """Return whether a key is in the environment, or, from ``wandb login``, in the netrc file for W&B's host."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(urlsplit(_server()).hostname or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _check_reachable() -> None:
    """Raise ConnectionError unless the server answers anything at all, within seconds; wandb would try for longer."""
    problems: list[str] = []
    ask = threading.Thread(target=lambda: problems.append(_answer()), daemon=True)  # finding a name has no timeout
    ask.start()
    ask.join(PROBE_TIMEOUT)
    reason = problems[0] if problems else f"no answer within {PROBE_TIMEOUT:g} s"
    if reason:
        raise ConnectionError(f"{_server()} is out of reach ({reason})")


def _answer() -> str:
    """Ask the server; return what is wrong, or ""."""
    try:
        with urllib.request.urlopen(urllib.request.Request(_server(), method="HEAD"), timeout=PROBE_TIMEOUT):
            return ""
    except urllib.error.HTTPError:
        return ""  # an answer
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))


class WandbTracker(Tracker):
    """Track one W&B run. Its id is kept in the run's folder, so that a resumed run goes on in the same one.

    mode: "online" (ConnectionError where that fails) or "offline". Numbers have their own axis, ``step``, so that a
    resumed run draws one line. artifacts: whether a finished run's generator is kept as one. The run is nobody else's:
    wandb.run and the environment stay as they are.
    """

    def __init__(
        self,
        *,
        mode: str,
        project: str,
        name: str,
        config: Mapping[str, Any],
        folder: Path,
        group: str | None = None,
        tags: Sequence[str] = (),
        notes: str | None = None,
        artifacts: bool = True,
    ) -> None:
        self._folder, self._artifacts, self._ahead, self._last = folder, artifacts, 0, 0
        id_file = folder / "wandb_id"
        new = os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4)  # a W&B agent has chosen it
        run_id = id_file.read_text().strip() if id_file.exists() else new
        described: dict[str, Any] = {
            "project": project,
            "name": name[:128],
            "group": group,
            "tags": list(tags) or None,
            "notes": notes,
        }
        timeouts: dict[str, Any] = {
            "init_timeout": _INIT_TIMEOUT,
            "login_timeout": _INIT_TIMEOUT,
            "finish_timeout": _FINISH_TIMEOUT,
        }
        with self._surroundings():
            try:
                import wandb
            except Exception as error:  # of whatever kind its own imports raise
                hint = f"wandb cannot be imported ({first_line(error)}); pip install wandb"
                raise ImportError(f"tracking.wandb={mode}: {hint}") from error
            try:
                if mode == "online":
                    _check_reachable()
                self._wandb = wandb
                self._run = wandb.init(
                    mode=mode,  # type: ignore[arg-type]
                    id=run_id,
                    resume="allow",
                    config=dict(config),
                    dir=str(folder),
                    settings=wandb.Settings(silent=True, console="off", reinit="create_new", **timeouts),
                    **described,
                )
            except (ConnectionError, wandb.errors.Error) as error:
                raise ConnectionError(f"tracking.wandb={mode}: {first_line(error)}; offline needs no server") from error
        write_bytes(id_file, run_id.encode())
        self._last = self._run.starting_step  # where a resumed run's own count stands
        self._run.define_metric("*", step_metric="step")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._log(step, values)

    def picture(self, step: int, name: str, path: Path) -> None:
        self._log(step, {name: self._wandb.Image(str(path))})

    def _log(self, step: int, values: Mapping[str, Any]) -> None:
        """Log a step's values. W&B's count is the step, too: it may only grow, also from an offline run to the next."""
        self._ahead = max(self._ahead, self._last - step)
        self._last = step + self._ahead
        self._run.log({"step": step, **values}, step=self._last)

    def rewind(self, step: int) -> None:
        """Go back: lines are drawn over the axis ``step``, where later values replace earlier ones."""
        self._ahead = self._last + 1 - step

    def preempted(self) -> None:
        self._run.mark_preempting()

    def completed(self, result: FinalResult) -> None:
        """Upload the final pictures as a table, what was best into the summary, and the artifact."""
        with self._surroundings():
            rows = [[self._wandb.Image(picture.permute(1, 2, 0).numpy()) for picture in row] for row in result.rows()]
            if rows:
                self._log(result.step, {"results": self._wandb.Table(columns=list(result.columns), data=rows)})
            best = {f"best/{name}": value for name, value in result.best_values.items()}
            self._run.summary.update({"final/step": result.step, "best/step": result.best_step} | best)
            if self._artifacts:
                # Where the last step is the best, one version has both aliases.
                if result.best is not None and result.best_step != result.step:
                    self._keep(result.best, result.best_step, ["best"])
                    self._keep(result.generator, result.step, ["last"])
                else:
                    self._keep(result.generator, result.step, ["last"] + ["best"] * (result.best is not None))

    def _keep(self, path: Path, step: int | None, aliases: list[str]) -> None:
        """Upload a copy in the wandb folder: a run that goes on may replace its files before they are sent."""
        place = self._folder / "wandb" / "artifacts" / f"{step}-{path.name}"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
        artifact = self._wandb.Artifact(f"generator-{self._run.id}", type="model", metadata={"step": step})
        artifact.add_file(str(place), name=path.name, policy="immutable", skip_cache=True)
        self._run.log_artifact(artifact, aliases=aliases)

    def finish(self, *, failed: bool) -> None:
        with self._surroundings():
            self._run.finish(exit_code=1 if failed else 0)

    @contextmanager
    def _surroundings(self) -> Iterator[None]:
        """Have wandb keep its files in the run's folder in the block; afterwards the environment is as before."""
        before = dict(os.environ)
        os.environ.setdefault("WANDB_DATA_DIR", str((self._folder / "wandb" / "data").absolute()))
        try:
            yield
        finally:
            for name in os.environ.keys() - before.keys():
                del os.environ[name]
            os.environ.update(before)
