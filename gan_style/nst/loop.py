"""The time-keeping of an optimisation: when to tell, to show and to save; when to stop."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from gan_style.nst.optimise import NonFiniteError, Optimisation
from gan_style.nst.record import Record


@dataclass(frozen=True)
class Every:
    """After how many evaluations to tell, to keep a picture (0: never) and to save the state."""

    tell: int
    picture: int
    state: int


@dataclass
class Loop:
    """An optimisation and what is to become of it.

    shown: makes the picture (1, 3, h, w) in [-1, 1] of a canvas; tell: is given the evaluation and the terms by name;
    frames: the evaluations of which there are pictures already.
    """

    optimisation: Optimisation
    record: Record
    every: Every
    shown: Callable[[Tensor], Tensor]
    tell: Callable[[int, Mapping[str, float]], None]
    frames: list[int] = field(default_factory=list)

    def run(self) -> None:
        """Go through to the end and write the result, then the animation, then the state that says finished.

        NonFiniteError passes through once the last picture with finite losses is written beside the output.
        """
        if self.every.picture and not self.frames:
            self._keep(self.optimisation.evaluation, self.optimisation.canvas.detach())
        try:
            self._iterate()
        except NonFiniteError as error:
            self.record.write(self.record.last_good_path, self.shown(self.optimisation.last_good))
            raise NonFiniteError(
                f"{error}; the last picture before that is {self.record.last_good_path}. "
                f"A smaller method.lr or method=adam may help"
            ) from error
        self._finish()

    def _iterate(self) -> None:
        optimisation, every = self.optimisation, self.every
        before = optimisation.evaluation
        for canvas in optimisation.iterates():
            now = optimisation.evaluation
            last = now >= optimisation.steps
            if last or _passed(before, now, every.tell):
                self.tell(now, optimisation.terms)
            if every.picture and (last or _passed(before, now, every.picture)):
                self._keep(now, canvas)
            if _passed(before, now, every.state):
                self.record.save(optimisation.state_dict(), self.frames)
            before = now

    def _keep(self, evaluation: int, canvas: Tensor) -> None:
        self.record.write_frame(evaluation, self.shown(canvas))
        self.frames.append(evaluation)

    def _finish(self) -> None:
        self.record.write(self.record.output, self.shown(self.optimisation.canvas.detach()))
        if self.record.animation is not None:
            self.record.write_animation(self.frames)
        small = {"optimiser": None, "known": None}
        self.record.save(self.optimisation.state_dict() | small, self.frames, finished=True)


def _passed(before: int, now: int, interval: int) -> bool:
    """Whether a multiple of the interval lies after ``before`` and not after ``now``."""
    return now // interval > before // interval
