"""gan_style/optimise/regions.py: style by region (Gatys et al. 2017, section 4)."""

import numpy as np
import pytest
import torch
from PIL import Image

from gan_style.functional import by_region, gram_matrix
from gan_style.optimise.regions import clustered_regions, guided, read_regions


def test_each_region_s_gram_matrix_is_that_of_its_features_weighted_by_area():
    torch.manual_seed(0)
    features = torch.randn(1, 5, 8, 12)
    masks = torch.zeros(2, 16, 24, dtype=torch.uint8)
    masks[0, :, :6], masks[1, :, 6:] = 255, 255
    regions = guided(masks, [masks], torch.device("cpu"))
    grams = gram_matrix(by_region(features, regions.content))
    for gram, part, share in zip(grams, (features[..., :3], features[..., 3:]), (0.25, 0.75), strict=True):
        assert torch.allclose(gram, gram_matrix(part)[0] * (2 * share) ** 0.5, atol=1e-5)
    assert torch.equal(regions.content, regions.styles[0])


def test_a_region_that_is_everything_changes_nothing_and_an_empty_one_has_no_weight():
    torch.manual_seed(0)
    features = torch.randn(1, 5, 8, 12)
    regions = guided(torch.stack([torch.ones(16, 24), torch.zeros(16, 24)]), [], torch.device("cpu"))
    grams = gram_matrix(by_region(features, regions.content))
    assert torch.allclose(grams[0], gram_matrix(features)[0] * 2**0.5, atol=1e-5)
    assert grams[1].abs().max() == 0


def scene(sky: tuple[float, float, float], seed: int, sky_rows: int) -> torch.Tensor:
    """A plain sky above noisy ground, (1, 3, 64, 96)."""
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(seed)) * 1.2 - 1.0
    image[:, :, :sky_rows] = torch.tensor(sky).view(1, 3, 1, 1)
    return image


def sides(image: torch.Tensor) -> torch.Tensor:
    """The same lying on its side, sky to the left."""
    return image.transpose(2, 3).contiguous()


@pytest.mark.parametrize("turn", [lambda image: image, sides])
def test_sky_is_matched_with_sky_of_another_colour_by_height_and_features(turn):
    photo = turn(scene((0.3, 0.6, 1.0), 0, 32))
    paintings = [turn(scene((0.9, 0.8, 0.2), 1, 40)), turn(scene((0.9, 0.8, 0.2), 1, 40))]
    if turn is sides:
        paintings[1] = paintings[1].flip(3)  # sky to the right
    regions = clustered_regions(photo, paintings, 2)
    is_sky = [(image.roll(1, 2) == image).all(dim=1) for image in (photo, *paintings)]
    skies = [
        int((planes * sky[:, None]).sum(dim=(0, 2, 3)).argmax())
        for planes, sky in zip((regions.content, *regions.styles), is_sky, strict=True)
    ]
    assert skies[0] == skies[1] == skies[2]


def test_masks_of_other_sizes_are_scaled_and_of_other_shapes_or_regions_refused(tmp_path):
    numbers = np.zeros((32, 48), np.uint8)
    numbers[:16] = 7
    Image.fromarray(numbers).save(tmp_path / "a.png")
    Image.fromarray(np.zeros((32, 48), np.uint8)).save(tmp_path / "lacking.png")
    Image.fromarray(numbers.T).save(tmp_path / "turned.png")
    image = torch.zeros(1, 3, 64, 96)
    regions = read_regions(image, [image], [tmp_path / "a.png"] * 2)
    assert torch.equal(regions.content[0, 1] > 0, torch.arange(64)[:, None].expand(64, 96) < 32)
    with pytest.raises(ValueError, match=r"lacking\.png: region 7"):
        read_regions(image, [image], [tmp_path / "a.png", tmp_path / "lacking.png"])
    with pytest.raises(ValueError, match="32 x 48 pixels"):
        read_regions(image, [image], [tmp_path / "a.png", tmp_path / "turned.png"])
