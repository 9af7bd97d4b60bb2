"""gan_style/optimise/regions.py: style by region (Gatys et al. 2017, section 4)."""

import numpy as np
import pytest
import torch
from PIL import Image

from gan_style.optimise.regions import clustered_regions, read_regions


def landscape(sky: tuple[float, float, float], seed: int, sky_rows: int) -> torch.Tensor:
    """A plain sky above noisy ground, (1, 3, 64, 96)."""
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(seed)) * 1.2 - 1.0
    image[:, :, :sky_rows] = torch.tensor(sky).view(1, 3, 1, 1)
    return image


def sides(image: torch.Tensor) -> torch.Tensor:
    """The same lying on its side, sky to the left."""
    return image.transpose(2, 3).contiguous()


@pytest.mark.parametrize("turn", [lambda image: image, sides])
def test_sky_is_matched_with_sky_of_another_colour_by_height_and_features(turn):
    photo = turn(landscape((0.3, 0.6, 1.0), 0, 32))
    paintings = [turn(landscape((0.9, 0.8, 0.2), 1, 40)), turn(landscape((0.9, 0.8, 0.2), 1, 40))]
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
