"""The stability term: warps, what it measures, what it refuses."""

import pytest
import torch
from torch.nn import functional as F

from gan_style.losses.objective import check_terms
from gan_style.losses.stability import Stability, small_warp, stability_loss
from gan_style.losses.term import AuxiliaryPass, LossInputs

STILL = {"shift": 0.0, "turn": 0.0, "scale": 0.0, "bend": 0.0}


def draws(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.fixture
def photos(noise):
    return F.interpolate(noise(2, 3, 6, 6), (32, 40), mode="bicubic").clamp(-1, 1)


def measured(term, photos, generator):
    perturbed = term.auxiliary_pass(photos, photos, lambda _: draws(1, 2))
    auxiliary = {"perturbed": AuxiliaryPass(generator(perturbed.images), perturbed.context)}
    return term(LossInputs(photos, photos, generator(photos), auxiliary=auxiliary))


class TestWarp:
    def test_without_movement_is_none(self, photos):
        warp = small_warp(photos, draws(1, 2), **STILL)
        torch.testing.assert_close(warp(photos), photos, rtol=0, atol=1e-5)
        assert warp.inside.all() and warp.inside.shape == (2, 1, 32, 40)

    def test_a_shift_takes_each_pixel_from_there(self, photos):
        """The picture moves by one draw, the same for all of its pixels, and less than a share of the shorter side."""
        warp = small_warp(photos, draws(1, 2), **(STILL | {"shift": 0.25}))
        still = small_warp(photos, draws(1, 2), **STILL)
        pixels = (warp.grid - still.grid) * torch.tensor([40, 32]) / 2
        assert (pixels - pixels[:, :1, :1]).abs().max() < 1e-4
        assert 0 < pixels.abs().max() <= 0.25 * 32
        outside = ~warp.inside.bool()
        assert outside.any() and torch.equal(outside[:, 0], (warp.grid.abs() > 1).any(dim=-1))

    @pytest.mark.parametrize("kind", ["shift", "turn", "scale", "bend"])
    def test_every_movement_moves(self, photos, kind):
        warp = small_warp(photos, draws(1, 2), **(STILL | {kind: 4.0 if kind == "turn" else 0.04}))
        still = small_warp(photos, draws(1, 2), **STILL)
        assert (warp.grid - still.grid).abs().max() > 0.005

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_positions_are_exact_whatever_the_precision(self, dtype):
        photos = torch.zeros(1, 3, 256, 256)
        arguments = {"shift": 0.03, "turn": 3.0, "scale": 0.03, "bend": 0.005}
        expected = small_warp(photos, draws(1), **arguments)
        with torch.autocast("cpu", dtype):
            actual = small_warp(photos, draws(1), **arguments)
        assert actual.grid.dtype == torch.float32 and torch.equal(actual.grid, expected.grid)

    def test_a_sample_s_draws_are_its_own(self, photos):
        both = small_warp(photos, draws(1, 2), shift=0.1, turn=5.0, scale=0.1, bend=0.02)
        second = small_warp(photos[1:], draws(2), shift=0.1, turn=5.0, scale=0.1, bend=0.02)
        assert torch.equal(both.grid[1:], second.grid)
        assert not torch.equal(both.grid[0], both.grid[1])


class TestTerm:
    def test_is_zero_for_a_generator_that_moves_along(self, photos):
        """Identity and negation commute with every warp; clamping aside, which bicubic overshoot would meet."""
        for generator in (lambda x: x, torch.neg):
            term = Stability(weight=1.0, noise=0.0)
            assert measured(term, photos * 0.5, generator) < 1e-10

    def test_of_noise_alone_is_its_variance(self, photos):
        term = Stability(weight=1.0, noise=0.1, **STILL)
        assert measured(term, photos * 0.2, lambda x: x).item() == pytest.approx(0.1**2, rel=0.05)

    def test_is_positive_for_one_that_stays_behind(self, photos):
        pattern = torch.linspace(-1, 1, 40).expand(2, 3, 32, 40)
        assert measured(Stability(weight=1.0, noise=0.0), photos, lambda x: x * pattern) > 1e-4

    def test_counts_only_what_was_inside(self, noise):
        perturbed, moved = noise(2, 3, 4, 4), noise(2, 3, 4, 4, seed=1)
        inside = torch.zeros(2, 1, 4, 4)
        inside[0, :, 1, 2] = inside[1, :, :2] = 1
        squares = (perturbed - moved).square().mean(dim=1)
        expected = (squares[0, 1, 2] + squares[1, :2].mean()) / 2
        torch.testing.assert_close(stability_loss(perturbed, moved, inside), expected)
        assert stability_loss(perturbed, moved, inside * 0) == 0

    def test_teaches_both_the_result_and_the_moved_one(self, photos):
        fake, result = photos.clone().requires_grad_(), photos.flip(-1).clone().requires_grad_()
        perturbed = Stability(weight=1.0).auxiliary_pass(photos, photos, lambda _: draws(1, 2))
        auxiliary = {"perturbed": AuxiliaryPass(result, perturbed.context)}
        term = Stability(weight=1.0)(LossInputs(photos, photos, fake, auxiliary=auxiliary))
        assert all(gradient.norm() > 0 for gradient in torch.autograd.grad(term, [fake, result]))

    @pytest.mark.parametrize("option", ["shift", "turn", "scale", "bend", "noise"])
    @pytest.mark.parametrize("value", [-0.1, 90.0, float("nan")])
    def test_refuses_what_is_no_small_movement(self, option, value):
        with pytest.raises(ValueError, match=rf"loss\.stability\.{option}=.*allowed"):
            Stability(weight=1.0, **{option: value})

    def test_stands_once_in_an_objective(self):
        with pytest.raises(ValueError, match=r"loss\.again: .*loss\.stability"):
            check_terms({"stability": Stability(weight=1.0), "again": Stability(weight=1.0)})
