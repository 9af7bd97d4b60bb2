"""tools/distill_*.py: the bank gives back what the teacher says, and the losses are zero where it is matched."""

import random
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from gan_style.images.decode import encode
from gan_style.models.perceptual import COMPACT, compact, vgg19

sys.path.append(str(Path(__file__).parents[1] / "tools"))
import distill_pursuits
from distill_bank import Bank, Goal, content_gradients, seen
from distill_perceptual import (
    Distillation,
    change_loss,
    distance_loss,
    first_bank,
    gradient_loss,
    matching_loss,
    random_crop,
    recoloured,
    side_around,
    tasks_of,
    turned,
)
from distill_pursuits import LAYERS, Ground, Task, pursue, pursue_pictures, pursue_run, stages


@pytest.fixture(scope="module")
def goal() -> Goal:
    torch.manual_seed(3)
    teacher = vgg19(layers=LAYERS, weights="random")
    wide = {f"relu{name}": channels for name, _, channels in teacher.architecture.convolutions()}
    kept = {f"relu{name}": channels for name, _, channels in COMPACT.convolutions()}
    project = {
        layer: torch.linalg.qr(torch.randn(wide[layer], kept[layer]))[0].T[:, :, None, None].contiguous()
        for layer in LAYERS
    }
    return Goal(teacher, project, dict.fromkeys(LAYERS, 1.0))


def test_a_lesson_is_what_the_teacher_makes_of_results_and_their_crops(goal: Goal) -> None:
    crops, results = torch.rand(5, 3, 32, 32) * 2 - 1, torch.rand(9, 3, 32, 32) * 2 - 1
    parents = [0, 0, 4, 1, 2, 2, 3, 4, 1]
    bank = Bank(crops, goal, "cpu")
    bank.add([*results[:4]], parents[:4])
    bank.add([*results[4:]], parents[4:])
    lesson = bank.lesson(7, random.Random(0))
    count = len(lesson.pictures) // 2
    assert count == 7
    for made, crop in zip(lesson.pictures[:count], lesson.pictures[count:], strict=True):
        number = int((results.half().float() - made).abs().amax((1, 2, 3)).argmin())
        torch.testing.assert_close(crop, crops[parents[number]].half().float(), rtol=0, atol=0)
    features = seen(goal.teacher(lesson.pictures, LAYERS))
    for layer in LAYERS:
        projected = F.conv2d(features[layer], goal.project[layer])
        torch.testing.assert_close(lesson.wanted[layer], projected, rtol=2e-3, atol=1e-5)
        change = (features[layer][:count] - features[layer][count:]).square().mean(1)
        torch.testing.assert_close(lesson.changes[layer], change, rtol=2e-3, atol=1e-6)
    assert features["relu1_1"].shape[-1] == 16 and features["relu2_1"].shape[-1] == 16
    made, kept = (one.clone().requires_grad_() for one in lesson.pictures.split(count))
    change = goal.teacher(made, ["relu3_2"])["relu3_2"] - goal.teacher(kept, ["relu3_2"])["relu3_2"]
    pushed = content_gradients(change, made)
    assert (lesson.gradients.square().mean((1, 2, 3)) - 1).abs().max() < 1e-3
    assert F.cosine_similarity(pushed.flatten(1), lesson.gradients.flatten(1)).min() > 0.999


def test_a_third_of_a_lesson_is_of_the_results_added_last(goal: Goal) -> None:
    bank = Bank(torch.rand(2, 3, 16, 16), goal, "cpu")
    bank.add([*torch.full((8, 3, 16, 16), -1.0)], [0, 1] * 4)
    bank.add([*torch.full((2, 3, 16, 16), 1.0)], [0, 1])
    newest = bank.lesson(600, random.Random(0)).pictures[:600].mean((1, 2, 3)) == 1
    assert newest.float().mean().item() == pytest.approx(1 / 3 + 2 / 3 * 2 / 10, abs=0.06)


def test_content_gradients_say_how_the_content_loss_changes(goal: Goal) -> None:
    torch.manual_seed(0)
    teacher = vgg19(layers=LAYERS, weights="random").double()
    teacher.load_state_dict(goal.teacher.state_dict())
    results, crops, way = (torch.rand(2, 3, 16, 16, dtype=torch.float64) - 0.5 for _ in range(3))

    def change(pictures: torch.Tensor) -> torch.Tensor:
        return teacher(pictures, ["relu3_2"])["relu3_2"] - teacher(crops, ["relu3_2"])["relu3_2"]

    def losses(pictures: torch.Tensor) -> torch.Tensor:
        return change(pictures).square().mean((1, 2, 3))

    results.requires_grad_()
    pushed = content_gradients(change(results), results).double()
    with torch.no_grad():
        expected = (losses(results + 1e-6 * way) - losses(results - 1e-6 * way)) / 2e-6
    torch.testing.assert_close((pushed * way).sum((1, 2, 3)), expected, rtol=1e-4, atol=0)
    # a loss on them reaches every weight that the content loss sees, and none behind it
    teacher.requires_grad_(True)
    content_gradients(change(results), results, keep_graph=True).square().sum().backward()
    reached = {key for key, one in teacher.features.named_parameters() if one.grad is not None and one.grad.any()}
    assert {int(key.split(".")[0]) for key in reached if key.endswith("weight")} == {0, 2, 5, 7, 10, 12}


def test_lessons_in_bfloat16_are_those_in_float32(goal: Goal) -> None:
    torch.manual_seed(0)
    crops, results = (torch.rand(3, 3, 32, 32) * 2 - 1 for _ in range(2))
    lessons = []
    for one in (goal, replace(goal, dtype=torch.bfloat16)):
        bank = Bank(crops, one, "cpu")
        bank.add([*results], [2, 0, 1])
        lessons.append(bank.lesson(4, random.Random(0)))
    for layer in LAYERS[:4]:  # random weights leave almost nothing of a change below
        for one, other in ((lesson.wanted[layer], lesson.changes[layer]) for lesson in lessons):
            assert one.dtype == other.dtype == torch.float32
        for one, other in ([lesson.wanted[layer] for lesson in lessons], [lesson.changes[layer] for lesson in lessons]):
            assert 0 < (one - other).norm() < 0.02 * one.norm()
    cosines = F.cosine_similarity(lessons[0].gradients.flatten(1), lessons[1].gradients.flatten(1))
    assert cosines.min() > 0.98 and cosines.max() < 1


def test_losses_are_zero_where_the_teacher_is_matched_and_not_elsewhere() -> None:
    torch.manual_seed(0)
    wanted = {layer: torch.randn(2, 4, 5, 5) for layer in LAYERS}
    changes = {layer: one.square().mean(1) for layer, one in wanted.items()}
    sizes = dict.fromkeys(LAYERS, 1.0)
    for loss in (matching_loss(wanted, wanted), change_loss(wanted, wanted), distance_loss(wanted, changes, sizes)):
        assert loss.item() == pytest.approx(0, abs=1e-6)
    gradients = torch.randn(2, 3, 8, 8)
    assert gradient_loss(gradients / 2, gradients).item() == pytest.approx(0, abs=1e-6)  # only where it points counts
    assert gradient_loss(-gradients, gradients).item() == pytest.approx(2, abs=1e-6)
    half = {layer: one / 2 for layer, one in wanted.items()}
    assert matching_loss(half, wanted).item() > 1 and change_loss(half, wanted).item() > 1
    # a quarter of the amount at each layer: the logarithm is known, the local part is at most 2 * 1/4
    shares = 4 * 0.5 / 2 + 2 * 0.7 + 3 + 2
    amount = (torch.tensor(4.0).log().item() - 0.05 / 2) * 5 * shares
    assert amount * 0.97 < distance_loss(half, changes, sizes).item() < amount + 0.5 * shares


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
    made = [recoloured(picture, rng) for _ in range(200)]
    same = sum(torch.equal(one, picture) for one in made)
    assert 80 < same < 120 and all(one.abs().max() <= 1 for one in made)
    flat = torch.cat([picture.flatten(1), torch.ones(1, 1024)])  # what is not cut off is linear in the colours
    for one in made:
        inside = (one.abs() < 1).all(0).flatten()
        if inside.sum() > 50:
            fit = torch.linalg.lstsq(flat[:, inside].T, one.flatten(1)[:, inside].T).solution
            assert (fit.T @ flat[:, inside] - one.flatten(1)[:, inside]).abs().max() < 1e-4


def test_stages_of_a_way_lie_one_in_each_part_of_it() -> None:
    assert [(move - 1) // 20 for move in sorted(stages(8, 160, random.Random(1)))] == list(range(8))


def test_the_teacher_is_pursued_once_and_nothing_twice() -> None:
    for first in (0, 1):
        asked = Namespace(pursuits=2, runs=3, seed=0)
        found = [[task.network for task in tasks_of(number, first, asked)] for number in range(3)]
        assert [one.count("vgg19") for one in found] == [3 * (number == first) for number in range(3)]
        assert [one.count("compact") for one in found] == [11 * (number >= first) for number in range(3)]
    runs = [Namespace(pursuits=2, runs=1, seed=seed) for seed in (0, 1)]
    seeds = [task.seed for run in runs for number in range(3) for task in tasks_of(number, 0, run)]
    assert len(set(seeds)) == len(seeds) == 2 * (3 * 9 + 2)


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
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
    return Ground(tmp_path / "crops.pt", weights, folders, "cpu")


def test_eight_stages_of_each_pursued_picture_are_kept(ground: Ground) -> None:
    crops = torch.load(ground.crops).float()
    pursued = pursue([Task("compact", pursue_pictures, 0)], ground, processes=1)
    assert len(pursued.results) == 64 and pursued.parents == pursued.parents[:8] * 8
    assert all(result.dtype == torch.float16 and result.abs().max() <= 1 for result in pursued.results)
    changes = [
        (result.float() - crops[parent]).square().mean()
        for result, parent in zip(pursued.results, pursued.parents, strict=True)
    ]
    assert sum(changes[-8:]) > sum(changes[:8]) > 0


def test_a_run_is_pursued_at_six_stages(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distill_pursuits, "RUN_STEPS", 6)
    crops = torch.load(ground.crops).float()
    pursued = pursue_run(Task("compact", pursue_run, 5), ground, crops, random.Random(0))
    assert len(pursued.results) == 6 * 9 and all(result.shape == (3, 16, 16) for result in pursued.results)
    assert sorted(pursued.parents[:9]) == list(range(9))
    stages = [torch.stack(pursued.results[start : start + 9]) for start in range(0, 54, 9)]
    by_parent = [
        dict(zip(pursued.parents[9 * number : 9 * number + 9], stage, strict=True))
        for number, stage in enumerate(stages)
    ]
    assert all(not torch.equal(by_parent[0][parent], by_parent[-1][parent]) for parent in range(9))


def test_a_bank_of_before_is_learned_from_with_its_own_crops(goal: Goal, tmp_path: Path) -> None:
    before = Bank(torch.rand(3, 3, 32, 32), goal, "cpu")
    before.add([*(before.crops[[2, 0]] / 2)], [2, 0])
    before.save(tmp_path / "bank.pt")
    asked = Namespace(crops=4, size=32, bank=tmp_path / "bank.pt", device="cpu")
    pictures = [torch.randint(0, 255, (3, 40, 50), dtype=torch.uint8)]
    bank = first_bank(pictures, goal, asked, random.Random(0))
    assert len(bank.crops) == 7 and bank.parents.tolist() == [0, 2, 6, 4]
    torch.testing.assert_close(bank.results[2:], bank.crops[[6, 4]] / 2)
    asked.bank = tmp_path / "not yet there.pt"
    assert len(first_bank(pictures, goal, asked, random.Random(0)).results) == 2


def test_a_student_learns_and_its_matrices_are_its_weights(goal: Goal) -> None:
    torch.manual_seed(1)
    bank = Bank(torch.rand(4, 3, 32, 32) * 2 - 1, goal, "cpu")
    bank.add([*(bank.crops / 2)], [0, 1, 2, 3])
    student = compact(layers=LAYERS, weights="random").to(memory_format=torch.channels_last)
    before = {name: one.clone() for name, one in student.state_dict().items()}
    distillation = Distillation(student, bank, Namespace(rate=3e-3, steps=40, batch=4, seed=0))
    distillation.go_on(20)
    first = sum(distillation.shown.values()) / (1 - 0.98**20)
    distillation.shown = dict.fromkeys(distillation.shown, 0.0)
    distillation.go_on(20)
    assert sum(distillation.shown.values()) / (1 - 0.98**20) < 0.95 * first
    changed = {name for name, one in student.state_dict().items() if not torch.equal(one, before[name])}
    assert changed == {name for name, _ in student.named_parameters()}


def test_directions_are_turned_into_the_basis_that_a_student_knows(goal: Goal) -> None:
    torch.manual_seed(2)
    pictures = [torch.rand(3, 96, 96) * 2 - 1 for _ in range(3)]
    turn = {layer: torch.linalg.qr(torch.randn(len(one), len(one)))[0] for layer, one in goal.project.items()}
    mixed = {layer: torch.einsum("ij,jk...->ik...", turn[layer], one) for layer, one in goal.project.items()}

    def student(batch: torch.Tensor, layers: list[str]) -> dict[str, torch.Tensor]:
        return goal.projected(goal.teacher(batch, layers))

    found = turned(mixed, goal.teacher, student, pictures)  # type: ignore[arg-type]
    for layer, wanted in goal.project.items():
        assert (found[layer] - wanted).square().sum() < 1e-3 * wanted.square().sum()
        assert (mixed[layer] - wanted).square().sum() > 0.5 * wanted.square().sum()
