"""gan_style/stylize/paint.py: strength, masks, colours, kinds of pixels; and what controls.py refuses."""

from pathlib import Path

import pytest
import torch
from generators import make_library, make_resnet
from torch import Tensor, nn

from gan_style.functional import lab_to_rgb, rgb_to_lab, rgb_to_yuv
from gan_style.images.decode import to_float
from gan_style.images.lossless import Original
from gan_style.stylize.controls import Controls, Regions, mask_of, mixture, regions_of
from gan_style.stylize.model import Model, find_references
from gan_style.stylize.paint import FramePainter, paint

CPU = torch.device("cpu")


class Negative(nn.Module):
    """A style whose result is known."""

    def forward(self, images: Tensor) -> Tensor:
        return -images


def picture(height: int = 40, width: int = 56, kind: torch.dtype = torch.uint8, seed: int = 0) -> Tensor:
    most = 256 if kind == torch.uint8 else 65536
    values = torch.randint(0, most, (3, height, width), generator=torch.Generator().manual_seed(seed))
    return values.to(kind)


@pytest.fixture(scope="module")
def negative() -> Model:
    return Model(Negative(), ("negative",), CPU)


@pytest.fixture(scope="module")
def library() -> Model:
    return Model(make_library("monet", "wave", seed=1).eval(), ("monet", "wave"), CPU)


def half(height: int, width: int, *, soft: int = 0) -> Tensor:
    """A mask of the left half, with an edge that is so many pixels wide."""
    ramp = (width / 2 - torch.arange(width) + 0.5) / max(1, soft) + 0.5
    return (ramp.clamp(0, 1) * 255).round().to(torch.uint8).expand(height, width).contiguous()


def level(image: Tensor) -> Tensor:
    return image.to(torch.int32)


# Strength


@pytest.mark.parametrize("kind", [torch.uint8, torch.uint16])
def test_strength_0_gives_the_picture_back_exactly(negative, library, kind):
    options = picture(kind=kind)
    for model, mix in ((negative, {"negative": 1.0}), (library, {"monet": 1.0})):
        assert torch.equal(paint(model, options, Controls(mix, strength=0.0)), options)


@pytest.mark.parametrize(("kind", "most"), [(torch.uint8, 255), (torch.uint16, 65535)])
def test_a_style_of_one_generator_is_blended_in_pixels(negative, kind, most):
    options = picture(kind=kind)
    result = paint(negative, options, Controls({"negative": 1.0}, strength=0.25))
    expected = 0.75 * level(options) + 0.25 * (most - level(options))
    assert result.dtype == kind
    assert (level(result) - expected).abs().max() <= 0.5 + 1e-3 * most / 255


def test_a_library_is_asked_for_its_styles_in_their_shares(library):
    options = picture()
    result = paint(library, options, Controls({"monet": 0.25, "wave": 0.75}, strength=0.8))
    with torch.no_grad():
        expected = library.generator(to_float(options[None]), torch.tensor([[0.2, 0.6]]))[0]
    assert (to_float(result) - expected).abs().max() <= 1.01 / 255


def test_floats_stay_floats(negative):
    options = to_float(picture())
    assert torch.equal(paint(negative, options, Controls({"negative": 1.0})), -options)


# Masks


@pytest.mark.parametrize("tile", ["off", 64])
@pytest.mark.parametrize("colours", ["style", "luminance", "lab"])
@pytest.mark.parametrize("kind", [torch.uint8, torch.uint16])
def test_outside_its_mask_a_picture_stays_exactly_as_it_is(library, tile, colours, kind):
    options, mask = picture(66, 120, kind), half(66, 120, soft=20)
    regions = regions_of({"": mask}, {"monet": 0.5, "wave": 0.5})
    result = paint(library, options, Controls({"monet": 0.5, "wave": 0.5}, 0.9, colours, tile), regions=regions)
    assert torch.equal(level(result)[:, mask == 0], level(options)[:, mask == 0])
    assert (level(result) - level(options))[:, mask == 255].abs().float().mean() > 1


@pytest.mark.parametrize("tile", ["off", 64])
def test_deep_inside_its_mask_a_library_gives_the_full_result(library, tile):
    options, left = picture(48, 300), half(48, 300)
    regions = regions_of({"monet": left, "wave": 255 - left}, {})
    result = paint(library, options, Controls({}, tile=tile), regions=regions)
    for name, place in (("monet", slice(0, 90)), ("wave", slice(210, 300))):
        full = paint(library, options, Controls({name: 1.0}))
        assert (level(result) - level(full))[..., place].abs().max() <= 1


@pytest.mark.parametrize(("soft", "stepwise"), [(1, True), (250, False)])
def test_a_soft_edge_has_no_step(library, soft, stepwise):
    """How far the result is from the photo falls over the mask's edge, at once only where the edge is hard."""
    options = picture(48, 300)
    result = paint(library, options, Controls({}), regions=regions_of({"monet": half(48, 300, soft=soft)}, {}))
    apart = (
        (level(result) - level(options)).abs().float().mean(dim=(0, 1)).unfold(0, 15, 15).mean(dim=1)
    )  # of 15 columns
    fall = (apart[:-1] - apart[1:]).max() / apart[0]
    assert apart[-1] == 0
    assert bool(fall > 0.8) is stepwise and (stepwise or fall < 0.5)


def test_a_mask_of_one_generator_blends_pixels(negative):
    options, mask = picture(40, 60), half(40, 60, soft=30)
    result = paint(negative, options, Controls({"negative": 1.0}), regions=regions_of({"": mask}, {"negative": 1.0}))
    share = mask.float() / 255
    expected = level(options) * (1 - share) + (255 - level(options)) * share
    assert (level(result) - expected).abs().max() <= 0.501


# Colours


def test_luminance_takes_luma_from_the_result_and_chroma_from_the_photo(negative):
    options = (picture() // 4 + 96).to(torch.uint8)  # no colour leaves the gamut
    result = paint(negative, options, Controls({"negative": 1.0}, colours="luminance"))
    luma, photo, negative_luma = rgb_to_yuv(to_float(result[None])), rgb_to_yuv(to_float(options[None])), 255 - options
    torch.testing.assert_close(luma[:, 1:], photo[:, 1:], rtol=0, atol=4e-3)
    torch.testing.assert_close(luma[:, :1], rgb_to_yuv(to_float(negative_luma[None]))[:, :1], rtol=0, atol=4e-3)


@pytest.mark.parametrize("tile", ["off", 64])
def test_lab_gives_the_result_the_photos_mean_and_deviation(tile):
    model = Model(make_resnet().eval(), ("one",), CPU)
    options = (picture(100, 90) // 4 + torch.tensor([120, 60, 90])[:, None, None]).to(torch.uint8)
    result, plain = (paint(model, options, Controls({"one": 1.0}, colours=c, tile=tile)) for c in ("lab", "style"))
    actual, photo, before = (rgb_to_lab(to_float(item[None])).flatten(2) for item in (result, options, plain))
    torch.testing.assert_close(actual.mean(dim=2), photo.mean(dim=2), rtol=0, atol=0.7)
    torch.testing.assert_close(actual.std(dim=2), photo.std(dim=2), rtol=0.1, atol=0.3)
    assert (before.mean(dim=2) - photo.mean(dim=2)).abs().max() > 5  # there was something to do


@pytest.mark.parametrize("hidden", [0, 255])
def test_lab_looks_at_what_can_be_seen_alone(hidden):
    model = Model(make_resnet().eval(), ("one",), CPU)
    options = (picture(64, 90) // 4 + torch.tensor([120, 60, 90])[:, None, None]).to(torch.uint8)
    alpha = torch.full((1, 64, 90), 255, dtype=torch.uint8)
    alpha[..., 40:] = 0
    options[..., 40:] = torch.tensor([hidden, 255, hidden], dtype=torch.uint8)[:, None, None]
    result = paint(model, options, Controls({"one": 1.0}, colours="lab"), alpha=alpha)
    actual, photo = (rgb_to_lab(to_float(item[None, ..., :40])).flatten(2) for item in (result, options))
    torch.testing.assert_close(actual.mean(dim=2), photo.mean(dim=2), rtol=0, atol=0.7)
    nothing = paint(model, options, Controls({"one": 1.0}, colours="lab"), alpha=torch.zeros_like(alpha))
    assert nothing.shape == options.shape


# Kinds of picture


def test_what_is_transparent_is_white_to_the_network(negative):
    options, alpha = picture(), torch.full((1, 40, 56), 255, dtype=torch.uint8)
    alpha[..., :10] = 0
    result = paint(negative, options, Controls({"negative": 1.0}), alpha=alpha)
    assert result[..., :10].max() == 0  # the negative of white
    assert torch.equal(result[..., 10:], 255 - options[..., 10:])


def test_a_network_that_is_not_finite_is_no_result(negative):
    class Broken(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images / 0

    with pytest.raises(ArithmeticError, match="not a finite number"):
        paint(Model(Broken(), ("broken",), CPU), picture(), Controls({"broken": 1.0}))


def test_tiles_of_a_generator_that_has_no_stages_are_refused(negative):
    with pytest.raises(ValueError, match=r"tile=64.*off"):
        paint(negative, picture(), Controls({"negative": 1.0}, tile=64))


def test_auto_takes_tiles_where_the_picture_is_large(monkeypatch):
    model = Model(make_resnet(width=2, blocks=0).eval(), ("one",), CPU)
    shapes: list[tuple[int, ...]] = []
    model.generator.encoder[0].register_forward_pre_hook(lambda _, options: shapes.append(tuple(options[0].shape[2:])))
    paint(model, picture(80, 150), Controls({"one": 1.0}))
    assert shapes == [(80, 152)]
    monkeypatch.setattr("gan_style.stylize.paint.LARGEST_WHOLE", 80 * 150 - 1)
    monkeypatch.setattr("gan_style.stylize.paint.AUTO_TILE", 64)
    paint(model, picture(80, 150), Controls({"one": 1.0}))
    assert max(height * width for height, width in shapes[1:]) < 80 * 152


# What is refused


KNOWN = ("monet", "wave", "cathedral")
MIXTURES = {
    "none of several": (None, r"style=\.\.\. is missing; known are monet, wave, cathedral"),
    "unknown": ("money", r"style=money: there is no such style \(did you mean monet\?\); known are monet, wave"),
    "unknown in a mixture": ({"monet": 0.5, "waves": 0.5}, r"style=waves.*did you mean wave\?"),
    "too much": ({"monet": 0.6, "wave": 0.6}, r"style=\{monet: 0\.6, wave: 0\.6\}: the weights sum to 1\.2"),
    "too little": ({"monet": 0.5}, r"they have to sum to 1"),
    "negative": ({"monet": 1.5, "wave": -0.5}, r"style\.wave=-0\.5; allowed are numbers from 0"),
    "no number": ({"monet": "much"}, r"style\.monet=much"),
    "not finite": ({"monet": float("nan")}, r"style\.monet=nan"),
}


@pytest.mark.parametrize("case", MIXTURES)
def test_bad_mixtures_are_refused_in_the_users_words(case):
    style, message = MIXTURES[case]
    with pytest.raises(ValueError, match=message):
        mixture(style, KNOWN)


def test_mixtures_are_normalised():
    assert mixture("wave", KNOWN) == {"wave": 1.0}
    assert mixture(None, ("wave",)) == {"wave": 1.0}
    assert mixture({"monet": 0.33, "wave": 0.67, "cathedral": 0}, KNOWN) == pytest.approx({"monet": 0.33, "wave": 0.67})
    assert sum(mixture({"monet": 0.333, "wave": 0.333, "cathedral": 0.333}, KNOWN).values()) == pytest.approx(1.0)
    assert mixture(None, KNOWN, masked=True) == {}
    with pytest.raises(ValueError, match="leave style out"):
        mixture("wave", KNOWN, masked=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strength": 1.1}, "strength=1.1; allowed are 0"),
        ({"strength": float("nan")}, "strength=nan"),
        ({"strength": -0.1}, "strength=-0.1"),
        ({"colours": "sepia"}, "colours=sepia; allowed are style, luminance, lab"),
        ({"tile": "big"}, "tile=big; allowed are auto, off"),
        ({"tile": 8}, "tile=8; .*from 64"),
    ],
)
def test_bad_controls_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Controls({"monet": 1.0}, **arguments)


def test_overlapping_masks_are_refused_and_rounding_is_not():
    soft = half(30, 40, soft=9)
    regions_of({"monet": soft, "wave": 255 - soft}, {})
    regions_of({"monet": soft, "wave": (256 - soft.int()).clamp(max=255).to(torch.uint8)}, {})
    with pytest.raises(ValueError, match=r"mask=\{monet, wave\}: the masks overlap"):
        regions_of({"monet": soft, "wave": 245 - (soft // 2)}, {})


def test_masks_of_another_size_are_refused(negative):
    regions = Regions([{"negative": 1.0}], half(30, 40)[None])
    with pytest.raises(ValueError, match=r"mask: its size is 40 x 30 pixels, but the picture's is 56 x 40"):
        paint(negative, picture(), Controls({"negative": 1.0}), regions=regions)
    with pytest.raises(ValueError, match=r"mask\.monet 40 x 30, mask\.wave 41 x 30"):
        regions_of({"monet": half(30, 40), "wave": half(30, 41)}, {})


def test_a_mask_is_grey_and_what_is_transparent_in_it_is_black():
    grey = half(20, 30)
    assert torch.equal(mask_of(Original(grey.expand(3, 20, 30)), "mask"), grey)
    deep = (grey.to(torch.int32) * 257).to(torch.uint16)
    assert torch.equal(mask_of(Original(deep.expand(3, 20, 30)), "mask"), grey)
    white = torch.full((3, 20, 30), 255, dtype=torch.uint8)
    assert torch.equal(mask_of(Original(white, grey[None]), "mask"), grey)
    with pytest.raises(ValueError, match="mask: it has colours"):
        mask_of(Original(picture(20, 30)), "mask")


@pytest.mark.parametrize("kind", [torch.uint8, torch.uint16])
def test_a_mask_of_0_and_1_is_one_of_black_and_white(kind):
    grey = half(20, 30)
    with pytest.warns(UserWarning, match="0 and 1"):
        assert torch.equal(mask_of(Original((grey > 0).to(kind).expand(3, 20, 30)), "mask"), grey)


def test_a_mask_of_16_bits_with_values_of_8_is_read_as_one_of_8():
    grey = torch.arange(256, dtype=torch.uint8).view(16, 16)
    with pytest.warns(UserWarning, match="at most 255"):
        assert torch.equal(mask_of(Original(grey.to(torch.uint16).expand(3, 16, 16)), "mask"), grey)


@pytest.mark.parametrize("value", [0, 3])
def test_a_mask_that_is_black_all_over_or_nearly_is_warned_of(value):
    with pytest.warns(UserWarning, match=f"brightest value is {value} of 255"):
        mask_of(Original(torch.full((3, 20, 30), value, dtype=torch.uint8)), "mask")


def test_lab_and_back(noise):
    images = noise(1, 3, 20, 20)
    torch.testing.assert_close(lab_to_rgb(rgb_to_lab(images)), images, rtol=0, atol=2e-3)


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_a_name_is_the_files_and_where_it_comes_again_its_folders_too(tmp_path):
    folder = touch(tmp_path / "paintings", "monet/1.jpg", "munch/1.jpg", "munch/scream.png")
    actual = {name: path.relative_to(folder).as_posix() for name, path in find_references(str(folder)).items()}
    assert actual == {"monet_1": "monet/1.jpg", "munch_1": "munch/1.jpg", "scream": "munch/scream.png"}


def test_two_of_one_name_beside_each_other_are_refused(tmp_path):
    folder = touch(tmp_path, "a.jpg", "a.png")
    with pytest.raises(ValueError, match="reference"):
        find_references(str(folder))
    assert list(find_references([str(folder / "a.jpg"), str(folder / "a.jpg")])) == ["a"]


@pytest.mark.parametrize("generator", [make_resnet(), make_library("a", "b")], ids=["one style", "library"])
@pytest.mark.parametrize("colours", ["style", "luminance"])
@pytest.mark.parametrize("strength", [0.0, 0.4, 1.0])
def test_a_batch_of_frames_is_its_frames(generator, colours, strength):
    styles = tuple(getattr(generator, "styles", ("only",)))
    model = Model(generator.eval(), styles, CPU)
    controls = Controls({styles[0]: 1.0}, strength, colours)
    frames = torch.randint(0, 256, (3, 3, 20, 28), dtype=torch.uint8)
    result = FramePainter(model, controls)(frames)
    single = torch.stack([paint(model, frame, controls) for frame in frames])
    assert result.dtype == torch.uint8 and result.shape == frames.shape
    assert (result.int() - single.int()).abs().max() <= 1
    assert torch.equal(result, frames) is (strength == 0)


def test_numbers_that_are_not_finite_stop_it():
    generator = make_resnet(width=2, blocks=0)
    torch.nn.init.constant_(generator.decoder[-1].bias, float("nan"))
    painter = FramePainter(Model(generator, ("only",), torch.device("cpu")), Controls({"only": 1.0}))
    with pytest.raises(ArithmeticError, match="not a finite number"):
        painter(torch.zeros(2, 3, 16, 16, dtype=torch.uint8))
