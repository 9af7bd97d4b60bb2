"""tools/distill: the replay buffer returns the teacher's features, and the losses are zero where they are matched."""

import random
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from gan_style.images.decode import encode
from gan_style.models.perceptual import COMPACT, compact, vgg19

sys.path.append(str(Path(__file__).parents[1] / "tools" / "distill"))
import on_policy
from distill import (
    Distillation,
    begin_with,
    change_loss,
    distance_loss,
    first_buffer,
    gradient_loss,
    matching_loss,
    parameters_of,
    random_crop,
    recoloured,
    rotated,
    save,
    side_around,
    split,
    tasks_of,
)
from on_policy import (
    Context,
    SamplingTask,
    collect_samples,
    random_stages,
    sample_optimised_pictures,
    sample_shipped_style,
    sample_training_run,
)
from replay import ReplayBuffer, Target, content_gradients, subsample

LAYERS = COMPACT.layers()
SHARES = 2 * 0.5 + 2 * 0.7 + 3 + 2 + 1 + 2  # sum of the layers' weights


@pytest.fixture(scope="module")
def target() -> Target:
    torch.manual_seed(3)
    teacher = vgg19(layers=LAYERS, weights="random")
    wide = {f"relu{name}": channels for name, _, channels in teacher.architecture.convolutions()}
    channels_of = {f"relu{name}": channels for name, _, channels in COMPACT.convolutions()}
    projections = {
        layer: torch.linalg.qr(torch.randn(wide[layer], channels_of[layer]))[0].T[:, :, None, None].contiguous()
        for layer in LAYERS
    }
    return Target(teacher, projections, dict.fromkeys(LAYERS, 1.0))


def test_a_batch_is_what_the_teacher_makes_of_results_and_their_crops(target: Target) -> None:
    crops, results = torch.rand(5, 3, 32, 32) * 2 - 1, torch.rand(9, 3, 32, 32) * 2 - 1
    parents = [0, 0, 4, 1, 2, 2, 3, 4, 1]
    buffer = ReplayBuffer(crops, target, "cpu")
    buffer.add([*results[:4]], parents[:4])
    buffer.add([*results[4:]], parents[4:])
    batch = buffer.sample(7, random.Random(0))
    count = len(batch.pictures) // 2
    assert count == 7
    for result, crop in zip(batch.pictures[:count], batch.pictures[count:], strict=True):
        number = int((results.half().float() - result).abs().amax((1, 2, 3)).argmin())
        torch.testing.assert_close(crop, crops[parents[number]].half().float(), rtol=0, atol=0)
    features = subsample(target.teacher(batch.pictures, LAYERS))
    for layer in LAYERS:
        projected = F.conv2d(features[layer], target.projections[layer])
        torch.testing.assert_close(batch.features[layer], projected, rtol=2e-3, atol=1e-5)
        change = (features[layer][:count] - features[layer][count:]).square().mean(1)
        torch.testing.assert_close(batch.changes[layer], change, rtol=2e-3, atol=1e-6)
    assert features["relu1_1"].shape[-1] == 16 and features["relu2_1"].shape[-1] == 16
    result, resampled = (item.clone().requires_grad_() for item in batch.pictures.split(count))
    assert list(batch.gradients) == ["relu3_2", "relu4_2"]
    for layer, options in batch.gradients.items():
        change = target.teacher(result, [layer])[layer] - target.teacher(resampled, [layer])[layer]
        gradients = content_gradients(change, result)
        assert (options.square().mean((1, 2, 3)) - 1).abs().max() < 1e-3
        assert F.cosine_similarity(gradients.flatten(1), options.flatten(1), eps=1e-30).min() > 0.999


def test_a_third_of_a_batch_is_of_the_results_added_last(target: Target) -> None:
    buffer = ReplayBuffer(torch.rand(2, 3, 16, 16), target, "cpu")
    buffer.add([*torch.full((8, 3, 16, 16), -1.0)], [0, 1] * 4)
    buffer.add([*torch.full((2, 3, 16, 16), 1.0)], [0, 1])
    newest = buffer.sample(600, random.Random(0)).pictures[:600].mean((1, 2, 3)) == 1
    assert newest.float().mean().item() == pytest.approx(1 / 3 + 2 / 3 * 2 / 10, abs=0.06)


def test_content_gradients_say_how_the_content_loss_changes(target: Target) -> None:
    torch.manual_seed(0)
    teacher = vgg19(layers=LAYERS, weights="random").double()
    teacher.load_state_dict(target.teacher.state_dict())
    results, crops, way = (torch.rand(2, 3, 16, 16, dtype=torch.float64) - 0.5 for _ in range(3))

    def change(pictures: torch.Tensor) -> torch.Tensor:
        return teacher(pictures, ["relu3_2"])["relu3_2"] - teacher(crops, ["relu3_2"])["relu3_2"]

    def losses(pictures: torch.Tensor) -> torch.Tensor:
        return change(pictures).square().mean((1, 2, 3))

    results.requires_grad_()
    gradients = content_gradients(change(results), results).double()
    with torch.no_grad():
        expected = (losses(results + 1e-6 * way) - losses(results - 1e-6 * way)) / 2e-6
    torch.testing.assert_close((gradients * way).sum((1, 2, 3)), expected, rtol=1e-4, atol=0)
    # a loss on them reaches every weight that the content loss sees, and none behind it
    teacher.requires_grad_(True)
    content_gradients(change(results), results, differentiable=True).square().sum().backward()
    with_gradient = {
        key for key, first in teacher.features.named_parameters() if first.grad is not None and first.grad.any()
    }
    assert {int(key.split(".")[0]) for key in with_gradient if key.endswith("weight")} == {0, 2, 5, 7, 10, 12}


def test_batches_in_bfloat16_are_those_in_float32(target: Target) -> None:
    torch.manual_seed(0)
    crops, results = (torch.rand(3, 3, 32, 32) * 2 - 1 for _ in range(2))
    batches = []
    for item in (target, replace(target, dtype=torch.bfloat16)):
        buffer = ReplayBuffer(crops, item, "cpu")
        buffer.add([*results], [2, 0, 1])
        batches.append(buffer.sample(4, random.Random(0)))
    for layer in LAYERS[:4]:  # random weights leave almost nothing of a change below
        for item, other in ((batch.features[layer], batch.changes[layer]) for batch in batches):
            assert item.dtype == other.dtype == torch.float32
        for item, other in ([batch.features[layer] for batch in batches], [batch.changes[layer] for batch in batches]):
            assert 0 < (item - other).norm() < 0.02 * item.norm()
    cosines = F.cosine_similarity(*(batch.gradients["relu3_2"].flatten(1) for batch in batches))
    assert cosines.min() > 0.98 and cosines.max() < 1


def test_losses_are_zero_where_the_teacher_is_matched_and_not_elsewhere() -> None:
    torch.manual_seed(0)
    expected = {layer: torch.randn(2, 4, 5, 5) for layer in LAYERS}
    changes = {layer: first.square().mean(1) for layer, first in expected.items()}
    sizes = dict.fromkeys(LAYERS, 1.0)
    for loss in (
        matching_loss(expected, expected),
        change_loss(expected, expected),
        distance_loss(expected, changes, sizes),
    ):
        assert loss.item() == pytest.approx(0, abs=1e-6)
    gradients = torch.randn(2, 3, 8, 8)
    assert gradient_loss(gradients / 2, gradients).item() == pytest.approx(0, abs=1e-6)  # only where it points counts
    assert gradient_loss(-gradients, gradients).item() == pytest.approx(2, abs=1e-6)
    half = {layer: first / 2 for layer, first in expected.items()}
    assert matching_loss(half, expected).item() > 1 and change_loss(half, expected).item() > 1
    # a quarter of the amount at each layer: the logarithm is known, the local part is at most 2 * 1/4
    amount = (torch.tensor(4.0).log().item() - 0.05 / 2) * 5 * SHARES
    assert amount * 0.97 < distance_loss(half, changes, sizes).item() < amount + 0.5 * SHARES


def test_crops_are_as_often_enlarged_as_each_doubling_of_the_side_asks_for() -> None:
    picture, rng = torch.zeros(3, 256, 300, dtype=torch.uint8), random.Random(0)
    picture[:, :, 150:] = 255
    sides = [side_around(picture, 96, rng) for _ in range(4000)]
    assert min(sides) == 64 and max(sides) == 256  # 96 / 1.5 and the short side: two doublings
    assert sum(side < 128 for side in sides) / len(sides) == pytest.approx(0.5, abs=0.03)
    for side in (64, 96, 256):
        crop = random_crop(picture, side, 96, rng)
        assert crop.shape == (3, 96, 96)
        torch.testing.assert_close(crop[:, :, [0, -1]].abs(), torch.ones(3, 96, 2))


def test_every_other_crop_has_other_colours_and_the_same_picture() -> None:
    rng = random.Random(0)
    torch.manual_seed(0)
    picture = F.interpolate(torch.rand(1, 3, 8, 8) - 0.5, 32, mode="bilinear")[0]
    result = [recoloured(picture, rng) for _ in range(200)]
    same = sum(torch.equal(item, picture) for item in result)
    assert 80 < same < 120 and all(item.abs().max() <= 1 for item in result)
    flat = torch.cat([picture.flatten(1), torch.ones(1, 1024)])  # what is not cut off is linear in the colours
    for item in result:
        inside = (item.abs() < 1).all(0).flatten()
        if inside.sum() > 50:
            fit = torch.linalg.lstsq(flat[:, inside].T, item.flatten(1)[:, inside].T).solution
            assert (fit.T @ flat[:, inside] - item.flatten(1)[:, inside]).abs().max() < 1e-4


def test_stages_of_a_way_lie_one_in_each_part_of_it() -> None:
    assert [(move - 1) // 20 for move in sorted(random_stages(8, 160, random.Random(1)))] == list(range(8))


def test_samples_under_the_teacher_are_made_once_and_no_seed_is_used_twice() -> None:
    for first in (0, 1):
        arguments = Namespace(generators=2, runs=3, shipped_styles=4, seed=0)
        actual = [[task.network for task in tasks_of(number, first, arguments)] for number in range(3)]
        assert [item.count("vgg19") for item in actual] == [7 * (number == first) for number in range(3)]
        assert [item.count("compact") for item in actual] == [11 * (number >= first) for number in range(3)]
    runs = [Namespace(generators=2, runs=1, shipped_styles=0, seed=seed) for seed in (0, 1)]
    seeds = [task.seed for run in runs for number in range(3) for task in tasks_of(number, 0, run)]
    assert len(set(seeds)) == len(seeds) == 2 * (3 * 9 + 2)


@pytest.fixture
def context(tmp_path: Path) -> Context:
    """Nine crops, random weights of both networks, two folders of two pictures."""
    torch.manual_seed(0)
    torch.save((torch.rand(9, 3, 16, 16) * 2 - 1).half(), tmp_path / "crops.pt")
    weights = {}
    for name, network in (("vgg19", vgg19), ("compact", compact)):
        weights[name] = tmp_path / f"{name}, its weights.pth"
        torch.save(network(layers=LAYERS, weights="random").state_dict(), weights[name])
    folders = [[], []]  # type: list[list[Path]]
    for number in range(4):
        folders[number // 2].append(tmp_path / f"a picture, {number}.png")
        folders[number // 2][-1].write_bytes(encode(torch.randint(0, 255, (3, 300, 300), dtype=torch.uint8), ".png"))
    return Context(tmp_path / "crops.pt", weights, folders, "cpu")


def test_a_shipped_style_is_painted_at_all_strengths(context: Context) -> None:
    crops = torch.nn.functional.interpolate(torch.load(context.crops).float(), 64)
    samples = sample_shipped_style(SamplingTask("vgg19", sample_shipped_style, 0), context, crops, random.Random(0))
    assert sorted(samples.parents) == list(range(9)) and {item.shape for item in samples.results} == {(3, 64, 64)}
    changes = [(r.float() - crops[p]).square().mean() for r, p in zip(samples.results, samples.parents, strict=True)]
    assert 0 < 4 * min(changes) < max(changes)


def test_eight_stages_of_each_optimised_picture_are_kept(context: Context) -> None:
    crops = torch.load(context.crops).float()
    samples = collect_samples([SamplingTask("compact", sample_optimised_pictures, 0)], context, processes=1)
    assert len(samples.results) == 64 and samples.parents == samples.parents[:8] * 8
    assert all(result.dtype == torch.float16 and result.abs().max() <= 1 for result in samples.results)
    changes = [
        (result.float() - crops[parent]).square().mean()
        for result, parent in zip(samples.results, samples.parents, strict=True)
    ]
    assert sum(changes[-8:]) > sum(changes[:8]) > 0


def test_a_training_run_is_sampled_at_six_stages(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_policy, "RUN_STEPS", 6)
    crops = torch.load(context.crops).float()
    samples = sample_training_run(SamplingTask("compact", sample_training_run, 5), context, crops, random.Random(0))
    assert len(samples.results) == 6 * 9 and all(result.shape == (3, 16, 16) for result in samples.results)
    assert sorted(samples.parents[:9]) == list(range(9))
    stages = [torch.stack(samples.results[start : start + 9]) for start in range(0, 54, 9)]
    by_parent = [
        dict(zip(samples.parents[9 * number : 9 * number + 9], stage, strict=True))
        for number, stage in enumerate(stages)
    ]
    assert all(not torch.equal(by_parent[0][parent], by_parent[-1][parent]) for parent in range(9))


def test_an_earlier_buffer_is_learned_from_with_its_own_crops(target: Target, tmp_path: Path) -> None:
    before = ReplayBuffer(torch.rand(3, 3, 32, 32), target, "cpu")
    before.add([*(before.crops[[2, 0]] / 2)], [2, 0])
    before.save(tmp_path / "buffer.pt")
    arguments = Namespace(crops=4, size=32, buffer=tmp_path / "buffer.pt", device="cpu")
    pictures = [torch.randint(0, 255, (3, 40, 50), dtype=torch.uint8)]
    buffer = first_buffer(pictures, target, arguments, random.Random(0))
    assert len(buffer.crops) == 7 and buffer.parents.tolist() == [0, 2, 6, 4]
    torch.testing.assert_close(buffer.results[2:], buffer.crops[[6, 4]] / 2)
    arguments.buffer = tmp_path / "not yet there.pt"
    assert len(first_buffer(pictures, target, arguments, random.Random(0)).results) == 2


def test_a_student_learns_and_its_matrices_are_its_weights(target: Target) -> None:
    torch.manual_seed(1)
    buffer = ReplayBuffer(torch.rand(4, 3, 32, 32) * 2 - 1, target, "cpu")
    buffer.add([*(buffer.crops / 2)], [0, 1, 2, 3])
    student = compact(layers=LAYERS, weights="random").to(memory_format=torch.channels_last)
    before = {name: single.clone() for name, single in student.state_dict().items()}
    distillation = Distillation(student, buffer, Namespace(rate=3e-3, steps=40, batch=4, seed=0, blocks=[1, 2, 3, 4]))
    distillation.train(20)
    first = sum(distillation.averages.values()) / (1 - 0.98**20)
    distillation.averages = dict.fromkeys(distillation.averages, 0.0)
    distillation.train(20)
    assert sum(distillation.averages.values()) / (1 - 0.98**20) < 0.95 * first
    changed = {name for name, single in student.state_dict().items() if not torch.equal(single, before[name])}
    assert changed == {name for name, _ in student.named_parameters()}


def test_one_block_is_learned_and_the_others_stay_to_the_bit(target: Target) -> None:
    torch.manual_seed(1)
    deep = Target(vgg19(layers=LAYERS[-2:], weights="random"), target.projections, target.mean_squares)
    deep.teacher.load_state_dict(target.teacher.state_dict())
    buffer = ReplayBuffer(torch.rand(4, 3, 32, 32) * 2 - 1, deep, "cpu")
    buffer.add([*(buffer.crops / 2)], [0, 1, 2, 3])
    assert set(buffer.sample(2, random.Random(0)).gradients) == {"relu4_2"}
    student = compact(layers=LAYERS, weights="random").to(memory_format=torch.channels_last)
    before = {name: first.clone() for name, first in student.state_dict().items()}
    Distillation(student, buffer, Namespace(rate=3e-3, steps=4, batch=4, seed=0, blocks=[4])).train(4)
    changed = {name for name, first in student.state_dict().items() if not torch.equal(first, before[name])}
    convolutions = {f"features.{index}.{kind}" for index in (19, 21) for kind in ("weight", "bias")}
    assert changed == convolutions | {"heads.4_1.weight", "heads.4_2.weight"} == set(parameters_of(student, [4]))


def test_a_shallower_file_is_begun_with_and_what_is_saved_is_read_back(tmp_path: Path) -> None:
    shallow = compact(layers=["relu3_4"], weights="random")
    shallow.form_factors.copy_(torch.linspace(1.5, 2.5, 8))
    student = compact(layers=LAYERS, weights="random")
    assert begin_with(student, shallow.state_dict()) == LAYERS[:8]
    save(student, tmp_path / "student.safetensors", {"source": "a test"})
    assert load_file(tmp_path / "student.safetensors")["features.21.weight"].dtype == torch.float16
    read = compact(layers=["relu4_2"], weights=str(tmp_path / "student.safetensors"))
    torch.testing.assert_close(read.form_factors[:8], shallow.form_factors, rtol=0, atol=0)
    for name, first in shallow.state_dict().items():
        if name != "form_factors":
            torch.testing.assert_close(read.state_dict()[name], first, rtol=1e-3, atol=1e-6)


def test_held_out_and_excluded_pictures_are_not_trained_on(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / f"{number:02d}.png").write_bytes(encode(torch.zeros(3, 8, 8, dtype=torch.uint8), ".png"))
    training, held_out = split(tmp_path, {"03.png", "05.png"})
    assert [path.stem for path in held_out] == ["05", "11"]
    assert [path.stem for path in training] == ["00", "01", "02", "04", "06", "07", "08", "09", "10"]


def test_directions_are_rotated_into_the_basis_that_a_student_knows(target: Target) -> None:
    torch.manual_seed(2)
    pictures = [torch.rand(3, 96, 96) * 2 - 1 for _ in range(9)]
    turn = {
        layer: torch.linalg.qr(torch.randn(len(first), len(first)))[0] for layer, first in target.projections.items()
    }
    mixed = {layer: torch.einsum("ij,jk...->ik...", turn[layer], first) for layer, first in target.projections.items()}

    def student(batch: torch.Tensor, layers: list[str]) -> dict[str, torch.Tensor]:
        return target.project(target.teacher(batch, LAYERS))

    actual = rotated(mixed, target.teacher, student, pictures)  # type: ignore[arg-type]
    for layer, expected in target.projections.items():
        assert (actual[layer] - expected).square().sum() < 1e-3 * expected.square().sum()
        assert (mixed[layer] - expected).square().sum() > 0.5 * expected.square().sum()
