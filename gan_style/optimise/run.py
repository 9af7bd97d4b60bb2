"""Run an optimisation to its end: when to print, to keep a picture and to save; and the files that it leaves.

These are its result, the pictures on the way, and the state from which it goes on.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan_style.images.decode import decode, encode_animation, to_float, to_uint8
from gan_style.images.lossless import Original, white_level, write_original
from gan_style.optimise.optimise import NonFiniteLossError, Optimisation, resize
from gan_style.options import differences
from gan_style.runtime.checkpoint import FORMAT, read_checkpoint
from gan_style.runtime.files import identity, write_bytes, write_durably
from gan_style.runtime.provenance import check_replaceable, optimisation_note, result_mark

_SECONDS_A_FRAME, _SECONDS_OF_THE_LAST = 0.12, 2.0


@dataclass(frozen=True)
class Record:
    """The files beside ``output``: OUTPUT.optimise (the state) and the folder STEM_steps (pictures on the way).

    settings: {dotted name: value}, whatever the result depends on, as plain values; content: as its file has it, of
    whatever size; animation: the GIF's path, or None.
    """

    output: Path
    settings: Mapping[str, Any]
    content: Original
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
        """Raise ValueError where one of the files that are to be written is, or could become, one of the inputs."""
        outputs = (self.output, self.state_path, self.last_good_path, self.animation)
        written = {identity(path) for path in outputs if path}
        for path in inputs:
            if identity(path) in written:
                raise ValueError(f"output={self.output}: {path} is one of the inputs, which are never written over")
            if path.resolve().parent == self.steps_folder.resolve():
                problem = f"pictures on the way go into {self.steps_folder}"
                raise ValueError(f"output={self.output}: {problem}, where {path} lies")

    def load(self) -> dict[str, Any] | None:
        """Return the state that an earlier command left; None where there is none.

        ValueError where that command had other settings, naming them, or where the file is damaged.
        """
        if not self.state_path.exists():
            return None
        try:
            content = read_checkpoint(self.state_path)
        except ValueError as error:
            raise ValueError(f"{error}; overwrite=true starts over") from error
        if lines := differences(content.get("settings", {}), self.settings):
            problem = f"{self.state_path} is of an optimisation with other settings"
            hint = "choose another output, or overwrite=true to start over."
            raise ValueError("\n  ".join([f"{problem}; {hint}", *lines]))
        return content

    def save(self, state: Mapping[str, Any], frames: Sequence[int], *, finished: bool = False) -> None:
        """Write the state; frames: the evaluations of which there are pictures."""
        content: dict[str, Any] = {"format": FORMAT, "settings": dict(self.settings), "optimisation": dict(state)}
        content |= {"frames": list(frames), "finished": finished}
        write_durably(self.state_path, lambda file: torch.save(content, file))

    def frame_path(self, evaluation: int) -> Path:
        return self.steps_folder / f"{evaluation:06d}{self.output.suffix}"

    def write_frame(self, evaluation: int, picture: Tensor) -> None:
        """Write a picture on the way, (1, 3, h, w) in [-1, 1]."""
        self.steps_folder.mkdir(exist_ok=True)
        self.write(self.frame_path(evaluation), picture)

    @property
    def mark(self) -> str:
        """Return the mark of this optimisation's files (runtime.outputs)."""
        return result_mark("optimise", self.settings)

    def check_replaceable(self, frames: Iterable[int], *, overwrite: bool) -> None:
        """Raise ValueError where a file is there that no earlier command with these settings has left.

        frames: those that the state tells of.
        """
        planned = {self.frame_path(evaluation) for evaluation in frames}
        steps = [path for path in self.steps_folder.glob(f"*{self.output.suffix}") if path not in planned]
        single = [path for path in (self.output, self.animation, self.last_good_path) if path is not None]
        check_replaceable(((path, lambda: self.mark) for path in (*single, *steps)), overwrite=overwrite)

    def write(self, path: Path, picture: Tensor) -> None:
        """Write (1, 3, h, w) in [-1, 1], whole or not at all, with a note of what made it.

        With the content's transparency, and all else that its file has, 16 bits where it has them.
        """
        deep = self.content.pixels.dtype == torch.uint16
        image = picture[0].detach().float().cpu().clamp(-1.0, 1.0)
        pixels = ((image + 1.0) * 32767.5).round().to(torch.int32).to(torch.uint16) if deep else to_uint8(image)
        alpha = self.content.alpha
        if alpha is not None:
            white = white_level(alpha)
            shares = resize(alpha[None].float(), *image.shape[-2:])[0].clamp(0.0, white)
            alpha = shares.round().to(torch.int32).to(self.content.pixels.dtype)
        original = replace(self.content, pixels=pixels, alpha=alpha)
        note = {**optimisation_note(self.settings), "result": self.mark}
        write_durably(path, lambda file: write_original(file, path.suffix, original, note=note))

    def write_animation(self, frames: Sequence[int]) -> None:
        """Write the pictures on the way one after the other, all as large as the last."""
        assert self.animation is not None
        pictures = [to_float(decode(self.frame_path(number))[None]) for number in frames]
        size = pictures[-1].shape[-2:]
        seconds = [_SECONDS_A_FRAME] * (len(pictures) - 1) + [_SECONDS_OF_THE_LAST]
        animation = encode_animation([resize(picture, *size)[0] for picture in pictures], seconds, comment=self.mark)
        write_bytes(self.animation, animation)


def run_to_end(
    optimisation: Optimisation,
    record: Record,
    *,
    to_picture: Callable[[Tensor], Tensor],
    tell: Callable[[int, Mapping[str, float]], None],
    frames: Sequence[int],
    tell_every: int,
    picture_every: int,
    state_every: int,
) -> None:
    """Optimise to the end, and write the result, then the animation, then the state that says finished.

    to_picture: makes the picture (1, 3, h, w) in [-1, 1] of a canvas; tell: is given the evaluation and the terms by
    name; frames: the evaluations of which there are pictures already; picture_every: 0 for none.
    NonFiniteLossError passes through once the last picture with finite losses is written beside the output.
    """
    frames = list(frames)

    def keep(evaluation: int, canvas: Tensor) -> None:
        record.write_frame(evaluation, to_picture(canvas))
        frames.append(evaluation)

    before = optimisation.evaluation
    if picture_every and not frames:
        keep(before, optimisation.canvas.detach())
    try:
        for canvas in optimisation.iterates():
            now = optimisation.evaluation
            is_last = now >= optimisation.steps
            if is_last or _passed(before, now, tell_every):
                tell(now, optimisation.terms)
            if picture_every and (is_last or _passed(before, now, picture_every)):
                keep(now, canvas)
            if _passed(before, now, state_every):
                record.save(optimisation.state_dict(), frames)
            before = now
    except NonFiniteLossError as error:
        record.write(record.last_good_path, to_picture(optimisation.last_good))
        hint = "a smaller method.lr or method=adam may help"
        raise NonFiniteLossError(f"{error}; the last picture before that is {record.last_good_path}; {hint}") from error
    record.write(record.output, to_picture(optimisation.canvas.detach()))
    if record.animation is not None:
        record.write_animation(frames)
    small = {"optimiser": None, "known": None}
    record.save(optimisation.state_dict() | small, frames, finished=True)


def _passed(before: int, now: int, interval: int) -> bool:
    """Return whether a multiple of the interval lies after ``before`` and not after ``now``."""
    return now // interval > before // interval
