"""The objective: named, weighted terms over one perceptual network."""

import math

import pytest
import torch
from torch import Tensor

from gan_style.functional import gram_matrix, total_variation_squared
from gan_style.losses.adversarial import Adversarial
from gan_style.losses.objective import Objective, content_layers, mean_gram, style_layers
from gan_style.losses.perceptual import Content, GramStyle, content_loss, gram_loss
from gan_style.losses.regular import Colour, Identity, SquaredVariation
from gan_style.losses.scene import Scene
from gan_style.models.perceptual import compact


@pytest.fixture
def scene(noise) -> Scene:
    fake = noise(2, 3, 16, 16).requires_grad_()
    return Scene(noise(2, 3, 16, 16, seed=1), noise(2, 3, 16, 16, seed=2), fake)


def gradient(objective: Objective, scene: Scene, *, warming_up: bool = False) -> Tensor:
    loss, _ = objective.generator_loss(scene, None, warming_up=warming_up)
    return torch.autograd.grad(loss, scene.fake)[0]


class TestSum:
    def test_is_that_of_the_weighted_terms_each_computed_by_itself(self, make_objective, scene):
        objective = make_objective(
            content=Content(weight=2.0, layers=["relu2_1"]),
            style=GramStyle(weight=3.0, layers=["relu1_1", "relu2_1"], target="paired"),
            tv=SquaredVariation(weight=0.5),
        )
        logits = [torch.tensor([1.0, -3.0])]
        loss, parts = objective.generator_loss(scene, logits, warming_up=False)
        fake, content, style = (
            objective.perceptual(x, ["relu1_1", "relu2_1"]) for x in (scene.fake, scene.content, scene.style)
        )
        styles = [gram_loss(gram_matrix(fake[x]), gram_matrix(style[x])) for x in ("relu1_1", "relu2_1")]
        expected = {
            "adversarial": torch.tensor(1.0),  # hinge: minus the mean logit
            "content": content_loss(fake["relu2_1"], content["relu2_1"]),
            "style": sum(styles) / 2,
            "tv": total_variation_squared(scene.fake),
        }
        assert parts.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(parts[name], value)
        weights = {"adversarial": 0.5, "content": 2.0, "style": 3.0, "tv": 0.5}
        torch.testing.assert_close(loss, sum(weights[name] * value for name, value in expected.items()))

    def test_removing_a_term_removes_its_share_and_its_name(self, make_objective, scene):
        everything, parts = make_objective().generator_loss(scene, None, warming_up=False)
        without, fewer = make_objective(tv=None).generator_loss(scene, None, warming_up=False)
        torch.testing.assert_close(everything - without, 0.1 * parts["tv"])
        assert parts.keys() - fewer.keys() == {"tv"}

    def test_of_eight_copies_is_that_of_one(self, make_objective, noise):
        objective = make_objective(colour=Colour(weight=1.0))
        one = [noise(1, 3, 16, 16, seed=seed) for seed in range(3)]
        single, _ = objective.generator_loss(Scene(*one), None, warming_up=False)
        copies, _ = objective.generator_loss(Scene(*(x.repeat(8, 1, 1, 1) for x in one)), None, warming_up=False)
        torch.testing.assert_close(copies, single, rtol=1e-5, atol=0)

    def test_in_the_warm_up_is_the_content_term_alone(self, make_objective, scene):
        content_only = make_objective(adversarial=None, style=None, tv=None)
        loss, parts = make_objective().generator_loss(scene, None, warming_up=True)
        assert parts.keys() == {"content"}
        torch.testing.assert_close(loss, content_only.generator_loss(scene, None, warming_up=False)[0])
        torch.testing.assert_close(gradient(make_objective(), scene, warming_up=True), gradient(content_only, scene))


class TestWeightZero:
    def test_logs_the_term_and_does_not_train_on_it(self, make_objective, scene):
        watched = make_objective(tv=SquaredVariation(weight=0.0))
        _, parts = watched.generator_loss(scene, None, warming_up=False)
        torch.testing.assert_close(parts["tv"], total_variation_squared(scene.fake))
        assert torch.equal(gradient(watched, scene), gradient(make_objective(tv=None), scene))

    def test_of_the_adversarial_term_logs_it_too(self, make_objective, scene):
        objective = make_objective(adversarial=Adversarial(weight=0.0))
        logits = [scene.fake.mean(dim=1)]
        loss, parts = objective.generator_loss(scene, logits, warming_up=False)
        torch.testing.assert_close(parts["adversarial"], -scene.fake.mean())
        without, _ = make_objective(adversarial=None).generator_loss(scene, None, warming_up=False)
        torch.testing.assert_close(loss, without)

    def test_everywhere_gives_a_zero_that_can_be_trained_on(self, make_objective, scene):
        objective = make_objective(
            adversarial=Adversarial(weight=0.0),
            content=Content(weight=0.0, layers=["relu2_1"]),
            style=GramStyle(weight=0.0, layers=["relu1_1"], target="paired"),
            tv=SquaredVariation(weight=0.0),
        )
        loss, parts = objective.generator_loss(scene, [scene.fake.mean(dim=1)], warming_up=False)
        assert loss == 0 and all(part != 0 for part in parts.values())
        assert gradient(objective, scene).count_nonzero() == 0
        assert gradient(objective, scene, warming_up=True).count_nonzero() == 0


class TestStyleTargets:
    def test_mean_gram_is_the_mean_over_pictures_of_any_size(self, noise):
        torch.manual_seed(0)
        network = compact(layers=["relu1_1", "relu2_1"], weights="random")
        pictures = [noise(1, 3, 16, 16), noise(1, 3, 24, 10, seed=1), noise(1, 3, 9, 33, seed=2)]
        made = mean_gram(network, iter(pictures), ["relu1_1", "relu2_1"])
        for layer in ("relu1_1", "relu2_1"):
            grams = [gram_matrix(network(picture, [layer])[layer]) for picture in pictures]
            torch.testing.assert_close(made[layer], sum(grams) / 3)
            assert not made[layer].requires_grad

    def test_a_fixed_target_is_what_the_results_are_compared_with(self, make_objective, scene, noise):
        objective = make_objective(style_target="a/picture.jpg")
        assert objective.fixed_targets == ["a/picture.jpg"]
        target = noise(1, 3, 20, 28, seed=7)
        objective.set_style("a/picture.jpg", [target])
        _, parts = objective.generator_loss(scene, None, warming_up=False)
        layers = ["relu1_1", "relu2_1"]
        made, wanted = objective.perceptual(scene.fake, layers), objective.perceptual(target, layers)
        losses = [gram_loss(gram_matrix(made[x]), gram_matrix(wanted[x])) for x in layers]
        torch.testing.assert_close(parts["style"], sum(losses) / 2)

    def test_the_result_of_a_target_picture_itself_has_no_style_loss(self, make_objective, noise):
        objective, picture = make_objective(style_target="mean"), noise(1, 3, 16, 16)
        objective.set_style("mean", [picture])
        _, parts = objective.generator_loss(Scene(picture, picture, picture), None, warming_up=False)
        assert parts["style"].item() == pytest.approx(0, abs=1e-12)

    @pytest.mark.parametrize(("target", "matters"), [("mean", False), ("paired", True)])
    def test_the_batchs_style_pictures_matter_only_to_paired_targets(
        self, make_objective, scene, noise, target, matters
    ):
        objective = make_objective(style_target=target)
        other = Scene(scene.content, noise(2, 3, 16, 16, seed=8), scene.fake)
        losses = [objective.generator_loss(x, None, warming_up=False)[0] for x in (scene, other)]
        assert (losses[0] != losses[1]).item() is matters

    def test_terms_with_different_targets_live_side_by_side(self, make_objective, scene, noise):
        layers = {"layers": ["relu1_1"], "weight": 1.0}
        objective = make_objective(
            style=GramStyle(**layers, target="mean"),
            second=GramStyle(**layers, target="b.jpg"),
            third=GramStyle(**layers, target="paired"),
        )
        assert objective.fixed_targets == ["b.jpg", "mean"]
        for seed, target in enumerate(objective.fixed_targets):
            objective.set_style(target, [noise(1, 3, 16, 16, seed=20 + seed)])
        _, parts = objective.generator_loss(scene, None, warming_up=False)
        assert len({parts[name].item() for name in ("style", "second", "third")}) == 3


class TestLooking:
    @pytest.fixture
    def looked(self, make_objective, monkeypatch) -> tuple[Objective, list[tuple[Tensor, set[str], bool]]]:
        """An objective, and what its network is shown: pictures, layers, whether gradients are kept."""
        objective, seen = make_objective(style_target="mean"), []
        real = objective.perceptual.forward

        def forward(images, layers):
            seen.append((images, set(layers), torch.is_grad_enabled()))
            return real(images, layers)

        monkeypatch.setattr(objective.perceptual, "forward", forward)
        return objective, seen

    def test_goes_over_the_fake_once_and_over_targets_only_as_far_as_needed(self, looked, scene):
        objective, seen = looked
        objective.generator_loss(scene, None, warming_up=False)
        with_gradients = [(images, layers) for images, layers, kept in seen if kept]
        assert len(with_gradients) == 1 and with_gradients[0][0] is scene.fake
        assert with_gradients[0][1] == {"relu1_1", "relu2_1"}
        targets = [(images, layers) for images, layers, kept in seen if not kept and layers]
        assert len(targets) == 1 and targets[0][0] is scene.content and targets[0][1] == {"relu2_1"}

    def test_looks_at_nothing_but_content_in_the_warm_up(self, looked, scene):
        objective, seen = looked
        objective.generator_loss(scene, None, warming_up=True)
        assert {layer for _, layers, _ in seen for layer in layers} == {"relu2_1"}

    def test_sends_no_gradient_into_the_targets(self, make_objective, scene):
        scene.content.requires_grad_()
        scene.style.requires_grad_()
        loss, _ = make_objective().generator_loss(scene, None, warming_up=False)
        loss.backward()
        assert scene.content.grad is None and scene.style.grad is None
        assert scene.fake.grad.count_nonzero() > 0

    def test_names_the_layers_of_its_terms(self):
        terms = [
            Content(weight=1.0, layers=["relu3_1"]),
            GramStyle(weight=1.0, layers=["relu1_1"]),
            GramStyle(weight=1.0, layers=["relu2_1"], target="paired"),
            SquaredVariation(weight=1.0),
        ]
        assert content_layers(terms) == ["relu3_1"]
        assert style_layers(terms) == ["relu1_1", "relu2_1"]
        assert style_layers(terms, paired=True) == ["relu2_1"]
        assert style_layers(terms, paired=False) == ["relu1_1"]

    @pytest.mark.parametrize(("terms", "needed"), [({}, False), ({"idt": Identity(weight=0.0)}, True)])
    def test_needs_the_identity_pass_where_there_is_such_a_term(self, make_objective, terms, needed):
        assert make_objective(**terms).needs_identity is needed


class TestRefusals:
    def refused(self, match: str, **terms) -> None:
        with pytest.raises(ValueError, match=match):
            Objective(terms, compact(layers=["relu1_1"], weights="random"))

    def test_no_term_at_all(self):
        self.refused("no loss term left")

    @pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
    def test_weight_that_is_not_a_finite_number_from_zero(self, weight):
        self.refused(r"loss\.tv\.weight=.*finite numbers from 0", tv=SquaredVariation(weight=weight))

    @pytest.mark.parametrize("weight", [-1.0, math.nan])
    def test_weight_of_the_adversarial_term(self, weight):
        self.refused(r"loss\.adversarial\.weight=", adversarial=Adversarial(weight=weight))

    @pytest.mark.parametrize("layers", ["relu1_1", [], ()])
    def test_layers_that_are_no_list_or_empty(self, layers):
        self.refused(r"loss\.content\.layers=.*\[relu3_1\].*~loss\.content", content=Content(weight=1.0, layers=layers))
        self.refused(r"loss\.style\.layers=", style=GramStyle(weight=1.0, layers=layers))

    def test_adversarial_term_under_another_name(self):
        self.refused(r"loss\.gan: .*loss\.adversarial", gan=Adversarial())

    def test_other_term_under_the_adversarial_name(self):
        self.refused(r"loss\.adversarial: ", adversarial=SquaredVariation(weight=1.0))
