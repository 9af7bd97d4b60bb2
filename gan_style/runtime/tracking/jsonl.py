"""metrics.jsonl: one JSON object a line, always on."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from gan_style.runtime.files import write_bytes
from gan_style.runtime.tracking.base import FinalResult


class JsonlTracker:
    """Appends {"step": ..., name: value, ...} to a file, whole lines at a time.

    On resume, lines of steps after ``last_step`` (and a torn last line) are dropped, so that no step stands twice.
    """

    def __init__(self, path: Path, *, last_step: int) -> None:
        self._path = path
        self._open(last_step)

    def _open(self, last_step: int) -> None:
        if self._path.exists():
            write_bytes(self._path, "".join(line + "\n" for line in _lines_up_to(self._path, last_step)).encode())
        self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115 (closed by finish)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()

    def picture(self, step: int, name: str, path: Path) -> None:
        """Pictures are files of the run already."""

    def rewind(self, step: int) -> None:
        self._file.close()
        self._open(step)

    def preempted(self) -> None:
        """Do nothing: the last line says how far the run has come."""

    def completed(self, result: FinalResult) -> None:
        """Do nothing: the files are those of the run already."""

    def finish(self, *, failed: bool) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def _lines_up_to(path: Path, last_step: int) -> list[str]:
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            if json.loads(line)["step"] <= last_step:
                lines.append(line)
        except (ValueError, KeyError, TypeError):
            continue  # torn by a kill
    return lines
