"""What ``gan-style evaluate`` has left: numbers of models, and with what and on what they were measured."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gan_style.metrics.evaluation import PHOTOS, STYLES

_OF_A_RULER = ("size", "layers", "perceptual", "inception_weights", "calibration_pictures")  # settings of evaluate


@dataclass(frozen=True)
class Evaluation:
    """numbers: {label: {metric: number}} of models; ruler: what they were measured with, and on what.

    places: {label: where the model was found}; steps: {label: after how many steps}. Both only where it says so.
    """

    numbers: dict[str, dict[str, float]] = field(default_factory=dict)
    ruler: str = ""
    places: dict[str, Path] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)


def read_evaluation(path: Path) -> Evaluation:
    """ValueError for a file that is not what evaluate writes."""
    try:
        content = json.loads(path.read_bytes())
        table, settings, models = content["metrics"], content.get("settings", {}), content.get("models", {})
        count: Callable[[Any], Any] = len if "content" in content else sorted  # those of before have but their names
        read = {kind: count(content.get("pictures", {}).get(kind, {})) for kind in (PHOTOS, STYLES)}
        on = [
            {name: settings.get(name) for name in _OF_A_RULER},
            read,
            content.get("content"),
            content.get("references"),
        ]
        return Evaluation(
            numbers={str(label): _numbers(found) for label, found in table.items() if label not in (PHOTOS, STYLES)},
            ruler=json.dumps(on, sort_keys=True),
            places={str(label): Path(model["place"]) for label, model in models.items()},
            steps={str(label): model["step"] for label, model in models.items() if type(model["step"]) is int},
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{path} is not what gan-style evaluate writes, and passed over ({type(error).__name__})"
        ) from error


def _numbers(found: dict[str, Any]) -> dict[str, float]:
    return {name: one["value"] for name, one in found.items() if is_number(one["value"])}


def is_number(value: Any) -> bool:
    """A finite one, not too large to be worked with."""
    return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)
