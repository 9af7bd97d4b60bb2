"""The benchmarks compare like with like: the plain step's losses are ours; and the judge of quality judges."""

import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "tools"))
import bench_common
import bench_reference
import bench_train
import check_fast_quality

ARGUMENTS = Namespace(
    device="cpu",
    weights=None,
    generator="slim",
    batch=2,
    size=48,
    options=["discriminator=patch34", "discriminator.width=8", "generator.width=4", "generator.blocks=1"],
)


@pytest.fixture(scope="module")
def both():
    """(our run, the plain one with its weights, a batch)."""
    batch = bench_train.make_batch(ARGUMENTS, ARGUMENTS.size, torch.device("cpu"))
    ours = bench_train.Ours(ARGUMENTS, "vgg19", "float32", ARGUMENTS.size)
    ours.prepare(batch)
    return ours, bench_reference.Reference(ours.state, ours.objective), batch


def test_plain_generator_paints_what_ours_paints(both, noise):
    ours, plain, _ = both
    torch.testing.assert_close(plain.generator(noise(1, 3, 32, 48)), ours.state.generator(noise(1, 3, 32, 48)))


def test_plain_step_has_our_losses(both):
    """The first step's; D's opinion is asked after its own update, whose rounding Adam enlarges."""
    ours, plain, batch = both
    theirs, mine = plain.step(batch), ours.step(batch)
    assert theirs.keys() <= mine.keys() and len(theirs) == 5
    for name, value in theirs.items():
        close = {"rtol": 1e-4, "atol": 2e-3 if name == "loss/adversarial" else 1e-7}
        torch.testing.assert_close(mine[name], torch.tensor(value), msg=lambda m, n=name: f"{n}: {m}", **close)


def test_our_step_multiplies_less_and_its_parts_are_the_step(both):
    ours, plain, batch = both
    of_parts = [sum(bench_common.flops(part) for part in way.parts(batch).values()) for way in (ours, plain)]
    assert of_parts[0] < 0.8 * of_parts[1]
    assert of_parts[0] == bench_common.flops(lambda: ours.step(batch))


def test_alternation_calls_every_way_as_often():
    calls: list[str] = []
    ways = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    actual = bench_common.alternate(ways, 2, torch.device("cpu"), warm=1)
    assert calls == ["a", "b", "b", "a", "a", "b"]
    assert {name: len(taken) for name, taken in actual.items()} == {"a": 2, "b": 2}


def test_ratio_is_the_median_of_each_round_s_own():
    assert bench_common.ratio([2.0, 40.0, 6.0], [1.0, 10.0, 2.0]) == 3.0


@pytest.mark.parametrize(("fast", "verdict"), [(1.15, "yes"), (0.5, "yes"), (1.5, "NO")])
def test_fast_setting_has_to_end_within_the_seeds_spread(fast, verdict):
    reference = [{"loss/style": 1.0, "loss/adversarial": 0.0}, {"loss/style": 1.2, "loss/adversarial": 0.0}]
    rows = check_fast_quality.judge(reference, [{"loss/style": fast, "loss/adversarial": 9.0}])
    assert [row["within"] for row in rows] == [verdict, "not judged"]
    assert rows[0]["spread"] == pytest.approx(0.2)
