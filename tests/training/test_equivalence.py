"""What is learned does not depend on how a batch is cut: between ranks, or into parts one after the other.

The ranks are two processes (gloo), started once for all that is asked of them; see ranks_driver.py. Weights are
compared under plain SGD: Adam divides a gradient by its own size, so that one that is zero but for rounding (a bias
before an instance normalisation) becomes a whole step in a direction that rounding chose.
"""

import dataclasses
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import ranks_driver
import torch
from ranks_driver import VARIANTS, batch_of, make, train
from torch import Tensor

import gan_style
from gan_style.data.stream import Batch
from gan_style.functional import AUGMENTATIONS
from gan_style.losses.adversarial import Adversarial
from gan_style.runtime.distributed import Ranks, launch
from gan_style.training.step import Precision, train_step

SINGLE_RANK = Ranks()
FLOAT32 = Precision(torch.device("cpu"))
ALL_TERMS = "each, identity, colour, absolute variation, R1, augmented"
Results = dict[str, Any]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Results]:
    """What each of two ranks found of the variants."""
    folder = tmp_path_factory.mktemp("ranks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(gan_style.__file__).parents[1]))  # the checkout that is tested
        patch.setenv("OMP_NUM_THREADS", "1")
        assert launch(2, [sys.executable, str(Path(ranks_driver.__file__)), str(folder), *VARIANTS]) == 0
    first, second = (torch.load(folder / f"{rank}.pt", weights_only=False) for rank in (0, 1))
    return first, second


def apart(first: Tensor, other: Tensor) -> float:
    """The distance, relative to the length."""
    return ((first.double() - other.double()).norm() / first.double().norm()).item()


def flat(weights: dict[str, Tensor], *, vectors: bool) -> Tensor:
    """A network's parameters, or the vectors of its spectral normalisation (where it has none: a one)."""
    flattened = [tensor.flatten() for key, tensor in weights.items() if key.endswith(("_u", "_v")) is vectors]
    return torch.cat(flattened) if flattened else torch.ones(1)


def assert_numbers_agree(first: Results, other: Results, relative: float, names: tuple[str, ...] = ("",)) -> None:
    """Of every step; not the signs of health, of which one tells how samples of a batch differ from each other."""
    for step, (mine, theirs) in enumerate(zip(first["scalars"], other["scalars"], strict=True)):
        assert mine.keys() == theirs.keys()
        for name in mine:
            if name.startswith(names) and not name.startswith("health/"):
                assert theirs[name] == pytest.approx(mine[name], rel=relative, abs=1e-3 * relative), (step, name)


def assert_the_same_was_learned(first: Results, other: Results) -> None:
    """Within float32's rounding, measured at 2e-6, 1e-7 and (of the way gone) 3e-5."""
    assert_numbers_agree(first, other, 1e-5)
    assert first["gradients"].keys() == other["gradients"].keys() >= {"generator"}
    for name, gradient in first["gradients"].items():
        assert apart(gradient, other["gradients"][name]) < 1e-5, name
    for name, weights in first["weights"].items():
        for vectors in (False, True):
            mine, theirs = (flat(x, vectors=vectors) for x in (weights, other["weights"][name]))
            assert apart(mine, theirs) < 1e-6, name
    for name, weight in first["term weights"].items():
        assert other["term weights"][name] == pytest.approx(weight, rel=1e-5)


def assert_it_went_somewhere(results: Results, name: str) -> None:
    """So that agreement means something: the weights have left their place by far more than they may differ."""
    state, _ = make(VARIANTS[name], SINGLE_RANK, 1)
    start = flat(state.generator.state_dict(), vectors=False)
    assert apart(start, flat(results["weights"]["generator"], vectors=False)) > 2e-5


class TestOneRankInParts:
    @pytest.mark.parametrize("name", [name for name in VARIANTS if name not in ("Adam", "bfloat16")])
    def test_learns_what_it_learns_at_once(self, name):
        at_once, cut, finest = (train(VARIANTS[name], SINGLE_RANK, accumulate) for accumulate in (1, 2, 4))
        assert_the_same_was_learned(at_once, cut)
        assert_the_same_was_learned(at_once, finest)
        assert_it_went_somewhere(at_once, name)

    @pytest.mark.slow  # each variant for 20 steps, trained twice
    @pytest.mark.parametrize("name", [name for name in VARIANTS if name not in ("Adam", "bfloat16")])
    def test_stays_near_it_for_twenty_steps(self, name):
        """A unit at its threshold may turn on or off by rounding, so that weights part a little more with time."""
        at_once, cut = (train(VARIANTS[name], SINGLE_RANK, accumulate, steps=20) for accumulate in (1, 2))
        for network, weights in at_once["weights"].items():
            first, other = (flat(x, vectors=False) for x in (weights, cut["weights"][network]))
            assert apart(first, other) < 1e-2  # measured: up to 2e-3

    def test_has_the_losses_it_has_at_once_under_adam(self):
        at_once, cut = (train(VARIANTS["Adam"], SINGLE_RANK, accumulate) for accumulate in (1, 2))
        assert_numbers_agree(at_once, cut, 0.05, ("loss/",))

    def test_makes_the_fakes_anew_and_the_rest_once(self, monkeypatch):
        """Memory for one part's activations is paid with a second forward pass."""
        variant, calls = VARIANTS["Adam"], []
        for accumulate, expected in ((1, [4]), (2, [2] * 4), (4, [1] * 8)):
            state, objective = make(variant, SINGLE_RANK, accumulate)
            calls.clear()
            state.generator.register_forward_hook(lambda _, inputs, output: calls.append(len(inputs[0])))
            train_step(state, batch_of(0, SINGLE_RANK), objective, FLOAT32)
            assert calls == expected


class TestTwoRanks:
    @pytest.mark.parametrize("name", [name for name in VARIANTS if name not in ("Adam", "bfloat16")])
    def test_learn_what_one_learns(self, two, name):
        assert_the_same_was_learned(train(VARIANTS[name], SINGLE_RANK), two[0][name])

    @pytest.mark.parametrize(("name", "relative"), [("Adam", 0.05), ("bfloat16", 0.1)])
    def test_have_the_losses_of_one(self, two, name, relative):
        assert_numbers_agree(train(VARIANTS[name], SINGLE_RANK), two[0][name], relative, ("loss/",))

    @pytest.mark.parametrize("name", VARIANTS)
    def test_hold_the_same_weights_bit_by_bit(self, two, name):
        first, second = (actual[name] for actual in two)
        assert first["scalars"] == second["scalars"] and first["term weights"] == second["term weights"]
        for network, weights in first["weights"].items():
            assert all(torch.equal(tensor, second["weights"][network][key]) for key, tensor in weights.items())

    @pytest.mark.parametrize("optimiser", ["Adam", "SGD"])
    @pytest.mark.parametrize("kind", ["loss", "gradient"])
    def test_both_skip_an_update_that_is_not_finite_on_one(self, two, kind, optimiser):
        """Also where the loss alone is not a number: its gradient is what the ranks exchange."""
        first, second = (actual["poisoned"][kind, optimiser] for actual in two)
        assert first["skipped"] == second["skipped"] == 1
        for before, after, other in zip(first["before"], first["after"], second["after"], strict=True):
            assert torch.equal(before, after) and torch.equal(after, other)


class TestDraws:
    """Augmentation follows from a sample's position in the stream, wherever that stands in a batch."""

    def judged(self, positions: list[int], pictures: list[int], seed: int = 7) -> list[Tensor]:
        """What D sees, sample by sample: real, then fake, then the fake that the generator's half asks about."""
        variant = dataclasses.replace(VARIANTS["Adam"], terms={"adversarial": Adversarial(augment=list(AUGMENTATIONS))})
        (state, objective), full, inputs_seen = make(variant, SINGLE_RANK, 1), batch_of(0, SINGLE_RANK), []
        state.seed = seed
        state.discriminator.register_forward_pre_hook(lambda _, inputs: inputs_seen.extend(inputs[0].detach()))
        state.generator = torch.nn.Identity()
        state.generator_optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.0)
        state.ema.update = lambda _: None
        content = full.content[pictures]
        state.generator.forward = lambda x: x.clone().requires_grad_()
        batch = Batch(content, full.style[pictures], full.style_index[pictures], positions, [])
        train_step(state, batch, objective, FLOAT32)
        assert len(inputs_seen) == 3 * len(positions)
        return inputs_seen

    def test_of_a_sample_are_the_same_at_any_place_of_any_batch(self):
        full = self.judged([0, 1, 2, 3], [0, 1, 2, 3])
        for places in ([2], [3, 1], [1, 0, 2]):
            part = self.judged(places, places)
            for role in range(3):
                for number, place in enumerate(places):
                    mine, theirs = part[role * len(places) + number], full[role * 4 + place]
                    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)

    def test_differ_between_positions_seeds_and_roles(self):
        """On one picture, so that only the draws differ."""
        many = self.judged([0, 1, 2, 3], [0, 0, 0, 0]) + self.judged([0, 1, 2, 3], [0, 0, 0, 0], seed=8)
        fakes = [picture for number, picture in enumerate(many) if number % 12 >= 4]
        assert len({picture.numpy().tobytes() for picture in fakes}) == len(fakes) == 16


def test_what_is_measured_on_ranks_is_told_as_of_the_whole_batch(two):
    """A term's pull over all samples: of a mean over 4 each sample's gradient is half of that of a mean over 2."""
    variant = VARIANTS[ALL_TERMS]
    state, objective = make(variant, SINGLE_RANK, 1)
    scalars = train_step(state, batch_of(0, SINGLE_RANK), objective, FLOAT32, audit=True)
    messages = two[0][ALL_TERMS]["scalars"][0]
    names = [name for name in scalars if name.startswith("gradient/")]
    assert len(names) == len(objective.terms) + 1
    for name in names:
        assert math.isclose(messages[name], scalars[name].item(), rel_tol=1e-5), name
