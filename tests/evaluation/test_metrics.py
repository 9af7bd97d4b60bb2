"""Metrics of pairs beside scikit-image, and of sets (KID, Frechet, the deception rate) beside torchmetrics."""

import pytest
import torch
from skimage.color import rgb2lab
from skimage.metrics import structural_similarity
from torch import nn
from torch.nn import functional as F
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from gan_style.demo import demo_pictures
from gan_style.evaluation.metrics import (
    Moments,
    StyleClassifier,
    colour_drift,
    embedding,
    frechet_distance,
    kernel_distance,
    ssim,
    structure,
)
from gan_style.functional import channel_moments, rgb_to_lab, rgb_to_yuv
from gan_style.images.decode import decode, to_float


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
        expected = 6 * without_x.double().var(correction=0) + 4 * without_y.double().var(correction=0)
        assert kernel_distance(x, y).error == pytest.approx(expected.item() ** 0.5, rel=1e-4)

    def test_is_unbiased(self):
        """Two samples of one distribution: the mean over trials is 0."""
        values = torch.tensor([kernel_distance(rows(30, 2 * i), rows(30, 2 * i + 1)).value for i in range(120)])
        assert abs(values.mean()) < 3 * values.std() / 120**0.5

    def test_error_is_the_spread_over_trials(self):
        """Of sets that differ; of equal ones the jackknife is known to say too much."""
        pairs = ((rows(30, 2 * i, width=2) * 0.3 + 1.0, rows(30, 2 * i + 1, width=2)) for i in range(150))
        actual = [kernel_distance(*pair) for pair in pairs]
        spread = torch.tensor([item.value for item in actual]).std().item()
        assert sum(item.error for item in actual) / len(actual) == pytest.approx(spread, rel=0.2)

    def test_says_how_many_pictures_it_needs(self):
        with pytest.raises(ValueError, match="at least 3 pictures in each set; there are 5 and 2"):
            kernel_distance(rows(5), rows(2))


class TestFrechetDistance:
    def test_equals_torchmetrics(self):
        x, y = rows(50, 1, 0.3), rows(40, 2)
        oracle = FrechetInceptionDistance(feature=Flat(), input_img_size=(3, 1, 2))
        oracle.update(as_pictures(y), real=True)
        oracle.update(as_pictures(x), real=False)
        actual = frechet_distance(Moments.of(x), Moments.of(y)).value
        assert actual == pytest.approx(oracle.compute().item(), abs=1e-4, rel=1e-4)

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
    actual = embedding(features)
    assert actual.shape == (2, 14)
    assert torch.equal(actual[1], torch.cat([channel_moments(f)[1].flatten() for f in features.values()]))


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
        actual = StyleClassifier.trained(photos, styles, decay=0.1)
        x = (torch.cat([photos, styles]).double() - actual.mean) / actual.spread
        truth = torch.cat([torch.zeros(40), torch.ones(40)]).double()
        residual = torch.sigmoid(x @ actual.weight + actual.bias) - truth
        assert (x.T @ residual / 80 + 0.1 * actual.weight).abs().max() < 1e-5  # the gradient vanishes
        assert abs(residual.mean()) < 1e-5

    def test_says_how_many_it_needs(self):
        with pytest.raises(ValueError, match=r"at least 8 photos and 8 style pictures .* there are 10 and 7"):
            StyleClassifier.trained(rows(10), rows(7))


@pytest.fixture(scope="module")
def photo():
    return to_float(decode(demo_pictures("heldout")[0], short_side=160)[None])


def noised(photo, strength):
    noise = torch.randn(photo.shape, generator=torch.Generator().manual_seed(0))
    return (photo + strength * noise).clamp(-1, 1)


class TestSsim:
    @pytest.mark.parametrize("strength", [0.02, 0.2, 1.0])
    def test_equals_scikit_image(self, photo, strength):
        result = noised(photo, strength)
        lumas = [rgb_to_yuv(x)[0, 0].double().numpy() for x in (result, photo)]
        options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
        expected = structural_similarity(*lumas, data_range=1.0, **options)
        assert ssim(result, photo).item() == pytest.approx(expected, abs=1e-4)

    def test_is_one_for_the_same_picture_and_counts_each_sample_alone(self, photo):
        both = ssim(torch.cat([photo, noised(photo, 0.3)]), torch.cat([photo, photo]))
        assert both[0].item() == pytest.approx(1.0, abs=1e-6)
        assert both[1].item() == pytest.approx(ssim(noised(photo, 0.3), photo).item(), abs=1e-6)

    def test_says_so_when_sizes_differ_or_are_too_small(self, photo):
        with pytest.raises(ValueError, match=r"239 x 160 .* content of \d+ x 159|cannot be compared"):
            ssim(photo, photo[..., :-1, :])
        with pytest.raises(ValueError, match="8 x 8 pixels is too small; allowed are 11"):
            structure(photo[..., :8, :8], photo[..., :8, :8])


class TestStructure:
    def test_is_one_for_the_same_picture_and_for_another_brightness(self, photo):
        assert structure(photo, photo).item() == pytest.approx(1.0, abs=1e-6)
        dark = photo * 0.5 - 0.2
        assert structure(dark + 0.1, dark).item() == pytest.approx(1.0, abs=1e-5)

    def test_of_a_flat_result_is_what_the_formula_leaves(self, photo):
        """With m1 = 0: the mean of c / (m2^2 + c)."""
        luma = F.avg_pool2d(rgb_to_yuv(photo)[:, :1], 2)[0, 0].double()
        down = (luma[:-2] - luma[2:]).unfold(1, 3, 1).sum(-1) / 3
        right = (luma[:, :-2] - luma[:, 2:]).unfold(0, 3, 1).sum(-1) / 3
        expected = (0.0026 / (down**2 + right**2 + 0.0026)).mean()
        assert structure(torch.zeros_like(photo), photo).item() == pytest.approx(expected.item(), abs=1e-5)


class TestColour:
    def test_lab_equals_scikit_image(self):
        image = torch.rand(2, 3, 24, 20, generator=torch.Generator().manual_seed(1)) * 2 - 1
        image[:, :, :4] = -1.0 + 0.02 * image[:, :, :4].abs()  # the dark, linear part of both curves
        expected = rgb2lab((image * 0.5 + 0.5).permute(0, 2, 3, 1).double().numpy())
        result = rgb_to_lab(image).permute(0, 2, 3, 1).double()
        assert (result - torch.from_numpy(expected)).abs().max() < 2e-3

    def test_drift_of_mean_and_spread_of_flat_greys(self):
        """White is L = 100, black L = 0; a checkerboard of both has mean 50 and standard deviation 50."""
        white, black = torch.ones(1, 3, 8, 8), -torch.ones(1, 3, 8, 8)
        board = white.clone()
        board[..., ::2, ::2] = board[..., 1::2, 1::2] = -1.0
        assert [x.item() for x in colour_drift(white, black)] == pytest.approx([100.0, 0.0], abs=0.02)
        assert [x.item() for x in colour_drift(board, black)] == pytest.approx([50.0, 50.0], abs=0.02)


def test_structure_of_a_large_picture_is_the_mean_over_its_parts():
    """One that is measured in bands; its parts overlap by the two rows that gradients see."""
    pictures = torch.rand(2, 1, 3, 4202, 1000, generator=torch.Generator().manual_seed(0)) * 2 - 1
    parts = [slice(0, 1404), slice(1400, 2804), slice(2800, 4202)]
    counts = torch.tensor([(part.stop - part.start) // 2 - 2 for part in parts])
    values = torch.cat([structure(*pictures[..., part, :]) for part in parts])
    assert structure(*pictures).item() == pytest.approx(((values * counts).sum() / counts.sum()).item(), abs=1e-6)
