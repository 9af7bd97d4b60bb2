"""gan-style stylize, from the command line to the files that it writes."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from generators import make_library, make_resnet, write_file
from PIL import Image, ImageCms

from gan_style.images.lossless import Original, read_original, write_original
from gan_style.images.metadata import read_note


@pytest.fixture
def generator_file(tmp_path: Path) -> Path:
    objective = {"weights": {"style": 5.0}}
    return write_file(tmp_path / "generator.safetensors", make_resnet(), step=1, objective=objective)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos" / "cats").mkdir(parents=True)
    Image.effect_noise((33, 47), 60).convert("RGB").save(tmp_path / "photos" / "one.png")
    Image.effect_noise((50, 20), 60).convert("RGB").save(tmp_path / "photos" / "cats" / "two (2).jpg")
    return tmp_path / "photos"


@pytest.fixture
def stylize(gan_style, generator_file, photos, tmp_path):
    """stylize("name=value", ...): one.png to o.png, where the options do not say otherwise."""
    defaults = (f"checkpoint={generator_file}", f"input={photos / 'one.png'}", f"output={tmp_path / 'o.png'}")
    return lambda *options, status=0: gan_style("stylize", *defaults, *options, status=status)


def test_a_folders_tree_names_and_sizes_are_kept(stylize, photos, tmp_path):
    before = sorted(photos.rglob("*"))
    stylize(f"input={photos}", f"output={tmp_path / 'out'}")
    assert Image.open(tmp_path / "out" / "one.png").size == (33, 47)
    assert Image.open(tmp_path / "out" / "cats" / "two (2).jpg").size == (50, 20)
    assert sorted(photos.rglob("*")) == before


def test_a_picture_with_a_difficult_name_to_a_named_result(stylize, generator_file, photos, tmp_path):
    source, target = photos / "cats" / "two (2).jpg", tmp_path / "a b" / "result, new.png"
    stylize(f"checkpoint={generator_file.parent}", f"input={source}", f"output={target}")
    assert Image.open(target).size == (50, 20)


def test_an_unreadable_picture_is_named_the_others_are_done_and_the_status_tells(stylize, photos, tmp_path):
    (photos / "bad.jpg").write_text("no picture")
    outcome = stylize(f"input={photos}", f"output={tmp_path / 'out'}", status=3)
    assert "bad.jpg" in outcome.out and "1 of 3" in outcome.err
    assert len([path for path in (tmp_path / "out").rglob("*") if path.is_file()]) == 2


BAD_INPUT = {
    "checkpoint={tmp}/nowhere": "no such file or folder",
    "checkpoint={photos}": "is it a run's folder?",
    "checkpoint={tmp}/damaged.safetensors": "damaged",
    "input={tmp}/nothing": "no such file or folder",
    "output={photos}/one.png": "never written over",
    "input={photos} output={photos}/out": "lies inside",
    "output={file}/out": "cannot write",
}


@pytest.mark.parametrize("options", BAD_INPUT)
def test_bad_input_is_named_in_the_users_words(stylize, generator_file, photos, tmp_path, options):
    (tmp_path / "damaged.safetensors").write_bytes(generator_file.read_bytes()[:500])
    before = sorted(tmp_path.rglob("*"))
    filled = options.format(tmp=tmp_path, photos=photos, file=generator_file)
    assert BAD_INPUT[options] in stylize(*filled.split(), status=2).err
    assert sorted(tmp_path.rglob("*")) == before


# Controls


@pytest.fixture
def library_file(tmp_path: Path) -> Path:
    return write_file(tmp_path / "library.safetensors", make_library("monet", "wave"), step=1)


def masks_of(tmp_path: Path, width: int, height: int) -> tuple[Path, Path]:
    """A left and a right half."""
    left = np.zeros((height, width), np.uint8)
    left[:, : width // 2] = 255
    Image.fromarray(left).save(tmp_path / "left.png")
    Image.fromarray(255 - left).save(tmp_path / "right.png")
    return tmp_path / "left.png", tmp_path / "right.png"


def test_several_styles_in_several_places_with_a_sheet_and_a_note(stylize, library_file, photos, tmp_path):
    left, _ = masks_of(tmp_path, 33, 47)
    more = ("strength=0.8", "colours=luminance", "sheet=true")
    stylize(f"checkpoint={library_file}", f"mask={{wave: {left}}}", *more)
    before, after = (np.asarray(Image.open(path)) for path in (photos / "one.png", tmp_path / "o.png"))
    assert np.array_equal(before[:, 16:], after[:, 16:]) and not np.array_equal(before[:, :8], after[:, :8])
    assert Image.open(tmp_path / "o.before_after.jpg").size == (33 + 4 + 33, 47)
    note = read_note(tmp_path / "o.png")
    assert (note["style"], note["strength"], note["colours"]) == ("wave", 0.8, "luminance")


def test_a_mixture_on_a_folder_with_a_folder_of_masks_and_tiles(stylize, library_file, photos, tmp_path):
    for picture in ("one.png", "cats/two (2).jpg"):
        with Image.open(photos / picture) as opened:
            mask = tmp_path / "masks" / Path(picture).with_suffix(".png")
            mask.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", opened.size, 0 if picture == "one.png" else 255).save(mask)
    mixture = ("style={monet: 0.4, wave: 0.6}", f"mask={tmp_path / 'masks'}", "tile=64")
    stylize(f"checkpoint={library_file}", f"input={photos}", f"output={tmp_path / 'out'}", *mixture)
    assert np.array_equal(*(np.asarray(Image.open(folder / "one.png")) for folder in (photos, tmp_path / "out")))
    assert read_note(tmp_path / "out" / "cats" / "two (2).jpg")["style"] == {"monet": 0.4, "wave": 0.6}


def test_other_files_are_kept_and_results_of_the_same_command_made_anew(stylize, photos, tmp_path):
    """stylize input=p/new output=p, where p holds another picture of the same name."""
    target = tmp_path / "p" / "IMG_1.png"
    (tmp_path / "p" / "new").mkdir(parents=True)
    (photos / "one.png").rename(tmp_path / "p" / "new" / "IMG_1.png")
    Image.new("RGB", (9, 9), "red").save(target)
    other = target.read_bytes()
    arguments = (f"input={tmp_path / 'p' / 'new'}", f"output={tmp_path / 'p'}")
    outcome = stylize(*arguments, status=2)
    assert "overwrite=true" in outcome.err and "IMG_1.png" in outcome.err and target.read_bytes() == other
    stylize(*arguments, "overwrite=true")
    own = target.read_bytes()
    stylize(*arguments)
    assert own != other
    stylize(*arguments, "strength=0.5", status=2)
    assert target.read_bytes() == own


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif", ".heic"])
def test_every_kind_of_result_is_known_as_our_own(stylize, photos, tmp_path, suffix):
    output = f"output={tmp_path / f'o{suffix}'}"
    for _ in range(2):
        stylize(output)
    stylize(output, f"input={photos / 'cats' / 'two (2).jpg'}", status=2)


def test_a_sheet_that_is_there_already_is_kept(stylize, tmp_path):
    (tmp_path / "o.before_after.jpg").write_bytes(b"mine")
    stylize("sheet=true", status=2)
    assert (tmp_path / "o.before_after.jpg").read_bytes() == b"mine" and not (tmp_path / "o.png").exists()


def test_a_result_that_cannot_be_written_does_not_end_the_folder(stylize, photos, tmp_path):
    """Its name has the 255 bytes that a name may have, and that of its sheet has more."""
    (photos / "cats" / "two (2).jpg").rename(photos / f"{'n' * 251}.jpg")
    assert "nnn" in stylize(f"input={photos}", f"output={tmp_path / 'out'}", "sheet=true", status=3).out
    assert (tmp_path / "out" / "one.before_after.jpg").is_file() and (tmp_path / "out" / "one.png").is_file()


def test_a_name_that_begins_with_a_tilde_is_a_file(stylize, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(photos / "one.png", "~one.png")
    for name in ("~one.png", "./~one.png"):
        stylize(f"input={name}", "output=~o.png", "sheet=true")
    assert Path("~o.png").is_file() and Path("~o.before_after.jpg").is_file()


def test_what_a_kind_of_file_has_no_room_for_is_named_and_a_sheet_is_made_smaller(stylize, tmp_path):
    """A JPEG has 65,500 pixels a side at most, and a sheet two pictures beside each other."""
    (tmp_path / "p").mkdir()
    for name, width in (("wide.png", 66_000), ("small.png", 32)):
        Image.new("RGB", (width, 16), (200, 30, 30)).save(tmp_path / "p" / name)
    stylize("tile=4096", f"input={tmp_path / 'p'}", f"output={tmp_path / 'out'}", "sheet=true")
    with Image.open(tmp_path / "out" / "wide.before_after.jpg") as sheet, Image.open(tmp_path / "out/wide.png") as wide:
        assert sheet.width <= 65_500 and wide.size == (66_000, 16)
    outcome = stylize("tile=4096", f"input={tmp_path / 'p/wide.png'}", f"output={tmp_path / 'wide.jpg'}", status=3)
    assert "65500 pixels" in outcome.out and not (tmp_path / "wide.jpg").exists()


def test_alpha_and_16_bits_are_kept_or_named(stylize, tmp_path):
    planes = torch.randint(0, 65536, (4, 20, 30)).to(torch.uint16)
    with open(tmp_path / "a.png", "wb") as file:
        write_original(file, ".png", Original(planes[:3], planes[3:]))
    for suffix, lost in ((".tif", False), (".jpg", True)):
        outcome = stylize(f"input={tmp_path / 'a.png'}", f"output={tmp_path / f'o{suffix}'}")
        assert ("its transparency (it is laid on white)" in outcome.err) is lost
        assert ("its 16 bits (they are rounded to 8)" in outcome.err) is lost
    actual = read_original(tmp_path / "o.tif", max_megapixels=1)
    assert actual.pixels.dtype == torch.uint16 and torch.equal(actual.alpha.int(), planes[3:].int())


def test_a_picture_over_the_limit_is_named_and_passed_over(stylize, photos, tmp_path):
    outcome = stylize(f"input={photos}", f"output={tmp_path / 'out'}", "max_megapixels=0.0012", status=3)
    assert "33 x 47 pixels; max_megapixels=0.0012 allows fewer" in outcome.out
    assert (tmp_path / "out" / "cats" / "two (2).jpg").is_file()


REFUSED = {
    "no style": ([], "style=... is missing; known are monet, wave"),
    "strength": (["style=monet", "strength=1.5"], "strength=1.5; allowed are 0"),
    "no strength": (["style=monet", "strength=much"], "strength"),
    "colours": (["style=monet", "colours=mine"], "colours=mine; allowed are style, luminance, lab"),
    "tile": (["style=monet", "tile=7"], "tile=7; allowed are auto, off"),
    "limit": (["style=monet", "max_megapixels=0"], "max_megapixels=0; allowed are numbers above 0"),
    "a list": (["style=[monet,wave]"], "style=[monet, wave]: a name, or weights"),
    "a number": (["style=1889"], "style=1889: there is no such style"),
    "no word": (["style=true"], "style=true: there is no such style"),
    "mask's size": (["style=monet", "mask={small}"], "its size is 10 x 12 pixels, but the picture's is 33 x 47"),
    "mask is gone": (["style=monet", "mask={tmp}/nothing.png"], "mask={tmp}/nothing.png: there is no such file"),
    "mask in colours": (["style=monet", "mask={photos}/colours.png"], "a mask is a grey picture"),
    "mask's style": (["mask={{mone: {left}}}"], "mask=mone: there is no such style (did you mean monet?)"),
    "overlap": (["mask={{monet: {left}, wave: {left}}}"], "mask={monet, wave}: the masks overlap"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_controls_that_cannot_be_are_refused(stylize, library_file, photos, tmp_path, case):
    left, _ = masks_of(tmp_path, 33, 47)
    Image.new("L", (10, 12)).save(tmp_path / "small.png")
    Image.new("RGB", (33, 47), "red").save(photos / "colours.png")
    places = {"tmp": tmp_path, "photos": photos, "left": left, "small": tmp_path / "small.png"}
    arguments, message = REFUSED[case]
    filled = [text.format(**places) if "mask" in text else text for text in arguments]
    outcome = stylize(f"checkpoint={library_file}", *filled, status=2)
    assert message.replace("{tmp}", str(tmp_path)) in outcome.err
    assert not (tmp_path / "o.png").exists()


def test_without_a_checkpoint_the_style_names_a_model_that_comes_with_gan_style(
    gan_style, library_file, photos, tmp_path, monkeypatch
):
    where = [f"input={photos / 'one.png'}", f"output={tmp_path / 'o.png'}"]
    monkeypatch.setattr("gan_style.stylize.model.shipped", dict)
    assert "checkpoint=... is missing" in gan_style("stylize", *where, "style=monet", status=2).err
    monkeypatch.setattr("gan_style.stylize.model.shipped", lambda: {library_file: ("monet", "wave")})
    assert "checkpoint=... is missing" in gan_style("stylize", *where, status=2).err
    assert "did you mean wave?" in gan_style("stylize", *where, "style=waves", status=2).err
    gan_style("stylize", *where, "style=wave")
    assert read_note(tmp_path / "o.png")["style"] == "wave"


@pytest.mark.parametrize(
    ("mode", "suffix", "message"),
    [
        ("RGB", ".bmp", "its colour profile; .jpg"),
        ("RGB", ".png", None),
        ("L", ".png", "its colour profile, which is not one of RGB"),
    ],
)
def test_a_colour_profile_is_kept_or_named(stylize, tmp_path, mode, suffix, message):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new(mode, (30, 20)).save(tmp_path / "a.jpg", icc_profile=profile)
    outcome = stylize(f"input={tmp_path / 'a.jpg'}", f"output={tmp_path / f'o{suffix}'}")
    assert ("colour profile" in outcome.err) is (message is not None) and (message or "") in outcome.err
    with Image.open(tmp_path / f"o{suffix}") as result:
        assert result.info.get("icc_profile") == (profile if message is None else None)


def test_inks_become_rgb_and_are_named(stylize, tmp_path):
    Image.new("CMYK", (30, 20)).save(tmp_path / "a.jpg")
    assert "CMYK" in stylize(f"input={tmp_path / 'a.jpg'}", f"output={tmp_path / 'o.jpg'}").err
    assert Image.open(tmp_path / "o.jpg").mode == "RGB"


def test_regions_by_name_leave_everything_else_exactly_as_it_is(stylize, photos, tmp_path):
    classes = np.zeros((47, 33), np.uint8)
    classes[:20] = 15
    Image.fromarray(classes).save(tmp_path / "one.png")
    source = [f"segmentation.masks={tmp_path / 'one.png'}", "segmentation.names=voc"]
    stylize("mask=person", *source)
    before, after = (np.asarray(Image.open(path)).astype(int) for path in (photos / "one.png", tmp_path / "o.png"))
    assert np.array_equal(after[26:], before[26:]) and np.abs(after[:15] - before[:15]).mean() > 1
    assert "did you mean person" in stylize("mask=persn", *source, status=2).err
