"""Stands for ``python -m gan_style.commands.train``: takes the same overrides, and measures a formula of them.

training.steps quick steps, slow ones in the third run and after the twentieth; SIGTERM saves the step and ends with
status 75, and the same command goes on. Every start and every end is a line in starts.txt of the run's folder.
loss.tv.weight=13 crashes it.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from gan_style.runtime.files import locked

values = dict(argument.split("=", 1) for argument in sys.argv[1:])
folder = Path(values["run.root"].strip("'")) / values["run.name"].strip("'")
folder.mkdir(parents=True, exist_ok=True)
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
weight = float(values["loss.style.weight"])


def note(word: str) -> None:
    with open(folder / "starts.txt", "a") as file:
        file.write(f"{word}\n")


with locked(folder):
    saved = folder / "saved"
    step = int(saved.read_text()) if saved.exists() else 0
    note(f"start {step}")
    if values.get("loss.tv.weight") == "13":
        print("an unlucky number", file=sys.stderr)
        os.kill(os.getpid(), signal.SIGKILL)
    while step < int(values.get("training.steps", "4")):
        time.sleep(0.5 if folder.name == "0002" or step > 20 else 0.005)
        step += 1
        row = {"step": step, "heldout/composite": (weight - 1) ** 2 + 1 / step, "heldout/content": weight}
        with open(folder / "metrics.jsonl", "a") as file:
            file.write(json.dumps(row | {"heldout/style": 1 / weight}) + "\n")
        saved.write_text(str(step))
        if stopped:
            note(f"stopped {step}")
            sys.exit(75)
    note("end")
