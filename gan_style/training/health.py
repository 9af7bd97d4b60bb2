"""A run's health: steps whose numbers are not finite, going back, diagnostics of a generator's collapse, warnings."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

_HALVES = ("generator", "discriminator")


class NonFiniteError(ArithmeticError):
    """A loss, a gradient or a weight is no longer a finite number, and going back did not help."""


def nonfinite_keys(values: Mapping[str, float]) -> list[str]:
    """Return the names of the numbers that are not finite."""
    return [name for name, value in values.items() if not math.isfinite(value)]


@dataclass
class Health:
    """Count skipped steps in a row and roll-backs, and say when it is time for either.

    patience: so many skipped steps in a row call for a roll-back; rollbacks: so many of them are tried, each with a
    learning rate lowered by ``factor``.
    """

    patience: int = 5
    rollbacks: int = 2
    factor: float = 0.5
    in_a_row: int = 0
    rolled_back: int = 0
    skipped: int = 0
    last: str = ""
    passing: set[str] = field(default_factory=set)

    def observe(self, step: int, values: Mapping[str, float]) -> bool:
        """Take in a step's numbers; whether it is time to go back.

        Numbers that are not finite although the updates were made trained nothing: they are noted in ``passing``. A
        step that float16's scale was too large for (on all ranks: a mean of 1) is no sign of illness.
        """
        searching = [half for half in _HALVES if values.get(f"{half}/searching") == 1.0]
        excused = {f"{half}/{name}" for half in searching for name in ("gradient", "skipped")}
        relevant = {name: value for name, value in values.items() if name not in excused}
        keys = nonfinite_keys(relevant)
        updates = [values[f"{half}/skipped"] for half in _HALVES if f"{half}/skipped" in values]
        if updates and not any(updates):
            self.passing |= set(keys)
            keys = []
        if not any(relevant.get(f"{half}/skipped", 0.0) for half in _HALVES) and not keys:
            self.in_a_row = 0
            return False
        self.in_a_row += 1
        self.skipped += 1
        self.last = f"step {step}: not a finite number: {', '.join(keys) or 'a gradient'}"
        return self.in_a_row >= self.patience

    def roll_back(self) -> None:
        """Raise NonFiniteError, naming the last nonfinite_keys, where there have been enough of them."""
        if self.rolled_back >= self.rollbacks:
            tried = f" (after going back {self.rolled_back} times)" if self.rolled_back else ""
            raise NonFiniteError(self.last + tried)
        self.rolled_back += 1
        self.in_a_row = 0


@dataclass
class CollapseWarnings:
    """Warnings, by name, for what lasts ``patience`` measurements in a row."""

    patience: int = 3
    counts: dict[str, int] = field(default_factory=dict)

    def warnings(self, values: Mapping[str, float]) -> list[str]:
        """Describe what has now lasted, once, and again only after it was over."""
        warnings = []
        for name, (is_present, explanation) in _signs(values).items():
            self.counts[name] = self.counts.get(name, 0) + 1 if is_present else 0
            if self.counts[name] == self.patience:
                warnings.append(f"{name}: {explanation}")
        return warnings


def _signs(values: Mapping[str, float]) -> dict[str, tuple[bool, str]]:
    """Return {name: (whether it is so, what it means)} for what was measured."""
    margin = values.get("discriminator/real", 0.0) - values.get("discriminator/fake", 0.0)
    signs = {
        "the discriminator wins": (
            margin > 6.0,
            f"it tells style from results by a margin of {margin:.3g}; a smaller learning rate of D, "
            f"loss.adversarial.r1=1 or loss.adversarial.augment=[translation,colour] hold it back",
        ),
        "the discriminator loses": (
            "discriminator/real" in values and margin < -0.5,
            f"it takes results for style pictures (margin {margin:.3g}); a larger learning rate of D helps",
        ),
    }
    if "health/saturated" in values:
        saturated, spread, variety = (values[f"health/{name}"] for name in ("saturated", "spread", "variety"))
        signs["saturation"] = (saturated > 0.5, f"{saturated:.0%} of the results' values lie at the ends of the range")
        signs["colour collapse"] = (
            spread < 0.05,
            f"the results' colours hardly vary (standard deviation {spread:.3g})",
        )
        signs["identical results"] = (variety < 0.05, f"results differ {variety:.3g} times as much as their photos do")
    return signs


def collapse_diagnostics(fake: Tensor, content: Tensor) -> dict[str, Tensor]:
    """Measure results beside their photos, (N, 3, H, W) in [-1, 1]: scalars on the device.

    saturated: the share of values within 0.02 of the range's ends; spread: the mean standard deviation of a result's
    values; variety: how far results differ from their batch's mean result, relative to the photos (1 for a single one).
    """
    fake, content = fake.float(), content.float()
    diagnostics = {
        "saturated": (fake.abs() > 0.98).float().mean(),
        "spread": fake.flatten(1).std(dim=1).mean(),
        "variety": fake.new_ones(()),
    }
    if len(fake) > 1:
        diagnostics["variety"] = _apart(fake) / _apart(content).clamp_min(1e-6)
    return diagnostics


def _apart(images: Tensor) -> Tensor:
    return (images - images.mean(dim=0, keepdim=True)).square().mean().sqrt()
