"""What an optimisation leaves on the disk: its result, the pictures on the way, and the state from which it goes on."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan_style.checkpoint import FORMAT, read_checkpoint
from gan_style.files import write_bytes, write_durably
from gan_style.images import decode, encode, encode_animation, to_float
from gan_style.nst.pyramid import resized
from gan_style.provenance import optimisation_note

_SECONDS_A_FRAME, _SECONDS_OF_THE_LAST = 0.12, 2.0


@dataclass(frozen=True)
class Record:
    """The files beside ``output``: OUTPUT.optimise (the state) and the folder STEM_steps (pictures on the way).

    settings: {dotted name: value}, whatever the result depends on, as plain values; animation: the GIF's path, or None.
    """

    output: Path
    settings: Mapping[str, Any]
    animation: Path | None = None

    @property
    def state_path(self) -> Path:
        return self.output.with_name(f"{self.output.name}.optimise")

    @property
    def steps_folder(self) -> Path:
        return self.output.with_name(f"{self.output.stem}_steps")

    @property
    def last_good_path(self) -> Path:
        return self.output.with_name(f"{self.output.stem}_last_good{self.output.suffix}")

    def check_apart(self, inputs: Iterable[Path]) -> None:
        """ValueError where one of the files that are to be written is, or could become, one of the inputs."""
        written = {
            path.resolve() for path in (self.output, self.state_path, self.last_good_path, self.animation) if path
        }
        for path in inputs:
            if path.resolve() in written:
                raise ValueError(
                    f"output={self.output}: {path} is one of the inputs; results are never written over them"
                )
            if path.resolve().parent == self.steps_folder.resolve():
                raise ValueError(
                    f"output={self.output}: pictures on the way go into {self.steps_folder}, where {path} lies"
                )

    def load(self) -> dict[str, Any] | None:
        """The state that an earlier command left; None where there is none.

        ValueError where that command had other settings, naming them, or where the file is damaged.
        """
        if not self.state_path.exists():
            return None
        try:
            content = read_checkpoint(self.state_path)
        except ValueError as error:
            raise ValueError(f"{error}; overwrite=true starts over") from error
        old, new = content.get("settings", {}), self.settings
        keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
        if keys:
            listed = "\n  ".join(f"{key}: {old.get(key)} there, {new.get(key)} here" for key in keys)
            raise ValueError(
                f"{self.state_path} is of an optimisation with other settings; choose another output, or "
                f"overwrite=true to start over.\n  {listed}"
            )
        return content

    def save(self, state: Mapping[str, Any], frames: Sequence[int], *, finished: bool = False) -> None:
        """Write the state; frames: the evaluations of which there are pictures."""
        content: dict[str, Any] = {"format": FORMAT, "settings": dict(self.settings), "optimisation": dict(state)}
        content |= {"frames": list(frames), "finished": finished}
        write_durably(self.state_path, lambda file: torch.save(content, file))

    def frame_path(self, evaluation: int) -> Path:
        return self.steps_folder / f"{evaluation:06d}{self.output.suffix}"

    def write_frame(self, evaluation: int, picture: Tensor) -> None:
        """A picture on the way, (1, 3, h, w) in [-1, 1]."""
        self.steps_folder.mkdir(exist_ok=True)
        self.write(self.frame_path(evaluation), picture)

    def write(self, path: Path, picture: Tensor) -> None:
        """Write (1, 3, h, w) in [-1, 1], whole or not at all, with a note of what made it."""
        write_bytes(path, encode(picture[0], path.suffix, note=optimisation_note(self.settings)))

    def write_animation(self, frames: Sequence[int]) -> None:
        """The pictures on the way one after the other, all as large as the last."""
        assert self.animation is not None
        pictures = [to_float(decode(self.frame_path(number))[None]) for number in frames]
        size = pictures[-1].shape[-2:]
        seconds = [_SECONDS_A_FRAME] * (len(pictures) - 1) + [_SECONDS_OF_THE_LAST]
        write_bytes(self.animation, encode_animation([resized(one, *size)[0] for one in pictures], seconds))
