"""The training step: what each half changes, what it leaves alone, and what it returns."""

import copy
import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from run_files import assert_same
from torch import Tensor, nn

from gan_style.functional import AUGMENTATIONS
from gan_style.images.decode import to_float
from gan_style.losses.adversarial import FORMULAS, Adversarial
from gan_style.losses.content import Content, GatysContent, content_loss
from gan_style.losses.pixel import AbsoluteVariation, Colour, Identity
from gan_style.losses.style import Style
from gan_style.training.step import Precision, train_step

FLOAT32 = Precision(torch.device("cpu"))
BFLOAT16 = Precision(torch.device("cpu"), torch.bfloat16)
SGD = torch.optim.SGD  # without momentum: a step is minus the learning rate times the gradient
HEALTH_KEYS = {f"health/{name}" for name in ("saturated", "spread", "variety")}


def snapshot(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers."""
    return copy.deepcopy(network.state_dict())


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    assert first and first.keys() == second.keys()
    return all(torch.equal(first[key], second[key]) for key in first)


@pytest.fixture
def step(make_state, make_objective, make_batch) -> Callable[..., tuple[Any, dict[str, Tensor]]]:
    """Take steps on noise and give back the state and the last step's scalars."""

    def take(count: int = 1, *, precision=FLOAT32, state=None, terms=None, audit: bool = False, **fields: Any):
        objective = make_objective(**(terms or {}))
        state = state or make_state(adversarial=objective.adversarial is not None, **fields)
        for _ in range(count):
            scalars = train_step(state, make_batch(state.step), objective, precision, audit=audit)
        return state, scalars

    return take


class TestHalves:
    def test_each_changes_its_own_network_alone(self, make_state, step):
        """D is looked at when the generator's half asks it for logits, in eval mode."""
        state, between = make_state(), {}

        def look(module: nn.Module, _: Any) -> None:
            if not module.training:
                between.update(G=snapshot(state.generator), D=snapshot(state.discriminator))

        state.discriminator.register_forward_pre_hook(look)
        before = {"G": snapshot(state.generator), "D": snapshot(state.discriminator)}
        step(state=state)
        assert same(before["G"], between["G"])  # the discriminator's half leaves G
        assert same(between["D"], snapshot(state.discriminator))  # the generator's half leaves D, buffers too
        after_d, after_g = between["D"], snapshot(state.generator)
        assert not any(torch.equal(before["D"][key], after_d[key]) for key in before["D"] if "original" in key)
        assert not all(torch.equal(before["D"][key], after_d[key]) for key in before["D"] if key.endswith("_u"))
        assert state.discriminator.training and all(p.requires_grad for p in state.discriminator.parameters())
        assert not any(torch.equal(before["G"][key], after_g[key]) for key in before["G"] if key.endswith("weight"))

    @pytest.mark.parametrize(
        ("terms", "warmup_steps", "expected"),
        [
            ({}, 0, [2, 2]),
            ({"identity": Identity(weight=1.0)}, 0, [4, 4]),  # the style pictures ride along
            ({"identity": Identity(weight=1.0)}, 1, [2, 4]),  # but for the warm-up
            ({"adversarial": None}, 0, [2, 2]),
        ],
    )
    def test_share_one_generator_forward(self, make_state, step, terms, warmup_steps, expected):
        adversarial = terms.get("adversarial", True) is not None
        state, batch_sizes = make_state(adversarial=adversarial, warmup_steps=warmup_steps), []
        state.generator.register_forward_hook(lambda _, inputs, output: batch_sizes.append(len(inputs[0])))
        step(2, state=state, terms=terms)
        assert batch_sizes == expected

    def test_discriminator_is_trained_on_style_and_the_detached_fake(self, make_state, make_batch, step):
        state, calls = make_state(), []
        state.discriminator.register_forward_pre_hook(lambda module, inputs: calls.append((module.training, inputs[0])))
        with torch.no_grad():
            fake = state.generator(to_float(make_batch(0).content))
        step(state=state)
        (training, judged), (eval_training, eval_images) = calls
        assert training and not eval_training
        assert not judged.requires_grad and eval_images.requires_grad
        torch.testing.assert_close(judged, torch.cat([to_float(make_batch(0).style), fake]), rtol=1e-4, atol=1e-5)
        assert torch.equal(eval_images, judged[2:])

    def test_generators_half_asks_the_updated_discriminator(self, make_state, make_batch, step):
        state = make_state(generator_optimiser=None, optimiser=SGD)
        state.generator_optimiser = SGD(state.generator.parameters(), lr=0.0)
        _, scalars = step(state=state)
        with torch.no_grad():
            logits = state.discriminator.eval()(state.generator(to_float(make_batch(0).content)))
        torch.testing.assert_close(scalars["loss/adversarial"], -logits[0].mean(), rtol=1e-4, atol=1e-6)

    def test_compare_with_the_style_pictures_that_the_batch_names(self, make_state, make_objective, make_batch):
        """Not with the crops beside them, nor with the set's first ones."""
        actual = {}
        for numbers in ((0, 1), (1, 0), (1, 1), (0, 0)):
            batch = make_batch(0)
            batch.style_index = torch.tensor(numbers)
            state, objective = make_state(), make_objective(style_target="each")
            actual[numbers] = train_step(state, batch, objective, FLOAT32)["loss/style"].item()
        assert len(set(actual.values())) == 4
        assert actual[0, 1] + actual[1, 0] == pytest.approx(actual[0, 0] + actual[1, 1], rel=1e-5)

    def test_descend_the_gradients_of_their_losses(self, make_state, make_objective, make_batch):
        """G's change under SGD is minus the learning rate times the gradient, found here once more by itself."""
        state = make_state(optimiser=SGD, schedule=lambda step: 1.0)
        objective = make_objective(adversarial=None, style=None, tv=None)
        other, batch = copy.deepcopy(state.generator), make_batch(0)
        train_step(state, batch, objective, FLOAT32)
        content = to_float(batch.content)
        features, expected = (objective.perceptual(x, ["relu2_1"])["relu2_1"] for x in (other(content), content))
        content_loss(features, expected).backward()
        for now, before in zip(state.generator.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(now, before - 1e-3 * before.grad, rtol=1e-4, atol=1e-7)

    def test_leave_the_discriminator_ready_to_train_also_when_the_generators_half_fails(
        self, make_state, make_objective, make_batch, monkeypatch
    ):
        state, objective = make_state(), make_objective()

        def fail(*_, **__):
            assert not state.discriminator.training  # it is the generator's half that fails
            raise MemoryError("no more")

        monkeypatch.setattr(objective, "generator_loss", fail)
        with pytest.raises(MemoryError):
            train_step(state, make_batch(), objective, FLOAT32)
        assert state.discriminator.training and all(p.requires_grad for p in state.discriminator.parameters())
        assert state.step == 0

    def test_generators_half_leaves_no_gradient_on_the_discriminator(self, make_state, step):
        """What D's parameters hold after a step is the gradient of D's own half."""
        state, at_the_ask = make_state(), {}

        def keep(module: nn.Module, _: Any) -> None:
            if not module.training:
                at_the_ask.update({name: p.grad.clone() for name, p in module.named_parameters()})

        state.discriminator.register_forward_pre_hook(keep)
        step(state=state)
        assert at_the_ask and all(torch.equal(p.grad, at_the_ask[n]) for n, p in state.discriminator.named_parameters())


class TestWarmUp:
    def test_trains_on_content_alone_while_the_discriminator_rests(self, make_state, step):
        state = make_state(warmup_steps=2)
        before = snapshot(state.discriminator)
        _, scalars = step(2, state=state, terms={"identity": Identity(weight=1.0)})
        assert scalars.keys() == {"loss/content", "loss/total", "generator/gradient", "generator/skipped"}
        assert torch.equal(scalars["loss/content"], scalars["loss/total"])
        assert same(before, snapshot(state.discriminator))
        assert not state.discriminator_optimiser.state
        single, _ = step(2, terms={"adversarial": None, "style": None, "tv": None})
        assert same(snapshot(state.generator), snapshot(single.generator))

    def test_ends_after_its_steps(self, make_state, step):
        state = make_state(warmup_steps=2)
        step(2, state=state)
        before = snapshot(state.discriminator)
        _, scalars = step(state=state)
        assert {"loss/adversarial", "loss/style", "discriminator/loss"} <= scalars.keys()
        assert not same(before, snapshot(state.discriminator))


class TestAudit:
    @pytest.mark.parametrize("precision", [FLOAT32, BFLOAT16], ids=["float32", "bfloat16"])
    @pytest.mark.parametrize("warmup_steps", [0, 2, 3])
    @pytest.mark.parametrize(
        "terms",
        [
            {},
            {"adversarial": Adversarial(r1=1.0, augment=list(AUGMENTATIONS)), "style_target": "each"},
            {"colour": Colour(weight=1.0), "tv": AbsoluteVariation(weight=0.0)},
            {"identity": Identity(weight=1.0)},
            {"adversarial": None},
            {"balance": {"adversarial": 1, "style": 1}},
        ],
        ids=["default", "augmented", "weight 0", "identity", "no adversarial term", "balance"],
    )
    def test_changes_nothing_of_what_is_trained(self, step, terms, warmup_steps, precision):
        options = {"terms": terms, "precision": precision, "warmup_steps": warmup_steps, "clip": 1.0}
        (state, plain), (audited, actual) = (step(3, audit=audit, **options) for audit in (False, True))
        assert_same(state.state_dict(), audited.state_dict())
        names = {key.split("/")[1] for key in actual if key.startswith("gradient/")}
        assert names and all(torch.equal(plain[key], actual[key]) for key in plain)

    @pytest.mark.parametrize("terms", [{}, {"identity": Identity(weight=1.0)}], ids=["default", "identity"])
    def test_tells_of_every_term_once_that_is_trained_on(self, step, terms):
        _, scalars = step(audit=True, terms=terms)
        names = {"adversarial", "content", "style", "tv", *terms}
        assert {key for key in scalars if key.startswith("gradient/")} == {f"gradient/{name}" for name in names}
        assert all(scalars[f"gradient/{name}"] > 0 for name in names) and scalars.keys() >= HEALTH_KEYS
        assert all(isinstance(x, Tensor) and x.dim() == 0 and not x.requires_grad for x in scalars.values())

    def test_measures_at_the_generators_output(self, make_state, make_objective, make_batch):
        """Identity has a closed form there; the discriminator asked is the one just trained."""
        state = make_state()
        objective = make_objective(identity=Identity(weight=2.0))
        batch, before = make_batch(0), copy.deepcopy(state.generator)
        scalars = train_step(state, batch, objective, FLOAT32, audit=True)
        fake = before(to_float(batch.content)).detach().requires_grad_()
        assert scalars["gradient/identity"].item() == pytest.approx(fake.numel() ** -0.5, rel=1e-5)
        adversarial = -state.discriminator.eval()(fake)[0].mean()
        expected = torch.autograd.grad(adversarial, fake)[0].norm()
        assert scalars["gradient/adversarial"].item() == pytest.approx(expected.item(), rel=1e-4)

    def test_in_the_warm_up_tells_of_all_terms_but_the_resting_discriminators(self, make_state, step):
        state, batch_sizes = make_state(warmup_steps=2), []
        state.generator.register_forward_hook(lambda _, inputs, output: batch_sizes.append(len(inputs[0])))
        before = snapshot(state.discriminator)
        _, scalars = step(2, state=state, terms={"identity": Identity(weight=1.0)}, audit=True)
        names = {"content", "style", "tv", "identity"}
        messages = {f"{kind}/{name}" for kind in ("gradient", "loss") for name in names}
        assert scalars.keys() == messages | HEALTH_KEYS | {"loss/total", "generator/gradient", "generator/skipped"}
        assert torch.equal(scalars["loss/total"], scalars["loss/content"])
        assert same(before, snapshot(state.discriminator))
        assert batch_sizes == [4, 4]  # the style pictures too, which the warm-up otherwise leaves out
        single, _ = step(2, terms={"adversarial": None, "style": None, "tv": None})
        assert same(snapshot(state.generator), snapshot(single.generator))


class TestBalance:
    @pytest.mark.parametrize(
        ("balance", "trains"),
        [({"content": 1, "style": 1}, False), ({"adversarial": 1, "style": 1}, True)],
    )
    @pytest.mark.parametrize("audit", [False, True])
    def test_lets_the_discriminator_train_in_the_warm_up_only_where_its_pull_is_asked_for(
        self, make_state, step, balance, trains, audit
    ):
        state = make_state(warmup_steps=2)
        before = snapshot(state.discriminator)
        _, scalars = step(2, state=state, terms={"balance": balance}, audit=audit)
        assert same(before, snapshot(state.discriminator)) is not trains
        assert ("discriminator/loss" in scalars) is trains
        assert ("gradient/adversarial" in scalars) is (trains and audit)
        assert torch.equal(scalars["loss/total"], scalars["loss/content"])
        single, _ = step(2, terms={"adversarial": None, "style": None, "tv": None})
        assert same(snapshot(state.generator), snapshot(single.generator))  # the generator's warm-up is as it was


class TestScalars:
    def test_are_named_by_term_detached_and_still_tensors(self, step):
        _, scalars = step(terms={"adversarial": Adversarial(r1=1.0), "colour": Colour(weight=0.0)})
        of_discriminator = {f"discriminator/{name}" for name in ("loss", "real", "fake", "r1", "gradient", "skipped")}
        of_generator = {f"loss/{name}" for name in ("adversarial", "content", "style", "tv", "colour", "total")}
        assert scalars.keys() == of_discriminator | of_generator | {"generator/gradient", "generator/skipped"}
        assert all(isinstance(x, Tensor) and x.dim() == 0 and not x.requires_grad for x in scalars.values())

    @pytest.mark.parametrize("precision", [FLOAT32, BFLOAT16], ids=["float32", "bfloat16"])
    @pytest.mark.parametrize("audit", [False, True])
    @pytest.mark.parametrize("accumulate", [1, 2])
    @pytest.mark.parametrize("optimiser", [torch.optim.Adam, SGD])
    def test_no_number_is_waited_for(
        self, make_state, make_objective, make_batch, monkeypatch, precision, audit, accumulate, optimiser
    ):
        """On a GPU each ``.item()``, ``float`` or ``if`` on a tensor would stop the step until the device is idle.

        Of the optimisers the fused ones alone leave a step out without such a wait.
        """
        fused = functools.partial(optimiser, fused=True)
        state, batch = make_state(optimiser=fused, clip=1.0, accumulate=accumulate), make_batch()
        adversarial = Adversarial(r1=1.0, augment=list(AUGMENTATIONS))
        objective = make_objective(adversarial=adversarial, identity=Identity(weight=1.0), style_target="each")

        def wait(*_):
            raise AssertionError("the step waits for a number")

        with monkeypatch.context() as patch:
            for name in ("item", "tolist", "numpy", "__float__", "__int__", "__bool__", "__index__"):
                patch.setattr(Tensor, name, wait)
            train_step(state, batch, objective, precision, audit=audit)
        assert state.step == 1

    def test_total_is_the_weighted_sum(self, step):
        _, scalars = step()
        weights = {"adversarial": 0.5, "content": 1.0, "style": 1.0, "tv": 0.1}
        expected = sum(weight * scalars[f"loss/{name}"] for name, weight in weights.items())
        torch.testing.assert_close(scalars["loss/total"], expected)


class TestClip:
    @pytest.mark.parametrize("clip", [1e-3, 0.5])
    def test_limits_each_networks_gradient(self, make_state, step, clip):
        state = make_state(optimiser=SGD, clip=clip, schedule=lambda step: 1.0)
        before = {"generator": snapshot(state.generator), "discriminator": snapshot(state.discriminator)}
        _, scalars = step(state=state)
        for name, network in (("generator", state.generator), ("discriminator", state.discriminator)):
            moved = [p.detach() - before[name][key] for key, p in network.named_parameters()]
            length = torch.cat([x.flatten() for x in moved]).double().norm().item() / 1e-3  # by the learning rate
            assert length == pytest.approx(min(clip, scalars[f"{name}/gradient"].item()), rel=0.02)
        assert scalars["generator/gradient"] > 1e-3

    def test_leaves_small_gradients_alone(self, step):
        plain, _ = step()
        clipped, scalars = step(clip=1e6)
        assert same(snapshot(plain.generator), snapshot(clipped.generator))
        assert scalars["generator/gradient"] > 0


class TestTime:
    def test_steps_are_counted_and_the_ema_follows(self, make_state, step):
        state = make_state()
        before = snapshot(state.ema.network)
        step(3, state=state)
        assert (state.step, state.ema.updates) == (3, 3)
        assert not same(before, snapshot(state.ema.network))
        assert not same(snapshot(state.generator), snapshot(state.ema.network))

    def test_learning_rates_follow_the_schedule(self, make_state, step):
        state, rates = make_state(schedule=lambda step: 1 / (1 + step)), []
        for _ in range(3):
            step(state=state)
            rates.append([x.param_groups[0]["lr"] for x in (state.generator_optimiser, state.discriminator_optimiser)])
        assert rates == [pytest.approx([1e-3 / n] * 2) for n in (1, 2, 3)]


VARIANTS = {
    **{formula: {"adversarial": Adversarial(formula=formula)} for formula in FORMULAS},
    **{kind: {"adversarial": Adversarial(augment=[kind])} for kind in AUGMENTATIONS},
    "r1": {"adversarial": Adversarial(r1=10.0)},
    "r1, augmented": {"adversarial": Adversarial(r1=10.0, augment=list(AUGMENTATIONS))},
    "identity, colour": {"identity": Identity(weight=1.0), "colour": Colour(weight=1.0)},
    "absolute variation": {"tv": AbsoluteVariation(weight=0.1)},
    "mean target": {"style_target": "mean"},
    "each target": {"style_target": "each"},
    **{kind.__name__: {"style": kind(weight=1.0, layers=["relu1_1"], grey=True)} for kind in Style.__subclasses__()},
    "Gatys": {"content": GatysContent(weight=1e-3, layers=["relu2_1"])},
    "no adversarial term": {"adversarial": None},
    "no content": {"content": None},
    "no style": {"style": None},
    "adversarial alone": {"content": None, "style": None, "tv": None},
}


@pytest.mark.parametrize("precision", [FLOAT32, BFLOAT16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_trains_with_finite_numbers(step, make_state, precision, name):
    terms = VARIANTS[name]
    state = make_state(adversarial=terms.get("adversarial", True) is not None, clip=1.0)
    before = snapshot(state.generator)
    _, scalars = step(2, state=state, terms=terms, precision=precision)
    assert all(scalar.isfinite() for scalar in scalars.values())
    assert all(parameter.isfinite().all() for parameter in state.generator.parameters())
    assert not same(before, snapshot(state.generator))
    assert ("loss/adversarial" in scalars) is (state.discriminator is not None)


def test_content_alone_learns_to_keep_the_content(make_state, make_objective, make_batch):
    """Sixty steps on one batch more than halve the loss: the gradients point the right way."""
    objective = make_objective(adversarial=None, style=None, tv=None, content=Content(weight=1.0, layers=["relu1_1"]))
    state = make_state(adversarial=False, schedule=lambda step: 5.0)
    losses = [train_step(state, make_batch(), objective, FLOAT32)["loss/total"].item() for _ in range(60)]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("count", [1, 3])
def test_bfloat16_gives_the_losses_of_float32(step, count):
    """bfloat16 has eight bits: each loss within 3 %, or 0.01 where it is near zero; kept in float32 all the same."""
    terms = {"adversarial": Adversarial(r1=1.0), "identity": Identity(weight=1.0), "colour": Colour(weight=1.0)}
    (state, full), (_, half) = (step(count, precision=precision, terms=terms) for precision in (FLOAT32, BFLOAT16))
    assert full.keys() == half.keys()
    for name in full:
        if not name.endswith("gradient"):
            assert half[name].dtype == torch.float32
            assert half[name].item() == pytest.approx(full[name].item(), rel=0.03, abs=0.01), name
    assert all(parameter.dtype == torch.float32 for parameter in state.generator.parameters())
