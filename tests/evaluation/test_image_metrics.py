"""What a result keeps: SSIM against scikit-image, colours against skimage.color, and what must fall with damage."""

import pytest
import torch
from skimage.color import rgb2lab
from skimage.metrics import structural_similarity
from torch.nn import functional as F

from gan_style.demo import demo_pictures
from gan_style.evaluation.metrics import colour_drift, ssim, structure
from gan_style.functional import rgb_to_lab, rgb_to_yuv
from gan_style.images.decode import decode, to_float


@pytest.fixture(scope="module")
def photo():
    return to_float(decode(demo_pictures("heldout")[0], short_side=160)[None])


def noised(photo, strength):
    noise = torch.randn(photo.shape, generator=torch.Generator().manual_seed(0))
    return (photo + strength * noise).clamp(-1, 1)


def blurred(photo, factor):
    small = F.avg_pool2d(photo, factor, ceil_mode=True)
    return F.interpolate(small, photo.shape[-2:], mode="bilinear")


class TestSsim:
    @pytest.mark.parametrize("strength", [0.02, 0.2, 1.0])
    def test_equals_scikit_image(self, photo, strength):
        made = noised(photo, strength)
        lumas = [rgb_to_yuv(x)[0, 0].double().numpy() for x in (made, photo)]
        wanted = structural_similarity(
            *lumas, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        assert ssim(made, photo).item() == pytest.approx(wanted, abs=1e-4)

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
        wanted = (0.0026 / (down**2 + right**2 + 0.0026)).mean()
        assert structure(torch.zeros_like(photo), photo).item() == pytest.approx(wanted.item(), abs=1e-5)


def test_structure_of_a_large_picture_is_the_mean_over_its_parts():
    """One that is measured in bands; its parts overlap by the two rows that gradients see."""
    pictures = torch.rand(2, 1, 3, 4202, 1000, generator=torch.Generator().manual_seed(0)) * 2 - 1
    parts = [slice(0, 1404), slice(1400, 2804), slice(2800, 4202)]
    counts = torch.tensor([(part.stop - part.start) // 2 - 2 for part in parts])
    values = torch.cat([structure(*pictures[..., part, :]) for part in parts])
    assert structure(*pictures).item() == pytest.approx(((values * counts).sum() / counts.sum()).item(), abs=1e-6)


@pytest.mark.parametrize("measure", [ssim, structure])
@pytest.mark.parametrize(("damage", "strengths"), [(noised, [0.05, 0.1, 0.2, 0.4]), (blurred, [2, 3, 5, 8])])
def test_damage_scores_worse_the_stronger_it_is(photo, measure, damage, strengths):
    scores = [measure(photo, photo).item(), *(measure(damage(photo, s), photo).item() for s in strengths)]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == len(scores)


class TestColour:
    def test_lab_equals_scikit_image(self):
        image = torch.rand(2, 3, 24, 20, generator=torch.Generator().manual_seed(1)) * 2 - 1
        image[:, :, :4] = -1.0 + 0.02 * image[:, :, :4].abs()  # the dark, linear part of both curves
        wanted = rgb2lab((image * 0.5 + 0.5).permute(0, 2, 3, 1).double().numpy())
        made = rgb_to_lab(image).permute(0, 2, 3, 1).double()
        assert (made - torch.from_numpy(wanted)).abs().max() < 2e-3

    def test_drift_of_mean_and_spread_of_flat_greys(self):
        """White is L = 100, black L = 0; a checkerboard of both has mean 50 and standard deviation 50."""
        white, black = torch.ones(1, 3, 8, 8), -torch.ones(1, 3, 8, 8)
        board = white.clone()
        board[..., ::2, ::2] = board[..., 1::2, 1::2] = -1.0
        assert [x.item() for x in colour_drift(white, black)] == pytest.approx([100.0, 0.0], abs=0.02)
        assert [x.item() for x in colour_drift(board, black)] == pytest.approx([50.0, 50.0], abs=0.02)
