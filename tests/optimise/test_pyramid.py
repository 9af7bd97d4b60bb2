"""gan_style/optimise/optimise.py: sizes from coarse to fine, evaluations shared out, pictures brought to size."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gan_style.optimise.optimise import covering, plan_levels, resized


def test_each_level_has_twice_the_sides_of_the_one_before_and_the_last_the_full_size():
    levels = plan_levels(96, 131, levels=3, steps=30)
    assert [(one.height, one.width) for one in levels] == [(24, 33), (48, 66), (96, 131)]
    assert [one.factor for one in levels] == [0.25, 0.5, 1.0]
    assert [one.evaluations for one in levels] == [10, 10, 10]


@given(steps=st.integers(4, 999), shares=st.lists(st.floats(0.5, 9), min_size=1, max_size=3))
def test_the_shares_of_the_levels_make_up_the_steps(steps, shares):
    levels = plan_levels(512, 512, levels=len(shares), steps=40 * steps, shares=shares)
    assert sum(one.evaluations for one in levels) == 40 * steps
    for level, share in zip(levels, shares, strict=True):
        assert abs(level.evaluations - 40 * steps * share / sum(shares)) <= 1


def test_a_level_without_evaluations_is_refused():
    with pytest.raises(ValueError, match=r"steps=2 .*levels=3"):
        plan_levels(512, 512, levels=3, steps=2)
    with pytest.raises(ValueError, match=r"shares=\[0, 1\]"):
        plan_levels(512, 512, levels=2, steps=100, shares=[0, 1])


def test_a_level_too_small_for_the_networks_is_refused_with_its_size():
    with pytest.raises(ValueError, match=r"200 x 60 pixels.*levels=3.*is 15"):
        plan_levels(60, 200, levels=3, steps=30)
    assert len(plan_levels(64, 200, levels=3, steps=30)) == 3


def test_resizing_to_the_same_size_changes_nothing_and_a_flat_picture_stays_flat():
    image = torch.rand(1, 3, 7, 9)
    assert resized(image, 7, 9) is image
    assert torch.allclose(resized(torch.full((1, 3, 20, 30), 0.3), 11, 13), torch.tensor(0.3), atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(10, 40), (40, 10), (25, 25)])
def test_covering_takes_the_middle_and_squashes_nothing(height, width):
    ramp = torch.linspace(-1, 1, 80).expand(1, 3, 60, 80)
    covered = covering(ramp, height, width)
    assert covered.shape == (1, 3, height, width)
    ratio = max(height / 60, width / 80)
    slope = (covered[0, 0, height // 2, width - 2] - covered[0, 0, height // 2, 1]) / (width - 3)
    assert slope.item() == pytest.approx(2 / 79 / ratio, rel=0.05)
    assert covered.mean().item() == pytest.approx(0.0, abs=0.05)
