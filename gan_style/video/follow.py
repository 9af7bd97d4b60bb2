"""From one result to the next: blending along the flow, scene cuts, and how far results flicker."""

from dataclasses import asdict, dataclass, field

import numpy as np

from gan_style.video.flow import Frame, flow, moved, trusted, warp_error
from gan_style.video.scenes import change


@dataclass
class Tally:
    """Sums that add up over parts of a video: pairs of frames measured, their warp errors, and cuts (frame numbers)."""

    pairs: int = 0
    source: float = 0.0
    result: float = 0.0
    cuts: list[int] = field(default_factory=list)

    def __add__(self, other: "Tally") -> "Tally":
        sums = (self.pairs + other.pairs, self.source + other.source, self.result + other.result)
        return Tally(*sums, [*self.cuts, *other.cuts])

    def means(self) -> tuple[float, float] | None:
        """The warp errors of the source and of the result, root mean square in [0, 1]; None where no pair counts."""
        return None if not self.pairs else ((self.source / self.pairs) ** 0.5, (self.result / self.pairs) ** 0.5)

    def as_plain(self) -> dict[str, object]:
        """JSON types."""
        return asdict(self)


@dataclass
class Follower:
    """Takes frames and their results one after the other.

    blend: share of the last result, moved along the flow, in the next one where the flow can be trusted, 0 to below 1;
    cut: change of colours from which on a new scene begins (scenes.change); measure: whether warp errors are wanted.
    """

    blend: float
    cut: float
    measure: bool
    last_source: Frame | None = None
    last_result: Frame | None = None
    tally: Tally = field(default_factory=Tally)

    def __call__(self, number: int, source: Frame, result: Frame) -> Frame:
        """The result to keep, blended where that is asked for. number: the frame's, for the list of cuts."""
        before, made = self.last_source, self.last_result
        if before is not None and made is not None:
            if change(source, before) >= self.cut:
                self.tally.cuts.append(number)
            elif self.blend or self.measure:
                result = self._along(source, before, result, made)
        self.last_source, self.last_result = source, result
        return result

    def _along(self, source: Frame, before: Frame, result: Frame, made: Frame) -> Frame:
        backward = flow(source, before)
        mask = trusted(backward, flow(before, source))
        if self.blend:
            share = self.blend * mask[..., None]
            mixed = result * (1.0 - share) + moved(made, backward) * share
            result = mixed.round().clip(0, 255).astype(np.uint8)
        if self.measure:
            errors = [warp_error(*pair, backward, mask) for pair in ((source, before), (result, made))]
            if errors[0] is not None and errors[1] is not None:
                self.tally += Tally(1, errors[0], errors[1])
        return result
