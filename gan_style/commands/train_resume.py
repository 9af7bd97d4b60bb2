"""What a training run goes on from: the checkpoint that its folder has, if it is of the same run."""

import warnings
from typing import Any

from gan_style.commands.train_parts import Setup
from gan_style.config import flat
from gan_style.losses.objective import Objective
from gan_style.training.sampling import composite_weights
from gan_style.training.state import TrainState

# What may change when a run goes on; anything else would make it another run.
MAY_CHANGE = (
    *("run.", "metrics.", "training.steps", "training.log_every", "training.sample_every", "training.checkpoint_every"),
    *("training.keep_checkpoints", "training.keep_every", "training.max_time", "training.accumulate"),
    "training.recompute",
    *("training.skip_patience", "training.rollbacks"),
    *("data.workers", "data.cache_mb", "data.max_unreadable", "data.sample_size"),
    *("tracking.", "runtime.", "dry_run"),
)


def saved_state(setup: Setup) -> dict[str, Any] | None:
    """The newest checkpoint, if there is one and it is of a run with the same settings."""
    found = setup.checkpoints.load_newest(warn=warnings.warn)
    if found is None:
        return None
    old, new = flat(found[1]["config"]), flat(setup.settings)
    keys = [key for key in {**old, **new} if not key.startswith(MAY_CHANGE)]
    differing = [f"{key}: {old.get(key)} there, {new.get(key)} here" for key in keys if old.get(key) != new.get(key)]
    there, here = (_style_names(one["data"]["style"]) for one in (found[1]["config"], setup.settings))
    if there != here and sorted(there) == sorted(here):  # their order is that of the generator's weights
        differing.append(f"order of data.style: {', '.join(there)} there, {', '.join(here)} here")
    if differing:
        listed = "\n  ".join(differing)
        other = "run.name" if setup.cfg.run.sweep is None else "run.sweep"
        raise ValueError(f"{setup.folder} holds a run with other settings; choose another {other}.\n  {listed}")
    return found[1]


def _style_names(spec: Any) -> list[str]:
    return [str(name) for name in spec] if isinstance(spec, dict) else []


def lowest_of(setup: Setup, saved: dict[str, Any] | None) -> float | None:
    """The run's lowest composite; None where it was of other metrics or of held-out pictures of another size."""
    if saved is None or "metrics" not in saved["config"]:
        return None
    return saved["lowest"] if chosen_by(saved["config"]) == chosen_by(setup.settings) else None


def chosen_by(settings: dict[str, Any]) -> tuple[Any, int]:
    """What the best checkpoint is chosen by: the weights, and the size of the held-out pictures."""
    metrics = settings["metrics"]
    return composite_weights(metrics["best"], metrics["names"]), settings["data"]["sample_size"]


def restore(setup: Setup, saved: dict[str, Any], state: TrainState, objective: Objective) -> None:
    try:
        state.load_state_dict(saved["state"])
        objective.load_state_dict(saved["objective"], setup.device)
    except (RuntimeError, KeyError, ValueError) as error:
        raise ValueError(f"the checkpoint in {setup.folder} is of another architecture: {error}") from error
    if setup.ranks.first:
        print(f"resuming {setup.folder} after step {state.step}")


def warn_of_changes(changed: set[str]) -> None:
    """Of the sets of pictures, since the run was last here."""
    what = "is not what this run was trained on before (pictures were added, removed or changed)"
    if "content" in changed:
        warnings.warn(
            f"data.content {what}: from here on others may be held out, and the rest come in another order",
            stacklevel=2,
        )
    if "style" in changed:
        warnings.warn(
            f"data.style {what}: the discriminator is shown the new ones, while targets of the style loss that were "
            f"computed at the start stay what they were",
            stacklevel=2,
        )
