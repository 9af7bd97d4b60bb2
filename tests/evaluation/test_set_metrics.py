"""Kernel and Frechet distance against torchmetrics and closed forms; the deception rate on sets that differ."""

import pytest
import torch
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from gan_style.evaluation.metrics import Moments, StyleClassifier, embedding, frechet_distance, kernel_distance
from gan_style.functional import channel_moments


class Flat(nn.Module):
    """torchmetrics' feature extractor: pictures that are embeddings already."""

    num_features = 6

    def forward(self, pictures):
        return pictures.flatten(1)


def rows(count, seed=0, shift=0.0, width=6):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) * (1 + shift) + shift


def as_pictures(x):
    return x[:, :, None, None].expand(-1, -1, 1, 1).reshape(len(x), 3, 1, -1)


class TestKernelDistance:
    def test_equals_torchmetrics(self):
        x, y = rows(40, 1, 0.3), rows(40, 2)
        oracle = KernelInceptionDistance(feature=Flat(), subsets=1, subset_size=40)
        oracle.update(as_pictures(y), real=True)
        oracle.update(as_pictures(x), real=False)
        assert kernel_distance(x, y).value == pytest.approx(oracle.compute()[0].item(), abs=1e-4, rel=1e-4)

    def test_error_equals_leaving_each_picture_out_by_hand(self):
        x, y = rows(7, 1, 0.3), rows(5, 2)
        without_x = torch.tensor([kernel_distance(torch.cat([x[:i], x[i + 1 :]]), y).value for i in range(7)])
        without_y = torch.tensor([kernel_distance(x, torch.cat([y[:i], y[i + 1 :]])).value for i in range(5)])
        wanted = (
            6 / 7 * without_x.double().var(correction=0) * 7 + 4 / 5 * without_y.double().var(correction=0) * 5
        ) ** 0.5
        assert kernel_distance(x, y).error == pytest.approx(wanted.item(), rel=1e-4)

    def test_is_unbiased(self):
        """Two samples of one distribution: the mean over trials is 0."""
        values = torch.tensor([kernel_distance(rows(30, 2 * i), rows(30, 2 * i + 1)).value for i in range(120)])
        assert abs(values.mean()) < 3 * values.std() / 120**0.5

    def test_error_is_the_spread_over_trials(self):
        """Of sets that differ; of equal ones the jackknife is known to say too much."""
        found = [
            kernel_distance(rows(30, 2 * i, width=2) * 0.3 + 1.0, rows(30, 2 * i + 1, width=2)) for i in range(150)
        ]
        spread = torch.tensor([one.value for one in found]).std().item()
        assert sum(one.error for one in found) / len(found) == pytest.approx(spread, rel=0.2)

    def test_says_how_many_pictures_it_needs(self):
        with pytest.raises(ValueError, match="at least 3 pictures in each set; there are 5 and 2"):
            kernel_distance(rows(5), rows(2))


class TestFrechetDistance:
    def test_equals_torchmetrics(self):
        x, y = rows(50, 1, 0.3), rows(40, 2)
        oracle = FrechetInceptionDistance(feature=Flat(), input_img_size=(3, 1, 2))
        oracle.update(as_pictures(y), real=True)
        oracle.update(as_pictures(x), real=False)
        assert frechet_distance(Moments.of(x), Moments.of(y)).value == pytest.approx(
            oracle.compute().item(), abs=1e-4, rel=1e-4
        )

    def test_of_gaussians_with_diagonal_covariance_is_the_closed_form(self):
        """|m1 - m2|^2 + sum (s1 - s2)^2; +-1 rows have an exact mean and covariance."""
        corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)
        scale = (8 / 7) ** 0.5  # of the unbiased standard deviation
        x, y = Moments.of(corners * 2 + 1), Moments.of(corners * 0.5)
        assert frechet_distance(x, y).value == pytest.approx(3 * 1.0 + 3 * (1.5 * scale) ** 2, rel=1e-9)

    def test_merged_parts_give_the_whole(self):
        x, y = rows(31, 1), Moments.of(rows(20, 2, 0.5))
        parts = Moments.of(x[:7]).merged(Moments.of(x[7:]))
        assert frechet_distance(parts, y).value == pytest.approx(frechet_distance(Moments.of(x), y).value, rel=1e-10)

    def test_fewer_pictures_than_dimensions_stay_finite(self):
        x = Moments.of(rows(4, width=16))
        assert frechet_distance(x, x).value == pytest.approx(0.0, abs=1e-6)
        with pytest.raises(ValueError, match="at least 2 pictures"):
            frechet_distance(x, Moments.of(rows(1, width=16)))


def test_embedding_holds_each_channels_mean_and_deviation(noise):
    features = {"a": noise(2, 4, 5, 6), "b": noise(2, 3, 2, 2)}
    found = embedding(features)
    assert found.shape == (2, 14)
    assert torch.equal(found[1], torch.cat([channel_moments(f)[1].flatten() for f in features.values()]))


class TestStyleClassifier:
    def test_tells_apart_what_differs_and_does_not_what_does_not(self):
        photos, styles = rows(60, 1), rows(30, 2) + 4.0
        classifier = StyleClassifier.trained(photos, styles)
        assert classifier.rate(rows(100, 3)) < 0.05
        assert classifier.rate(rows(100, 4) + 4.0) > 0.95
        same = StyleClassifier.trained(rows(300, 5), rows(300, 6))
        assert same.rate(rows(500, 7)) == pytest.approx(0.5, abs=0.2)

    def test_both_kinds_count_equally_whatever_their_number(self):
        classifier = StyleClassifier.trained(rows(400, 1, width=1), rows(20, 2, width=1) + 2.0)
        boundary = (-classifier.bias / classifier.weight * classifier.spread + classifier.mean).item()
        assert boundary == pytest.approx(1.0, abs=0.35)

    def test_finds_the_minimum_of_its_loss(self):
        photos, styles = rows(40, 1), rows(40, 2) + 0.5
        found = StyleClassifier.trained(photos, styles, decay=0.1)
        x = (torch.cat([photos, styles]).double() - found.mean) / found.spread
        truth = torch.cat([torch.zeros(40), torch.ones(40)]).double()
        residual = torch.sigmoid(x @ found.weight + found.bias) - truth
        assert (x.T @ residual / 80 + 0.1 * found.weight).abs().max() < 1e-5  # the gradient vanishes
        assert abs(residual.mean()) < 1e-5

    def test_says_how_many_it_needs(self):
        with pytest.raises(ValueError, match=r"at least 8 photos and 8 style pictures .* there are 10 and 7"):
            StyleClassifier.trained(rows(10), rows(7))
