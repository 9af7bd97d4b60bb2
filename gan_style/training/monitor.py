"""CollapseWarnings of a generator that has gone wrong, cheap enough for the training step."""

from torch import Tensor


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
