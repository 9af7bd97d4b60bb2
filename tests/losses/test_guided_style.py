"""Style by region (Gatys et al. 2017, section 4): guided=true of style terms, against closed forms in float64."""

import pytest
import torch
from torch import Tensor

from gan_style.functional import by_region, gram_matrix
from gan_style.losses.objective import Objective, check_terms
from gan_style.losses.style import GatysStyle, GramStyle, MomentStyle, Style
from gan_style.losses.term import LossInputs
from gan_style.models.perceptual import compact

LAYERS = ["relu1_1", "relu2_1"]


def weighted_gram(features: Tensor, mask: Tensor) -> Tensor:
    """The mean of f f^T over positions, weighted by a mask (h, w), in float64: (C, C)."""
    weights = mask.double() / mask.double().sum()
    return torch.einsum("hw,chw,dhw->cd", weights, features.double(), features.double())


def two_regions(*, height: int = 24, width: int = 24, edge: int) -> Tensor:
    """A mask of the left columns and one of the others, (1, 2, H, W)."""
    left = (torch.arange(width) < edge).expand(height, width)
    return torch.stack([left, ~left])[None].float()


def objective_of(**terms: Style) -> Objective:
    """Over a small random network, without style targets."""
    torch.manual_seed(3)
    return Objective(terms, compact(layers=LAYERS, weights="random"))


def masks_of_styles(number: int, _: Tensor) -> Tensor:
    """Of two pictures, of 24 x 24 and 20 x 32; the second lacks the second region."""
    return two_regions(edge=8) if number == 0 else two_regions(height=32, width=20, edge=20)


class TestByRegion:
    def test_gram_matrices_are_means_over_the_mask(self, noise):
        features, masks = noise(2, 5, 8, 12), noise(2, 3, 8, 12, seed=1).abs()
        regions, areas = by_region(features, masks)
        grams = gram_matrix(regions).view(2, 3, 5, 5)
        for n in range(2):
            for r in range(3):
                expected = weighted_gram(features[n], masks[n, r])
                torch.testing.assert_close(grams[n, r].double(), expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(areas.view(2, 3), masks.mean(dim=(2, 3)))

    def test_an_empty_region_has_neither_features_nor_area(self, noise):
        regions, areas = by_region(noise(1, 5, 8, 12), torch.zeros(1, 1, 16, 24))
        assert not regions.any() and not areas.any()


class TestTerm:
    @pytest.mark.parametrize("kind", [GramStyle, GatysStyle])
    @pytest.mark.parametrize("relative", [False, True])
    def test_a_region_that_is_everything_changes_nothing(self, noise, kind, relative):
        settings = {"weight": 1.0, "layers": LAYERS, "relative": relative, "scales": [1.0, 0.5]}
        objective = objective_of(style=kind(**settings), guided=kind(**settings, guided=True))
        styles = list(enumerate([noise(1, 3, 24, 24, seed=5), noise(1, 3, 32, 20, seed=6)]))
        objective.set_style("mean", styles, masks=lambda _, picture: torch.ones_like(picture[:, :1]))
        inputs = LossInputs(noise(2, 3, 24, 24), noise(2, 3, 24, 24), noise(2, 3, 24, 24, seed=2))
        inputs.masks = torch.ones(2, 1, 24, 24)
        _, losses = objective.generator_loss(inputs, None, warming_up=False)
        torch.testing.assert_close(losses["guided"], losses["style"])

    @pytest.mark.parametrize("relative", [False, True])
    def test_is_the_sum_of_the_regions_distances_weighted_by_area(self, noise, relative):
        term = GramStyle(weight=1.0, layers=LAYERS, relative=relative, guided=True)
        objective = objective_of(guided=term)
        styles = [noise(1, 3, 24, 24, seed=5), noise(1, 3, 32, 20, seed=6)]
        objective.set_style("mean", enumerate(styles), masks=masks_of_styles)
        fake, masks = noise(2, 3, 24, 24, seed=2), torch.cat([two_regions(edge=6), two_regions(edge=16)])
        inputs = LossInputs(noise(2, 3, 24, 24), noise(2, 3, 24, 24), fake, masks=masks)
        _, losses = objective.generator_loss(inputs, None, warming_up=False)

        expected = 0.0
        for layer in LAYERS:
            every = [objective.perceptual(picture, [layer])[layer].double() for picture in (fake, *styles)]
            size = every[0].shape[-1]  # an edge at a multiple of 2 stays sharp at half the size
            small = torch.nn.functional.adaptive_avg_pool2d(masks, size).double()
            # Of the style set: sums over both pictures, each of which counts by the region's share of it.
            targets = []
            for r in range(2):
                grams, shares = [], []
                for number, features in enumerate(every[1:]):
                    mask = masks_of_styles(number, features)
                    mask = torch.nn.functional.adaptive_avg_pool2d(mask, features.shape[-2:])[0, r]
                    share = mask.double().mean()
                    shares.append(share)
                    grams.append(share * weighted_gram(features[0], mask) if share else torch.zeros(1).double())
                targets.append(sum(grams) / sum(shares))
            for n in range(2):
                for r in range(2):
                    gram, area = weighted_gram(every[0][n], small[n, r]), small[n, r].mean()
                    size = targets[r].square().mean() if relative else 1.0
                    expected += area * (gram - targets[r]).square().mean() / size / 2 / len(LAYERS)
        assert losses["guided"].item() == pytest.approx(float(expected), rel=1e-4)

    def test_features_outside_a_region_get_no_gradient_from_it(self, noise):
        """The photo has the first region alone, in its left half: nothing is asked of the right."""
        term = GramStyle(weight=1.0, layers=["relu1_1"], guided=True)
        objective = objective_of(guided=term)
        objective.set_style("mean", [(0, noise(1, 3, 24, 24, seed=5))], masks=masks_of_styles)
        features = objective.perceptual(noise(1, 3, 24, 24), ["relu1_1"])["relu1_1"].detach().requires_grad_()
        inputs = LossInputs(noise(1, 3, 24, 24), noise(1, 3, 24, 24), noise(1, 3, 24, 24))
        inputs.fake_features, inputs.style_targets = {"relu1_1": features}, objective.style_targets
        inputs.masks = two_regions(edge=12)
        inputs.masks[:, 1] = 0
        term(inputs).backward()
        assert features.grad[..., :12].any() and not features.grad[..., 12:].any()

    @pytest.mark.parametrize(
        "term",
        [
            MomentStyle(weight=1.0, layers=LAYERS, guided=True),
            GramStyle(weight=1.0, layers=LAYERS, guided=True, target="crop"),
        ],
    )
    def test_other_statistics_and_targets_are_refused(self, term):
        with pytest.raises(ValueError, match=r"loss\.style: guided=true"):
            check_terms({"style": term})
