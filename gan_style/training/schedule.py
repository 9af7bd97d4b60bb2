"""Learning-rate schedules: pure functions of the step, so that nothing has to be saved and a longer run goes on."""

import math
from collections.abc import Callable
from dataclasses import dataclass


def constant(progress: float) -> float:
    """Stay at 1 throughout."""
    return 1.0


def linear(progress: float) -> float:
    """Fall from 1 at progress 0 to 0 at progress 1 (Zhu et al. 2017, CycleGAN, section 4)."""
    return 1.0 - progress


def cosine(progress: float) -> float:
    """Fall from 1 to 0 along half a cosine (Loshchilov and Hutter 2017, equation 5)."""
    return 0.5 * (1.0 + math.cos(math.pi * progress))


DECAYS: dict[str, Callable[[float], float]] = {"constant": constant, "linear": linear, "cosine": cosine}


@dataclass(frozen=True)
class Schedule:
    """The factor on the learning rates: 1 for the first ``hold`` (a share of all steps), then the decay to the end."""

    decay: str
    steps: int
    hold: float = 0.5

    def __post_init__(self) -> None:
        if self.decay not in DECAYS:
            raise ValueError(f"training.decay={self.decay}; allowed are {', '.join(DECAYS)}")
        if not 0.0 <= self.hold <= 1.0:
            raise ValueError(f"training.hold={self.hold}; allowed are 0 to 1, the share of steps before the decay")

    def __call__(self, step: int) -> float:
        """Return the factor for the step that follows ``step`` finished ones."""
        start = self.hold * self.steps
        return DECAYS[self.decay](max(0.0, step - start) / max(1.0, self.steps - start))
