"""gan_style.transforms.RandomStyle: what changes, what does not, and what its draws follow from."""

import copy
import os
import pickle
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from generators import write_file
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from gan_style.models.generator import ResnetGenerator
from gan_style.models.library import LibraryGenerator
from gan_style.models.reference import ReferenceGenerator
from gan_style.transforms import RandomStyle


def pixels(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """library.safetensors (monet, wave, flow), single.safetensors, any.safetensors, and four paintings."""
    folder = tmp_path_factory.mktemp("transforms")
    torch.manual_seed(0)
    networks = {
        "library": LibraryGenerator(width=4, blocks=1, styles=["monet", "wave", "flow"]),
        "single": ResnetGenerator(width=4, blocks=1),
        "any": ReferenceGenerator(width=4, blocks=1, code=8, side=32),
    }
    for name, generator in networks.items():
        for parameter in generator.parameters():
            parameter.data += 0.2 * torch.randn_like(parameter)
        write_file(folder / f"{name}.safetensors", generator)
    (folder / "paintings").mkdir()
    for number in range(4):
        picture = Image.fromarray(pixels(40, 30, 3, seed=number).numpy() // (number + 1))
        picture.save(folder / "paintings" / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def make(folder):
    def make(*args, model: str = "library", **options) -> RandomStyle:
        return RandomStyle(*args, **({"checkpoint": folder / f"{model}.safetensors", "p": 1.0} | options))

    return make


SAMPLE_PARTS = {
    "boxes": tv_tensors.BoundingBoxes([[1.0, 2.0, 9.0, 8.0]], format="XYXY", canvas_size=(24, 20)),
    "points": tv_tensors.KeyPoints([[3.0, 4.0]], canvas_size=(24, 20)),
    "mask": tv_tensors.Mask(pixels(1, 24, 20, seed=7)),
    "label": torch.tensor(3),
    "features": torch.rand(5),
    "name": "daisy",
}
KINDS = {
    "pil": Image.fromarray(pixels(24, 20, 3).numpy()),
    "grey pil": Image.fromarray(pixels(24, 20).numpy()),
    "uint8": tv_tensors.Image(pixels(3, 24, 20)),
    "float": tv_tensors.Image(pixels(3, 24, 20) / 255.0),
    "half": tv_tensors.Image((pixels(3, 24, 20) / 255.0).half()),
    "grey": tv_tensors.Image(pixels(1, 24, 20)),
    "batch": tv_tensors.Image(pixels(2, 3, 24, 20)),
    "video": tv_tensors.Video(pixels(4, 3, 24, 20)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_picture_changes_and_nothing_else(make, kind):
    sample = {"image": KINDS[kind], **SAMPLE_PARTS}
    before = copy.deepcopy(sample)
    result = make()(sample)
    image = result["image"]
    assert type(image) is type(sample["image"])
    if isinstance(image, Tensor):
        assert (image.shape, image.dtype) == (sample["image"].shape, sample["image"].dtype)
    else:
        assert (image.size, image.mode) == (sample["image"].size, sample["image"].mode)
    assert not np.array_equal(np.asarray(image), np.asarray(sample["image"]))
    assert np.array_equal(np.asarray(sample["image"]), np.asarray(before["image"]))  # not in place
    for name, value in SAMPLE_PARTS.items():
        assert result[name] is sample[name]
        assert value == before[name] if isinstance(value, str) else torch.equal(value, before[name])


def test_beside_a_plain_batch_labels_are_left_alone(make):
    images, labels = pixels(3, 3, 16, 16), torch.tensor([0, 1, 2])
    styled, same = make()(images, labels)
    assert type(styled) is Tensor and not torch.equal(styled, images) and same is labels


@given(height=st.integers(1, 40), width=st.integers(1, 40), kind=st.sampled_from(["uint8", "float"]))
def test_sizes_are_kept_and_values_stay_in_range(make, height, width, kind):
    image = pixels(3, height, width) if kind == "uint8" else pixels(3, height, width) / 255.0
    result = make(seed=1)(image)
    assert result.shape == image.shape and result.dtype == image.dtype
    assert result.min() >= 0 and result.max() <= (255 if kind == "uint8" else 1)


@settings(max_examples=10)
@given(seed=st.integers(0, 2**40), content=st.integers(0, 5))
def test_one_seed_gives_one_picture_in_whatever_form(make, seed, content):
    transform, image = make(seed=seed, mixtures=0.5), pixels(3, 20, 24, seed=content)
    result = transform(image)
    assert torch.equal(make(seed=seed, mixtures=0.5)(image), result)
    as_pil = transform(v2.functional.to_pil_image(image))
    assert torch.equal(v2.functional.pil_to_tensor(as_pil), result)
    as_float = transform(image / 255.0)
    assert torch.allclose(as_float * 255.0, result.float(), atol=0.51)


def test_a_batch_is_drawn_picture_by_picture_as_single_ones_are(make):
    transform, images = make(seed=5, p=0.5), torch.stack([pixels(3, 16, 20, seed=number) for number in range(8)])
    singles, batch = torch.stack([transform(image) for image in images]), transform(images)
    untouched = (batch == images).flatten(1).all(1)
    assert 0 < untouched.sum() < 8
    assert (batch.int() - singles.int()).abs().max() <= 1  # a batch's sums may differ in their last bits


def test_a_videos_frames_share_their_draws(make):
    frames = pixels(1, 3, 16, 16).expand(5, -1, -1, -1)
    result = make(strength=(0.1, 1.0), seed=2)(tv_tensors.Video(frames))
    assert torch.equal(result, result[:1].expand_as(result))
    stylized = make(strength=(0.1, 1.0))(tv_tensors.Video(pixels(1, 3, 16, 16).expand(2, 5, -1, -1, -1)))
    assert torch.equal(stylized[0, 0], stylized[0, 4]) and not torch.equal(stylized[0], stylized[1])


@pytest.mark.parametrize("model", ["library", "single"])
@pytest.mark.parametrize("options", [{"strength": 0.0}, {"p": 0.0}])
def test_strength_0_and_p_0_are_the_identity(make, model, options):
    for image in (pixels(3, 16, 16), pixels(2, 3, 16, 16), torch.rand(3, 9, 7), KINDS["pil"]):
        result = make(model=model, **options)(image)
        assert np.array_equal(np.asarray(result), np.asarray(image))


def test_strength_1_is_the_style_and_low_strengths_are_near_the_photo(make, folder):
    import gan_style

    image = pixels(3, 16, 20)
    stylize = gan_style.load(folder / "library.safetensors", device="cpu")
    exact = (stylize(image[None] / 127.5 - 1.0, style="wave")[0] + 1.0) / 2.0
    torch.testing.assert_close(make("wave", strength=1.0)(image / 255.0), exact, rtol=0, atol=2e-5)
    full = stylize(image[None], style="wave")[0]
    differences = (make("wave", strength=1.0)(image).int() - full.int()).abs()
    assert differences.max() <= 1 and differences.float().mean() < 0.01  # where exact is close to half a level
    weak = make("wave", strength=0.1)(image)
    assert (weak.float() - image).abs().mean() < 0.5 * (full.float() - image).abs().mean()


def test_draws_are_as_likely_as_was_asked_for(make):
    transform = make(["monet", "flow"], p=0.25, strength=(0.2, 0.6), mixtures=0.5)
    torch.manual_seed(0)
    condition = transform.make_params([torch.zeros(4000, 3, 1, 1)])["condition"]
    stylized = condition[condition.sum(dim=1) > 0]
    assert abs(len(stylized) / 4000 - 0.25) < 0.03
    total = stylized.sum(dim=1)
    assert total.min() >= 0.2 and total.max() <= 0.6 and abs(float(total.mean()) - 0.4) < 0.02
    assert (condition[:, 1] == 0).all()  # wave
    mixed = (stylized > 0).sum(dim=1) == 2
    assert abs(float(mixed.float().mean()) - 0.5) < 0.05
    assert abs(float((stylized[~mixed][:, 0] > 0).float().mean()) - 0.5) < 0.07


def test_without_a_seed_torchs_generator_decides(make):
    transform, images = make(p=0.5), pixels(6, 3, 12, 12)
    torch.manual_seed(3)
    first, other = transform(images), transform(images)
    torch.manual_seed(3)
    assert torch.equal(transform(images), first) and not torch.equal(other, first)


class Pictures(Dataset):
    """Twelve pictures with their numbers, through a transform."""

    def __init__(self, transform: RandomStyle) -> None:
        self.transform = transform

    def __len__(self) -> int:
        return 12

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        return self.transform(tv_tensors.Image(pixels(3, 16, 16, seed=number)), number)


@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_two_workers_give_what_none_give_in_each_epoch(make, context):
    def epochs(transform: RandomStyle, **workers) -> list[Tensor]:
        loader, results = DataLoader(Pictures(transform), batch_size=5, **workers), []
        for epoch in (0, 1, 0):
            transform.set_epoch(epoch)
            batches = list(loader)
            assert torch.cat([numbers for _, numbers in batches]).tolist() == list(range(12))
            results.append(torch.cat([images for images, _ in batches]))
        return results

    single = epochs(make(seed=7, p=0.7))
    workers = {"num_workers": 2, "multiprocessing_context": context, "persistent_workers": True}
    for ours, theirs in zip(single, epochs(make(seed=7, p=0.7), **workers), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(single[0], single[2]) and not torch.equal(single[0], single[1])


def test_it_pickles_and_a_model_that_trains_leaves_it_alone(make):
    transform, image = make(seed=4), pixels(3, 16, 16)
    result = transform(image)
    assert torch.equal(pickle.loads(pickle.dumps(transform))(image), result)
    assert torch.equal(torch.nn.Sequential(transform).train()(image), result)
    styled = transform(torch.rand(2, 3, 8, 8, requires_grad=True))
    assert not styled.requires_grad and not any(item.requires_grad for item in transform.parameters())


def test_styles_of_a_folder_of_paintings(make, folder):
    transform = make(model="any", references=folder / "paintings", seed=1)
    assert sorted(transform.styles) == ["0", "1", "2", "3"]
    images = pixels(1, 3, 16, 16).expand(12, -1, -1, -1)
    results = make(model="any", references=str(folder / "paintings"))(images)
    assert len({tuple(image.flatten().tolist()) for image in results}) > 2
    assert torch.equal(pickle.loads(pickle.dumps(transform)).to("cpu")(images), transform(images))
    assert make("2", model="any", references=folder / "paintings").styles == ["2"]


@pytest.mark.parametrize("checkpoint", [None, "shipped:mobile"])
def test_the_models_that_ship(checkpoint):
    transform = RandomStyle(["monet", "wave"], p=1.0, checkpoint=checkpoint)
    assert transform.styles == ["monet", "wave"] and len(RandomStyle(checkpoint=checkpoint).styles) > 5
    for side in (1, 7, 30):
        image = pixels(3, side, side + 3)
        result = transform(image)
        assert result.shape == image.shape and not torch.equal(result, image)


def test_the_model_that_ships_takes_any_folder_of_paintings(folder):
    transform = RandomStyle(references=folder / "paintings", p=1.0, seed=1)
    assert sorted(transform.styles) == ["0", "1", "2", "3"]
    image = pixels(3, 16, 24)
    assert transform(image).shape == image.shape and not torch.equal(transform(image), image)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_batch_on_a_gpu_has_the_same_draws_and_stays_there(make):
    images = torch.stack([pixels(3, 32, 32, seed=number) for number in range(8)])
    transform = make(seed=3, p=0.5, mixtures=0.5)
    here, there = transform(images), transform(images.cuda())
    assert there.is_cuda and (there.cpu().int() - here.int()).abs().max() <= 4


def test_an_alpha_channel_is_kept(make):
    image = Image.fromarray(pixels(12, 10, 4).numpy(), "RGBA")
    result = make()(image)
    assert result.mode == "RGBA" and np.array_equal(np.asarray(result)[..., 3], np.asarray(image)[..., 3])


def test_a_pipeline_of_torchvision(make):
    pipeline = v2.Compose(
        [
            v2.ToImage(),
            v2.RandomResizedCrop(16),
            make(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.5], [0.5]),
        ]
    )
    assert pipeline(KINDS["pil"]).shape == (3, 16, 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": (0.8, 0.2)}, "strength"),
        ({"strength": 1.5}, "strength"),
        ({"p": -0.1}, "p=-0.1"),
        ({"mixtures": 2}, "mixtures"),
        ({"styles": ["monte"]}, "monet"),
        ({"styles": []}, "styles"),
        ({"model": "any"}, "references"),
        ({"references": "paintings/"}, "reference"),
        ({"model": "missing"}, "missing"),
        ({"checkpoint": "monet.onnx"}, "ONNX"),
    ],
)
def test_bad_arguments_are_refused_by_name(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.randn(3, 16, 16) * 3, "Normalize"),
        (torch.full((3, 4, 4), torch.nan), r"\[0, 1\]"),
        (torch.zeros(3, 16, 16, dtype=torch.int64), "int64"),
        (torch.zeros(5, 16, 16), r"\(5, 16, 16\)"),
        (torch.zeros(16, 16), r"\(16, 16\)"),
        (Image.new("CMYK", (4, 4)), "CMYK"),
    ],
)
def test_what_is_no_picture_of_ours_is_refused(make, image, message):
    with pytest.raises(ValueError, match=message):
        make()(image)


def blocks(language: str) -> list[str]:
    """The page's examples in a language."""
    page = (Path(__file__).parents[1] / "docs" / "augmentation.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)


def test_the_pages_examples_run(tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    for number in range(16):
        place = tmp_path / "flowers" / "train" / ("daisy", "tulips")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(70, 80, 3, seed=number).numpy()).save(place / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    names: dict = {}
    for block in blocks("python"):
        exec(block.replace("num_workers=2", "num_workers=0"), names)
    assert names["images"].shape == (8, 3, 64, 64) and names["batch"].shape == (8, 3, 64, 64)
    assert torch.equal(names["sample"]["boxes"], names["boxes"]) and names["sample"]["label"] == 2
    assert names["labels"].tolist() == list(range(8)) and names["pixels"].shape == (3, 64, 64)


@pytest.fixture
def painted(tmp_path, monkeypatch) -> Path:
    """The page's example of a stylized YOLO dataset, made in a folder that also holds the photos and both.yaml."""
    photos = tmp_path / "coco8"
    for number in range(6):
        split, name = ("train", "train", "val")[number % 3], f"{number}"
        for kind in ("images", "labels"):
            (photos / kind / split).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(48, 64, 3, seed=number).numpy()).save(photos / "images" / split / f"{name}.png")
        (photos / "labels" / split / f"{name}.txt").write_text("0 0.5 0.5 0.4 0.5\n1 0.25 0.25 0.2 0.2\n")
    (photos / "data.yaml").write_text("path: .\ntrain: images/train\nval: images/val\nnames: [cup, cat]\n")
    monkeypatch.chdir(tmp_path)
    (command,) = [line for line in "".join(blocks("bash")).splitlines() if line.startswith("gan-style make-dataset")]
    arguments = [*shlex.split(command)[1:], "runtime.device=cpu"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run([sys.executable, "-m", "gan_style.cli", *arguments], check=True, env=environment)
    (both,) = blocks("yaml")
    Path("both.yaml").write_text(both)
    return tmp_path / "painted" / "data"


@pytest.mark.slow
def test_the_pages_dataset_has_the_photos_labels(painted):
    for path in (painted.parents[1] / "coco8" / "labels").rglob("*.txt"):
        assert (painted / "labels" / path.parent.name / path.name).read_bytes() == path.read_bytes()
    changed = [
        not np.array_equal(np.asarray(Image.open(path)), np.asarray(Image.open(painted / "images/train" / path.name)))
        for path in (painted.parents[1] / "coco8" / "images" / "train").iterdir()
    ]
    assert len(changed) == 4 and all(changed)


@pytest.mark.slow
def test_ultralytics_trains_on_the_pages_dataset(painted):
    ultralytics = pytest.importorskip("ultralytics")
    settings = {"epochs": 1, "imgsz": 64, "batch": 4, "workers": 0, "device": "cpu", "plots": False}
    model = ultralytics.YOLO("yolo11n.yaml")
    metrics = model.train(data="both.yaml", **settings)
    assert len(model.trainer.train_loader.dataset) == 8 and metrics is not None
