"""CollapseWarnings of a generator that has gone wrong, at pictures where they can be told by hand."""

import pytest
import torch

from gan_style.training.health import collapse_diagnostics


def signs(fake: torch.Tensor, content: torch.Tensor) -> dict[str, float]:
    return {name: value.item() for name, value in collapse_diagnostics(fake, content).items()}


def test_of_results_that_are_their_photos_nothing_is_wrong(noise):
    photos = noise(4, 3, 16, 16) * 0.9
    found = signs(photos, photos)
    assert found["saturated"] == 0.0
    assert found["spread"] == pytest.approx(0.9 / 3**0.5, rel=0.05)  # of a uniform distribution
    assert found["variety"] == pytest.approx(1.0)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_saturated_is_the_share_of_values_at_the_ends(share):
    fake = torch.zeros(2, 3, 4, 8)
    fake[..., : int(8 * share)] = torch.tensor([1.0, -0.99]).view(2, 1, 1, 1)
    assert signs(fake, fake)["saturated"] == pytest.approx(share)


def test_spread_is_of_each_result_and_not_between_them():
    """Two plain pictures, black and white: each has collapsed."""
    fake = torch.stack([torch.full((3, 8, 8), -1.0), torch.full((3, 8, 8), 1.0)])
    assert signs(fake, fake)["spread"] == 0.0


def test_variety_is_zero_of_identical_results_and_half_of_results_half_as_different(noise):
    photos = noise(3, 3, 8, 8)
    assert signs(noise(1, 3, 8, 8, seed=1).expand(3, 3, 8, 8), photos)["variety"] == pytest.approx(0.0, abs=1e-6)
    assert signs(photos * 0.5 + 0.3, photos)["variety"] == pytest.approx(0.5)


def test_of_a_single_picture_variety_says_nothing(noise):
    assert signs(noise(1, 3, 8, 8), noise(1, 3, 8, 8, seed=1))["variety"] == 1.0


def test_of_identical_photos_is_finite():
    photos = torch.zeros(2, 3, 8, 8)
    assert all(value == value and abs(value) < 1e7 for value in signs(photos, photos).values())
