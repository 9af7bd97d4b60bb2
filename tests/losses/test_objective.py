"""The objective: named, weighted terms over one perceptual network."""

import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from gan_style.functional import channel_moments, gram_matrix, grey, total_variation_squared
from gan_style.losses.adversarial import FORMULAS, Adversarial
from gan_style.losses.content import Content, content_loss
from gan_style.losses.objective import Objective, content_layers, mean_gram, style_layers
from gan_style.losses.pixel import Colour, Identity, SquaredVariation, colour_loss
from gan_style.losses.style import CentredGramStyle, GatysStyle, GramStyle, MomentStyle, Style, gram_loss
from gan_style.losses.term import AuxiliaryPass, LossInputs
from gan_style.models.perceptual import compact

LAYERS = ["relu1_1", "relu2_1"]


@pytest.fixture
def loss_inputs(noise) -> LossInputs:
    """The first content stands beside the style set's number 1, the second beside number 0."""
    fake = noise(2, 3, 16, 16).requires_grad_()
    return LossInputs(noise(2, 3, 16, 16, seed=1), noise(2, 3, 16, 16, seed=2), fake, style_index=torch.tensor([1, 0]))


def gradient(objective: Objective, loss_inputs: LossInputs, *, warming_up: bool = False) -> Tensor:
    loss, _ = objective.generator_loss(loss_inputs, None, warming_up=warming_up)
    return torch.autograd.grad(loss, loss_inputs.fake)[0]


class TestSum:
    def test_is_that_of_the_weighted_terms_each_computed_by_itself(self, make_objective, loss_inputs, noise):
        objective = make_objective(
            content=Content(weight=2.0, layers=["relu2_1"]),
            style=GramStyle(weight=3.0, layers=LAYERS, target="each"),
            tv=SquaredVariation(weight=0.5),
        )
        styles = noise(2, 3, 20, 12, seed=30)
        objective.set_style("each", enumerate(styles.split(1)))
        logits = [torch.tensor([1.0, -3.0])]
        loss, parts = objective.generator_loss(loss_inputs, logits, warming_up=False)
        fake, content, style = (
            objective.perceptual(x, LAYERS) for x in (loss_inputs.fake, loss_inputs.content, styles.flip(0))
        )
        of_layers = [gram_loss(gram_matrix(fake[x]), gram_matrix(style[x])) for x in ("relu1_1", "relu2_1")]
        expected = {
            "adversarial": torch.tensor(1.0),  # hinge: minus the mean logit
            "content": content_loss(fake["relu2_1"], content["relu2_1"]),
            "style": sum(of_layers) / 2,
            "tv": total_variation_squared(loss_inputs.fake),
        }
        assert parts.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(parts[name], value)
        weights = {"adversarial": 0.5, "content": 2.0, "style": 3.0, "tv": 0.5}
        torch.testing.assert_close(loss, sum(weights[name] * value for name, value in expected.items()))

    def test_removing_a_term_removes_its_share_and_its_name(self, make_objective, loss_inputs):
        total, parts = make_objective().generator_loss(loss_inputs, None, warming_up=False)
        without, fewer = make_objective(tv=None).generator_loss(loss_inputs, None, warming_up=False)
        torch.testing.assert_close(total - without, 0.1 * parts["tv"])
        assert parts.keys() - fewer.keys() == {"tv"}


class TestWeightZero:
    def test_logs_the_term_and_does_not_train_on_it(self, make_objective, loss_inputs):
        watched = make_objective(tv=SquaredVariation(weight=0.0))
        _, parts = watched.generator_loss(loss_inputs, None, warming_up=False)
        torch.testing.assert_close(parts["tv"], total_variation_squared(loss_inputs.fake))
        assert torch.equal(gradient(watched, loss_inputs), gradient(make_objective(tv=None), loss_inputs))

    def test_of_the_adversarial_term_logs_it_too(self, make_objective, loss_inputs):
        objective = make_objective(adversarial=Adversarial(weight=0.0))
        logits = [loss_inputs.fake.mean(dim=1)]
        loss, parts = objective.generator_loss(loss_inputs, logits, warming_up=False)
        torch.testing.assert_close(parts["adversarial"], -loss_inputs.fake.mean())
        without, _ = make_objective(adversarial=None).generator_loss(loss_inputs, None, warming_up=False)
        torch.testing.assert_close(loss, without)

    def test_everywhere_gives_a_zero_that_can_be_trained_on(self, make_objective, loss_inputs):
        objective = make_objective(
            adversarial=Adversarial(weight=0.0),
            content=Content(weight=0.0, layers=["relu2_1"]),
            style=GramStyle(weight=0.0, layers=["relu1_1"], target="each"),
            tv=SquaredVariation(weight=0.0),
        )
        loss, parts = objective.generator_loss(loss_inputs, [loss_inputs.fake.mean(dim=1)], warming_up=False)
        assert loss == 0 and all(part != 0 for part in parts.values())
        for warming_up in (False, True):
            assert gradient(objective, loss_inputs, warming_up=warming_up).count_nonzero() == 0


class TestStyleTargets:
    def test_mean_gram_is_the_mean_over_pictures_of_any_size(self, noise):
        torch.manual_seed(0)
        network = compact(layers=LAYERS, weights="random")
        pictures = [noise(1, 3, 16, 16), noise(1, 3, 24, 10, seed=1), noise(1, 3, 9, 33, seed=2)]
        result = mean_gram(network, iter(pictures), LAYERS)
        for layer in LAYERS:
            grams = [gram_matrix(network(picture, [layer])[layer]) for picture in pictures]
            torch.testing.assert_close(result[layer], sum(grams) / 3)
            assert not result[layer].requires_grad

    def test_a_fixed_target_is_what_the_results_are_compared_with(self, make_objective, loss_inputs, noise):
        objective = make_objective(style_target="a/picture.jpg")
        assert objective.targets == ["a/picture.jpg"]
        target = noise(1, 3, 20, 28, seed=7)
        objective.set_style("a/picture.jpg", [(0, target)])
        _, parts = objective.generator_loss(loss_inputs, None, warming_up=False)
        result, expected = objective.perceptual(loss_inputs.fake, LAYERS), objective.perceptual(target, LAYERS)
        losses = [gram_loss(gram_matrix(result[x]), gram_matrix(expected[x])) for x in LAYERS]
        torch.testing.assert_close(parts["style"], sum(losses) / 2)

    @pytest.mark.parametrize("kind", Style.__subclasses__())
    @pytest.mark.parametrize("without_colours", [False, True])
    def test_of_crops_are_each_samples_own(self, make_objective, loss_inputs, noise, kind, without_colours):
        """As if each crop were the only style picture; nothing has to be computed before step 1."""
        term = kind(weight=1.0, layers=LAYERS, target="crop", grey=without_colours)
        objective, single = make_objective(style=term), make_objective(style=replace(term, target="mean"))
        assert objective.targets == []
        _, parts = objective.generator_loss(loss_inputs, None, warming_up=False)
        expected = []
        for number in range(2):
            of_one = [x[number : number + 1] for x in (loss_inputs.content, loss_inputs.style, loss_inputs.fake)]
            single.set_style("mean", [(0, of_one[1])])
            expected.append(single.generator_loss(LossInputs(*of_one), None, warming_up=False)[1]["style"])
        torch.testing.assert_close(parts["style"], torch.stack(expected).mean())
        assert objective.style_targets == {} and objective.state_dict()["style_targets"] == {}

    def test_terms_with_different_targets_live_side_by_side(self, make_objective, loss_inputs, noise):
        layers = {"layers": ["relu1_1"], "weight": 1.0}
        objective = make_objective(
            style=GramStyle(**layers, target="mean"),
            second=GramStyle(**layers, target="b.jpg"),
            third=GramStyle(**layers, target="each"),
        )
        assert objective.targets == ["b.jpg", "each", "mean"]
        for seed, target in enumerate(objective.targets):
            objective.set_style(target, enumerate(noise(2, 3, 16, 16, seed=20 + seed).split(1)))
        _, parts = objective.generator_loss(loss_inputs, None, warming_up=False)
        assert len({parts[name].item() for name in ("style", "second", "third")}) == 3

    @pytest.mark.parametrize("kind", Style.__subclasses__())
    def test_each_compares_every_result_with_its_own_style_picture(self, make_objective, loss_inputs, noise, kind):
        objective = make_objective(style=kind(weight=1.0, layers=LAYERS, target="each"))
        styles = [noise(1, 3, 16, 16, seed=50), noise(1, 3, 12, 30, seed=51), noise(1, 3, 21, 9, seed=52)]
        objective.set_style("each", enumerate(styles))
        _, parts = objective.generator_loss(
            replace(loss_inputs, style_index=torch.tensor([2, 0])), None, warming_up=False
        )
        losses = []
        for fake, style in ((loss_inputs.fake[:1], styles[2]), (loss_inputs.fake[1:], styles[0])):
            for layer in ("relu1_1", "relu2_1"):
                result, expected = (kind.statistic(objective.perceptual(x, [layer])[layer]) for x in (fake, style))
                losses.append(kind.distance(result, expected))
        torch.testing.assert_close(parts["style"], sum(losses) / 4)

    def test_of_each_stand_at_the_pictures_numbers_whatever_the_order(self, make_objective, noise):
        """Number 1 could not be read: the others' mean is at its place, and its neighbours are at theirs."""
        objective = make_objective(style_target="each")
        pictures = {number: noise(1, 3, 10 + number, 12, seed=number) for number in (0, 2, 3)}
        actual = []
        for order in ((0, 2, 3), (3, 0, 2)):
            objective.set_style("each", ((number, pictures[number]) for number in order))
            actual.append(dict(objective.style_targets))
        assert actual[0].keys() == actual[1].keys() and len(actual[0]) == 2
        for key, rows in actual[0].items():
            assert torch.equal(rows[[0, 2, 3]], actual[1][key][[0, 2, 3]])
            assert len(rows) == 4 and not rows.requires_grad
            torch.testing.assert_close(rows[1], rows[[0, 2, 3]].mean(dim=0))
            layer = key.split("/")[2]
            for number, picture in pictures.items():
                torch.testing.assert_close(
                    rows[number, None], gram_matrix(objective.perceptual(picture, [layer])[layer])
                )

    def test_mean_of_moments_is_the_mean_of_each_pictures_moments(self, make_objective, noise):
        objective = make_objective(style=MomentStyle(weight=1.0, layers=["relu2_1"]))
        pictures = [noise(1, 3, 16, 16), noise(1, 3, 24, 10, seed=1) * 0.5, noise(1, 3, 9, 33, seed=2) * 0.1]
        objective.set_style("mean", enumerate(pictures))
        (result,) = objective.style_targets.values()
        features = [objective.perceptual(x, ["relu2_1"])["relu2_1"][0].double().numpy() for x in pictures]
        moments = [np.stack([x.mean(axis=(1, 2)), np.sqrt(x.var(axis=(1, 2)) + 1e-5)], axis=1) for x in features]
        np.testing.assert_allclose(result[0].numpy(), np.mean(moments, axis=0), rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("kind", Style.__subclasses__())
    @pytest.mark.parametrize("target", ["mean", "each", "b.jpg"])
    def test_without_colours_are_those_of_the_grey_pictures(self, make_objective, noise, kind, target):
        """Also beside a term that looks at the same layers, and one more, of the same pictures in colour."""
        options = {"weight": 1.0, "target": target}
        both = make_objective(
            style=kind(layers=LAYERS, **options), texture=kind(layers=["relu1_1"], grey=True, **options)
        )
        single = make_objective(style=kind(layers=LAYERS, **options))
        pictures = [noise(1, 3, 16, 16), noise(1, 3, 12, 20, seed=1)]
        both.set_style(target, enumerate(pictures))
        in_colour, texture = both.terms["style"], both.terms["texture"]
        for term, expected_pictures in ((in_colour, pictures), (texture, [grey(picture) for picture in pictures])):
            single.set_style(target, enumerate(expected_pictures))
            for layer in term.layers:
                expected = single.style_targets[in_colour.key(layer)]
                torch.testing.assert_close(both.style_targets[term.key(layer)], expected)
        assert len(both.style_targets) == 3
        assert not torch.equal(both.style_targets[texture.key("relu1_1")], both.style_targets[in_colour.key("relu1_1")])

    def test_without_colours_ask_for_a_result_without_colours(self, make_objective, noise):
        objective = make_objective(style=GramStyle(weight=1.0, layers=["relu1_1"], grey=True))
        picture = noise(1, 3, 16, 16)
        objective.set_style("mean", [(0, picture)])
        actual = []
        for fake in (picture, grey(picture)):
            _, parts = objective.generator_loss(LossInputs(picture, picture, fake), None, warming_up=False)
            actual.append(parts["style"].item())
        assert actual[1] == pytest.approx(0, abs=1e-12) and actual[0] > 1e-6

    def test_are_shared_by_terms_that_want_the_same(self, make_objective):
        layers = {"layers": ["relu1_1"], "weight": 1.0}
        objective = make_objective(
            style=GramStyle(**layers), second=GatysStyle(**layers), third=GramStyle(weight=2.0, layers=["relu1_1"])
        )
        assert len(objective.style_targets) == 1
        others = [MomentStyle(**layers), CentredGramStyle(**layers), GramStyle(**layers, grey=True)]
        others += [GramStyle(**layers, target="each"), GramStyle(weight=1.0, layers=["relu2_1"])]
        objective = make_objective(style=GramStyle(**layers), **{f"other{n}": term for n, term in enumerate(others)})
        assert len(objective.style_targets) == 6

    @pytest.mark.parametrize("numbers", [(0, 1), (0, 2)], ids=["all read", "number 1 unreadable"])
    @pytest.mark.parametrize("target", ["mean", "each"])
    @pytest.mark.parametrize("kind", [GramStyle, GatysStyle])
    def test_know_their_mean_grams_where_these_are_gram_matrices_in_colour(
        self, make_objective, noise, kind, target, numbers
    ):
        pictures = [noise(1, 3, 16, 16), noise(1, 3, 24, 10, seed=1)]
        objective = make_objective(style=kind(weight=1.0, layers=LAYERS, target=target))
        objective.set_style(target, zip(numbers, pictures, strict=True))
        result = objective.style_grams(target)
        for layer, expected in mean_gram(objective.perceptual, pictures, LAYERS).items():
            torch.testing.assert_close(result[layer], expected)

    @pytest.mark.parametrize(
        "term",
        [
            MomentStyle(weight=1.0, layers=["relu1_1"]),
            CentredGramStyle(weight=1.0, layers=["relu1_1"]),
            GramStyle(weight=1.0, layers=["relu1_1"], grey=True),
            GramStyle(weight=1.0, layers=["relu1_1"], target="each"),
        ],
        ids=["moments", "centred", "grey", "another target"],
    )
    def test_know_no_mean_grams_where_other_things_were_measured(self, make_objective, term):
        assert make_objective(style=term).style_grams("mean") == {}
        both = make_objective(style=term, second=GramStyle(weight=1.0, layers=["relu2_1"]))
        assert both.style_grams("mean") == {}  # known of relu2_1 alone

    def test_of_each_take_the_memory_that_is_told_beforehand(self, make_objective, noise):
        objective = make_objective(
            style=GramStyle(weight=1.0, layers=LAYERS, target="each"),
            second=MomentStyle(weight=1.0, layers=["relu2_1"], target="each", grey=True),
            third=GramStyle(weight=1.0, layers=["relu1_2"]),
        )
        objective.style_targets.clear()
        objective.set_style("each", enumerate(noise(5, 3, 16, 16).split(1)))
        assert sum(rows.nbytes for rows in objective.style_targets.values()) == 5 * objective.bytes_of_each()


class TestLooking:
    @pytest.fixture
    def looked(self, make_objective, monkeypatch) -> tuple[Objective, list[tuple[Tensor, set[str], bool]]]:
        """An objective with targets of all kinds, and what its network is shown: pictures, layers, with gradients?"""
        objective, passes = make_objective(second=MomentStyle(weight=1.0, layers=["relu1_1"], target="each")), []
        real = objective.perceptual.forward

        def forward(images, layers):
            passes.append((images, set(layers), torch.is_grad_enabled()))
            return real(images, layers)

        monkeypatch.setattr(objective.perceptual, "forward", forward)
        return objective, passes

    def test_goes_over_the_fake_once_and_over_targets_only_as_far_as_needed(self, looked, loss_inputs):
        objective, passes = looked
        objective.generator_loss(loss_inputs, None, warming_up=False)
        with_gradients = [(images, layers) for images, layers, with_gradient in passes if with_gradient]
        assert len(with_gradients) == 1 and with_gradients[0][0] is loss_inputs.fake
        assert with_gradients[0][1] == {"relu1_1", "relu2_1"}
        targets = [(images, layers) for images, layers, with_gradient in passes if not with_gradient and layers]
        assert len(targets) == 1 and targets[0][0] is loss_inputs.content and targets[0][1] == {"relu2_1"}

    @pytest.mark.parametrize("target", ["mean", "each", "b.jpg"])
    @pytest.mark.parametrize("kind", Style.__subclasses__())
    def test_never_looks_at_the_batchs_style_pictures(
        self, make_objective, loss_inputs, noise, monkeypatch, kind, target
    ):
        objective = make_objective(style=kind(weight=1.0, layers=["relu1_1"], target=target, grey=True))
        objective.set_style(target, enumerate(noise(2, 3, 16, 16, seed=40).split(1)))
        passes, real = [], objective.perceptual.forward
        monkeypatch.setattr(objective.perceptual, "forward", lambda *args: (passes.append(args[0]), real(*args))[1])
        objective.generator_loss(loss_inputs, None, warming_up=False, audit=True)
        assert [id(images) for images in passes] == [id(loss_inputs.fake), id(loss_inputs.content)]

    def test_looks_at_nothing_but_content_in_the_warm_up(self, looked, loss_inputs):
        objective, passes = looked
        _, parts = objective.generator_loss(loss_inputs, None, warming_up=True)
        assert parts.keys() == {"content"}
        assert {layer for _, layers, _ in passes for layer in layers} == {"relu2_1"}

    def test_sends_no_gradient_into_the_targets(self, make_objective, loss_inputs):
        loss_inputs.content.requires_grad_()
        loss_inputs.style.requires_grad_()
        loss, _ = make_objective().generator_loss(loss_inputs, None, warming_up=False)
        loss.backward()
        assert loss_inputs.content.grad is None and loss_inputs.style.grad is None
        assert loss_inputs.fake.grad.count_nonzero() > 0

    def test_names_the_layers_of_its_terms_and_those_that_need_more_of_the_generator(self, make_objective):
        style, moments = (kind(weight=1.0, layers=[f"relu{n}_1"]) for n, kind in ((1, GramStyle), (2, MomentStyle)))
        terms = [Content(weight=1.0, layers=["relu3_1"]), style, moments, SquaredVariation(weight=1.0)]
        assert content_layers(terms) == ["relu3_1"] and style_layers(terms) == LAYERS
        assert make_objective().auxiliary_terms == []
        assert make_objective(idt=Identity(weight=0.0)).auxiliary_terms == [Identity(weight=0.0)]

    def test_needs_the_discriminator_early_where_the_balance_asks_for_its_pull(self, make_objective):
        for balance, needed in ((None, False), ({"content": 1, "tv": 1}, False), ({"adversarial": 1, "tv": 1}, True)):
            assert make_objective(balance=balance).needs_discriminator_early is needed


class TestAudit:
    @pytest.fixture
    def audited(self, make_objective, loss_inputs) -> tuple[Objective, LossInputs, dict[str, Tensor]]:
        """An objective with terms of every kind and odd weights, its scene, and what the audit finds."""
        objective = make_objective(
            adversarial=Adversarial(weight=0.25),
            content=Content(weight=3.0, layers=["relu2_1"]),
            tv=SquaredVariation(weight=0.0),
            identity=Identity(weight=0.5),
            colour=Colour(weight=2.0),
        )
        rebuilt = (loss_inputs.style.flip(3) * 0.9).requires_grad_()
        loss_inputs.auxiliary = {"rebuilt": AuxiliaryPass(rebuilt)}
        _, parts = objective.generator_loss(loss_inputs, self.logits(loss_inputs.fake), warming_up=False, audit=True)
        return objective, loss_inputs, objective.gradient_norms(parts, [loss_inputs.fake, rebuilt])

    def logits(self, fake: Tensor) -> list[Tensor]:
        return [fake.square().mean(dim=1), fake[:, :1, ::2]]

    def test_measures_each_terms_gradient_at_the_output_without_its_weight(self, audited):
        objective, loss_inputs, actual = audited
        fake = loss_inputs.fake.detach().requires_grad_()
        result, content = (objective.perceptual(x, LAYERS) for x in (fake, loss_inputs.content))
        targets = [objective.style_grams("mean")[x] for x in ("relu1_1", "relu2_1")]
        grams = [gram_matrix(result[x]) for x in ("relu1_1", "relu2_1")]
        by_hand = {
            "adversarial": sum(FORMULAS["hinge"].generator(scale) for scale in self.logits(fake)) / 2,
            "content": content_loss(result["relu2_1"], content["relu2_1"]),
            "style": sum(gram_loss(*pair) for pair in zip(grams, targets, strict=True)) / 2,
            "tv": total_variation_squared(fake),
            "colour": colour_loss(fake, loss_inputs.content),
        }
        norms = {name: torch.autograd.grad(loss, fake, retain_graph=True)[0].norm() for name, loss in by_hand.items()}
        norms["identity"] = torch.tensor(loss_inputs.style.numel() ** -0.5)  # each entry's is +-1 / their number
        assert actual.keys() == norms.keys()
        for name, norm in norms.items():
            torch.testing.assert_close(actual[name], norm, rtol=1e-5, atol=0)
        weighted_norms = {name: norm * objective.weights[name] for name, norm in norms.items()}
        shares = objective.gradient_shares({name: norm.item() for name, norm in actual.items()})
        for name, weighted_norm in weighted_norms.items():
            assert shares[name] == pytest.approx((weighted_norm / sum(weighted_norms.values())).item(), rel=1e-5)
        assert sum(shares.values()) == pytest.approx(1, rel=1e-6) and actual["tv"] > 0
        assert [name for name, share in shares.items() if share == 0] == ["tv"]

    def test_counts_the_gradient_of_all_outputs_together(self, make_objective, loss_inputs):
        """A term that looks at both, as none of ours does: the norm over the two, not the sum of norms."""
        rebuilt = loss_inputs.style.clone().requires_grad_()
        both = loss_inputs.fake.sum() * 3 + rebuilt.sum() * 4
        actual = make_objective().gradient_norms({"tv": both}, [loss_inputs.fake, rebuilt])
        assert actual["tv"].item() == pytest.approx(5 * loss_inputs.fake.numel() ** 0.5, rel=1e-5)

    def test_of_a_term_that_pulls_at_nothing_is_zero(self, make_objective, loss_inputs):
        unrelated = torch.ones(3, requires_grad=True)
        objective = make_objective()
        actual = objective.gradient_norms(
            {"content": loss_inputs.fake.sum(), "tv": unrelated.sum()}, [loss_inputs.fake]
        )
        shares = objective.gradient_shares({name: norm.item() for name, norm in actual.items()})
        assert (actual["tv"], shares["tv"], shares["content"]) == (0, 0, 1)

    def test_of_weights_that_are_all_zero_gives_no_shares(self, make_objective, loss_inputs):
        objective = make_objective(tv=SquaredVariation(weight=0.0))
        actual = objective.gradient_norms({"tv": total_variation_squared(loss_inputs.fake)}, [loss_inputs.fake])
        assert actual["tv"] > 0 and objective.gradient_shares({"tv": actual["tv"].item()}) == {"tv": 0}

    def test_leaves_the_gradient_of_the_loss_as_it_is(self, make_objective, loss_inputs):
        objective = make_objective()
        expected = gradient(objective, loss_inputs)
        loss, parts = objective.generator_loss(loss_inputs, None, warming_up=False, audit=True)
        objective.gradient_norms(parts, [loss_inputs.fake])
        assert loss_inputs.fake.grad is None
        loss.backward()
        assert torch.equal(loss_inputs.fake.grad, expected)

    def test_in_the_warm_up_computes_all_terms_but_trains_on_content_alone(self, make_objective, loss_inputs):
        objective = make_objective(content=Content(weight=3.0, layers=["relu2_1"]))
        logits = self.logits(loss_inputs.fake)
        loss, parts = objective.generator_loss(loss_inputs, logits, warming_up=True, audit=True)
        _, expected = objective.generator_loss(loss_inputs, logits, warming_up=False)
        assert parts.keys() == expected.keys() == {"adversarial", "content", "style", "tv"}
        for name, part in parts.items():
            torch.testing.assert_close(part, expected[name])
        assert torch.equal(loss, 3.0 * parts["content"])
        (result,) = torch.autograd.grad(loss, loss_inputs.fake)
        assert torch.equal(result, gradient(objective, loss_inputs, warming_up=True))


class TestRoundTrip:
    def test_of_what_was_measured_goes_through_a_file(self, make_objective, loss_inputs, noise):
        options = {"style_target": "mean", "balance": {"style": 3, "tv": 1}}
        old, new = make_objective(**options), make_objective(**options)
        old.perceptual.calibrate([noise(1, 3, 16, 16)])
        old.set_style("mean", enumerate(noise(2, 3, 16, 16, seed=60).split(1)))
        old.balance.observe({"style": 0.5, "tv": 0.125})
        old.settle_balance()
        torch.save(old.state_dict(), buffer := io.BytesIO())
        buffer.seek(0)
        expected, before = (x.generator_loss(loss_inputs, None, warming_up=False)[0] for x in (old, new))
        assert expected != before
        new.load_state_dict(torch.load(buffer, weights_only=True), torch.device("cpu"))
        assert torch.equal(new.generator_loss(loss_inputs, None, warming_up=False)[0], expected)
        assert new.describe() == old.describe() and new.weights["style"] != 1.0
        assert new.balance.settled and new.balance.norms == {"style": 0.5, "tv": 0.125}

    def test_tells_what_a_result_was_trained_for_in_json(self, make_objective, noise):
        objective = make_objective()
        objective.perceptual.calibrate([noise(1, 3, 16, 16)])
        messages = json.loads(json.dumps(objective.describe()))
        assert messages["perceptual"] == "compact"
        assert messages["scales"] == objective.perceptual.scales and messages["scales"]["relu1_1"] not in (0, 1)
        assert messages["weights"] == {"adversarial": 0.5, "content": 1.0, "style": 1.0, "tv": 0.1}


class TestRefusals:
    def refused(self, match: str, **terms) -> None:
        with pytest.raises(ValueError, match=match):
            Objective(terms, compact(layers=["relu1_1"], weights="random"))

    def test_no_term_at_all(self):
        self.refused("no loss term left")

    @pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
    def test_weight_that_is_not_a_finite_number_from_zero(self, weight):
        self.refused(r"loss\.tv\.weight=.*finite numbers from 0", tv=SquaredVariation(weight=weight))
        self.refused(r"loss\.adversarial\.weight=", adversarial=Adversarial(weight=weight))

    @pytest.mark.parametrize("layers", ["relu1_1", [], ()])
    def test_layers_that_are_no_list_or_empty(self, layers):
        self.refused(r"loss\.content\.layers=.*\[relu3_1\].*~loss\.content", content=Content(weight=1.0, layers=layers))
        self.refused(r"loss\.style\.layers=", style=GramStyle(weight=1.0, layers=layers))

    def test_adversarial_term_under_another_name_or_another_one_under_its(self):
        self.refused(r"loss\.gan: .*loss\.adversarial", gan=Adversarial())
        self.refused(r"loss\.adversarial: ", adversarial=SquaredVariation(weight=1.0))


class TestLibrary:
    """A condition (N, K) moves each sample's target from the photo's own statistic to the styles'."""

    CONDITION = torch.tensor([[0.0, 1.0], [0.0, 0.0], [0.25, 0.5]])

    @pytest.mark.parametrize(("kind", "statistic"), [(GramStyle, gram_matrix), (MomentStyle, channel_moments)])
    def test_a_target_lies_between_photo_and_styles(self, make_objective, noise, kind, statistic):
        objective = make_objective(style=kind(weight=1.0, layers=["relu1_1"]))
        sets = [[noise(1, 3, 16, 16, seed=50), noise(1, 3, 20, 12, seed=51)], [noise(1, 3, 16, 18, seed=52)]]
        objective.set_library("mean", {str(n): enumerate(pictures) for n, pictures in enumerate(sets)})
        content, fake = noise(3, 3, 16, 16, seed=1), noise(3, 3, 16, 16, seed=2)
        loss_inputs = LossInputs(content, content, fake, condition=self.CONDITION)
        _, parts = objective.generator_loss(loss_inputs, None, warming_up=False)

        def of(pictures: Tensor) -> Tensor:
            return statistic(objective.perceptual(pictures, ["relu1_1"])["relu1_1"])

        first = (of(sets[0][0]) + of(sets[0][1])) / 2
        second = of(sets[1][0])
        targets = [second, of(content[1:2]), 0.25 * first + 0.5 * second + 0.25 * of(content[2:])]
        distance = kind(weight=1.0, layers=["relu1_1"]).distance
        torch.testing.assert_close(parts["style"], distance(of(fake), torch.cat(targets)))

    def test_styles_weigh_what_they_are_given_by_name(self, make_objective, noise):
        content, fake = noise(2, 3, 16, 16), noise(2, 3, 16, 16, seed=7)
        losses = {}
        for weights in (None, {"b": 3.0}):
            term = GramStyle(weight=1.0, layers=["relu1_1"], relative=True, style_weights=weights)
            objective = make_objective(style=term)
            objective.set_library("mean", {name: [(0, noise(1, 3, 16, 16, seed=n))] for n, name in enumerate("abc")})
            resumed = make_objective(style=term)
            resumed.load_state_dict(objective.state_dict(), torch.device("cpu"))
            for condition in ([1.0, 0.0, 0.0], [0.0, 0.8, 0.0], [0.3, 0.3, 0.0]):
                inputs = LossInputs(content, content, fake, condition=torch.tensor([condition]).expand(2, 3))
                loss = resumed.generator_loss(inputs, None, warming_up=False)[1]["style"]
                losses.setdefault(tuple(condition), []).append(loss)
        ratios = [float(weighed / plain) for plain, weighed in losses.values()]
        assert ratios == pytest.approx([1.0, 3.0, 2.0], rel=1e-4)

    def test_a_weight_for_a_style_that_there_is_not_is_refused(self, make_objective, noise):
        objective = make_objective(style=GramStyle(weight=1.0, layers=["relu1_1"], style_weights={"wawe": 2.0}))
        with pytest.raises(ValueError, match="wawe"):
            objective.set_library("mean", {"wave": [(0, noise(1, 3, 16, 16))]})

    def test_each_style_has_its_own_gram_matrices(self, make_objective, noise):
        objective = make_objective(style=GramStyle(weight=1.0, layers=["relu1_1"]))
        pictures = [noise(1, 3, 16, 16, seed=50 + n) for n in range(3)]
        objective.set_library("mean", {str(n): [(0, picture)] for n, picture in enumerate(pictures)})
        for row, picture in enumerate(pictures):
            expected = gram_matrix(objective.perceptual(picture, ["relu1_1"])["relu1_1"])
            torch.testing.assert_close(objective.style_grams("mean", row)["relu1_1"], expected)
