"""Adversarial formulas against closed forms, and the term that holds one of them."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_style.functional import diff_augment, grey, smooth_edges
from gan_style.losses.adversarial import FORMULAS, Adversarial, r1_penalty

REAL, FAKE = [2.0, 0.5, -1.0, 0.0], [-3.0, 0.25, 1.0, 0.0]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def softplus(x: float) -> float:
    return math.log(1 + math.exp(x))


CLOSED_FORMS = {
    "hinge": (mean([max(0, 1 - x) for x in REAL]) + mean([max(0, 1 + x) for x in FAKE]), -mean(FAKE)),
    "least_squares": (
        0.5 * mean([(x - 1) ** 2 for x in REAL]) + 0.5 * mean([x**2 for x in FAKE]),
        0.5 * mean([(x - 1) ** 2 for x in FAKE]),
    ),
    "nonsaturating": (
        mean([softplus(-x) for x in REAL]) + mean([softplus(x) for x in FAKE]),
        mean([softplus(-x) for x in FAKE]),
    ),
}


class OneByOne(nn.Module):
    """A linear discriminator: each logit is a weighted sum of its pixel's colours; further scales see it halved."""

    def __init__(self, *weights: tuple[float, float, float]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(nn.Parameter(torch.tensor(w).view(1, 3, 1, 1)) for w in weights)
        self.calls: list[Tensor] = []

    def forward(self, images: Tensor) -> list[Tensor]:
        self.calls.append(images)
        return [F.conv2d(F.avg_pool2d(images, 2**n), weight) for n, weight in enumerate(self.weights)]


def each(count: int, seed: int = 0) -> list[torch.Generator]:
    """A generator for each of so many samples."""
    return [torch.Generator().manual_seed(1000 * seed + number) for number in range(count)]


class TestFormulas:
    def test_each_has_a_closed_form_here(self):
        assert FORMULAS.keys() == CLOSED_FORMS.keys()

    @pytest.mark.parametrize("shape", [(4,), (4, 1, 1, 1), (1, 1, 2, 2)])
    @pytest.mark.parametrize("formula", FORMULAS)
    def test_have_their_closed_forms_at_given_logits(self, formula, shape):
        real, fake = (torch.tensor(x).view(shape) for x in (REAL, FAKE))
        of_discriminator, of_generator = FORMULAS[formula].discriminator, FORMULAS[formula].generator
        assert of_discriminator(real, fake).item() == pytest.approx(CLOSED_FORMS[formula][0], rel=1e-6)
        assert of_generator(fake).item() == pytest.approx(CLOSED_FORMS[formula][1], rel=1e-6)

    @pytest.mark.parametrize("formula", FORMULAS)
    def test_pull_apart_and_together(self, formula):
        """Descending, D raises logits of real pictures and lowers those of fake ones; G raises those of fake ones."""
        real, fake = (torch.tensor([-0.5, 0.0, 0.5], requires_grad=True) for _ in range(2))
        of_discriminator, of_generator = FORMULAS[formula].discriminator, FORMULAS[formula].generator
        on_real, on_fake = torch.autograd.grad(of_discriminator(real, fake + 0.6), [real, fake])
        assert (on_real < 0).all() and (on_fake > 0).all()
        (on_fake,) = torch.autograd.grad(of_generator(fake), fake)
        assert (on_fake < 0).all()

    def test_hinge_lets_go_of_what_is_told_apart(self):
        real, fake = torch.tensor([1.5], requires_grad=True), torch.tensor([-1.5], requires_grad=True)
        gradients = torch.autograd.grad(FORMULAS["hinge"].discriminator(real, fake), [real, fake])
        assert gradients == (torch.zeros(1), torch.zeros(1))

    @pytest.mark.parametrize("formula", FORMULAS)
    def test_are_finite_and_float32_for_large_half_precision_logits(self, formula):
        real, fake = torch.full((4,), -200.0).half(), torch.full((4,), 200.0).half()
        for loss in (FORMULAS[formula].discriminator(real, fake), FORMULAS[formula].generator(-fake)):
            assert loss.isfinite() and loss.dtype == torch.float32
            assert loss > 100

    @pytest.mark.parametrize("formula", FORMULAS)
    def test_are_means_over_logits(self, formula):
        real, fake = torch.tensor(REAL), torch.tensor(FAKE)
        functions = (FORMULAS[formula].discriminator, FORMULAS[formula].generator)
        for function, logits in zip(functions, ([real, fake], [fake]), strict=True):
            repeated = [x.repeat(8, 1, 3, 2) for x in logits]
            torch.testing.assert_close(function(*repeated), function(*logits))


class TestR1:
    @pytest.mark.parametrize("size", [(4, 4), (8, 16), (64, 64)])
    @pytest.mark.parametrize("count", [1, 3])
    def test_of_a_linear_discriminator_is_its_squared_weight_at_any_size(self, noise, size, count):
        real = noise(count, 3, *size).requires_grad_()
        penalty = r1_penalty(OneByOne((1.0, -2.0, 3.0))(real), real)
        assert penalty.item() == pytest.approx(1 + 4 + 9, rel=1e-6)

    def test_adds_up_the_gradients_of_the_scales(self, noise):
        """Of the second scale a quarter reaches each pixel: its gradient is (1, -2, 3) + (4, 8, -4) / 4."""
        real = noise(2, 3, 8, 8).requires_grad_()
        penalty = r1_penalty(OneByOne((1.0, -2.0, 3.0), (4.0, 8.0, -4.0))(real), real)
        assert penalty.item() == pytest.approx(2**2 + 0**2 + 2**2, rel=1e-6)

    def test_of_a_square_is_the_mean_square_of_the_pictures(self, noise):
        real = noise(2, 3, 8, 8).requires_grad_()
        penalty = r1_penalty([real.square() / 2], real)
        torch.testing.assert_close(penalty, real.detach().square().sum(dim=1).mean())


class TestDiscriminatorLoss:
    @pytest.mark.parametrize("formula", FORMULAS)
    def test_is_the_formula_averaged_over_scales(self, noise, formula):
        discriminator = OneByOne((1.0, 0.5, -1.0), (0.3, -2.0, 1.0))
        real, fake = noise(2, 3, 8, 8), noise(2, 3, 8, 8, seed=1)
        loss, parts = Adversarial(formula=formula).discriminator_loss(discriminator, real, fake, each(4))
        on_real, on_fake = discriminator(real), discriminator(fake)
        by_scale = [FORMULAS[formula].discriminator(r, f) for r, f in zip(on_real, on_fake, strict=True)]
        torch.testing.assert_close(loss, sum(by_scale) / 2)
        torch.testing.assert_close(parts["loss"], loss)
        torch.testing.assert_close(parts["real"], sum(x.mean() for x in on_real).detach() / 2)
        torch.testing.assert_close(parts["fake"], sum(x.mean() for x in on_fake).detach() / 2)

    @pytest.mark.parametrize("formula", FORMULAS)
    def test_counts_negatives_as_fakes_by_their_weights(self, noise, formula):
        """L_D = E[real(D(y))] + E[fake(D(G(x)))] + w E[fake(D(edges(y)))] + v E[fake(D(grey(y)))]."""
        discriminator, real, fake = OneByOne((1.0, 0.5, -1.0)), noise(2, 3, 8, 8), noise(2, 3, 8, 8, seed=1)
        term = Adversarial(formula=formula, negatives={"edges": 1.0, "grey": 0.1}, r1=1.0)
        assert term.roles == ["real", "fake", "edges", "grey"]
        loss, parts = term.discriminator_loss(discriminator, real, fake, each(8))
        on = {
            name: discriminator(images)[0]
            for name, images in {"real": real, "fake": fake, "edges": smooth_edges(real), "grey": grey(real)}.items()
        }
        losses = FORMULAS[formula]
        expected = losses.real(on["real"]) + losses.fake(on["fake"])
        expected = expected + losses.fake(on["edges"]) + 0.1 * losses.fake(on["grey"])
        torch.testing.assert_close(parts["loss"], expected)
        torch.testing.assert_close(loss, expected + 0.5 * (1 + 0.25 + 1))  # R1 is of the real pictures alone
        torch.testing.assert_close(parts["grey"], on["grey"].mean().detach())

    @pytest.mark.parametrize("r1", [0.0, 10.0])
    def test_sends_nothing_back_into_the_generator(self, noise, r1):
        fake = noise(2, 3, 8, 8).requires_grad_()
        discriminator = OneByOne((1.0, 1.0, 1.0))
        loss, _ = Adversarial(r1=r1).discriminator_loss(discriminator, noise(2, 3, 8, 8, seed=1), fake, each(4))
        loss.backward()
        assert fake.grad is None
        assert discriminator.weights[0].grad.count_nonzero() == 3

    def test_holds_half_gamma_times_r1(self, noise):
        """For the linear D the penalty is |w|^2, so that its part of the gradient is gamma w."""
        gradients, losses = [], []
        for gamma in (0.0, 10.0):
            discriminator = OneByOne((1.0, -2.0, 3.0))
            loss, parts = Adversarial(r1=gamma).discriminator_loss(
                discriminator, noise(2, 3, 8, 8), noise(2, 3, 8, 8, seed=1), each(4)
            )
            loss.backward()
            losses.append(loss.item())
            gradients.append(discriminator.weights[0].grad.flatten())
        assert parts["r1"].item() == pytest.approx(14, rel=1e-6)
        assert losses[1] - losses[0] == pytest.approx(5 * 14, rel=1e-5)
        torch.testing.assert_close(gradients[1] - gradients[0], torch.tensor([10.0, -20.0, 30.0]))

    def test_names_r1_only_where_there_is_one(self, noise):
        pictures = noise(1, 3, 8, 8), noise(1, 3, 8, 8, seed=1)
        for gamma, names in ((0.0, {"loss", "real", "fake"}), (1.0, {"loss", "real", "fake", "r1"})):
            _, parts = Adversarial(r1=gamma).discriminator_loss(OneByOne((1.0, 1.0, 1.0)), *pictures, each(2))
            assert parts.keys() == names

    @pytest.mark.parametrize("kinds", [["colour"], ["cutout", "translation"]])
    def test_augments_real_and_fake_alike(self, noise, kinds):
        discriminator, real, fake = OneByOne((1.0, 1.0, 1.0)), noise(2, 3, 16, 16), noise(2, 3, 16, 16, seed=1)
        Adversarial(augment=kinds).discriminator_loss(discriminator, real, fake, each(4, 4))
        expected = diff_augment(torch.cat([real, fake]), kinds, each(4, 4))
        (images,) = discriminator.calls  # in one pass
        assert torch.equal(images, expected) and not torch.equal(images, torch.cat([real, fake]))


class TestGeneratorLoss:
    @pytest.mark.parametrize("formula", FORMULAS)
    def test_is_the_formula_averaged_over_scales(self, noise, formula):
        logits = [noise(2, 1, 8, 8), noise(2, 1, 4, 4, seed=1)]
        expected = (FORMULAS[formula].generator(logits[0]) + FORMULAS[formula].generator(logits[1])) / 2
        torch.testing.assert_close(Adversarial(formula=formula).generator_loss(logits), expected)

    def test_judge_augments_and_lets_gradients_through(self, noise):
        fake, discriminator = noise(2, 3, 16, 16).requires_grad_(), OneByOne((1.0, 1.0, 1.0))
        term = Adversarial(augment=["translation"])
        logits = term.logits(discriminator, fake, each(2, 4))
        assert torch.equal(discriminator.calls[0], diff_augment(fake, ["translation"], each(2, 4)))
        term.generator_loss(logits).backward()
        assert fake.grad.count_nonzero() > 0


@pytest.mark.parametrize(
    ("name", "values", "allowed"),
    [
        ("formula", ["wgan"], "=wgan.*hinge, least_squares, nonsaturating"),
        ("augment", [["colour", "blur"], "blur"], ".*colour, translation, cutout"),
        ("r1", [-1.0, math.nan, math.inf], "="),  # below 0 it would reward steepness
        ("negatives", [{"lines": 1.0}, {"grey": 0.0}, {"grey": True}, {"grey": math.nan}], ""),
    ],
)
def test_what_there_is_none_of_is_refused_by_name(name, values, allowed):
    for value in values:
        with pytest.raises(ValueError, match=rf"loss\.adversarial\.{name}{allowed}"):
            Adversarial(**{name: value})


class OfStyles(nn.Module):
    """A discriminator that says a picture's mean, plus one for the second style."""

    def forward(self, images: Tensor, styles: Tensor) -> list[Tensor]:
        return [images.mean(dim=(1, 2, 3), keepdim=True) + styles[:, 1, None, None, None]]


@pytest.mark.parametrize("formula", FORMULAS)
def test_a_sample_counts_as_much_as_it_is_strong(noise, formula):
    """By hand: each pair's formula times its strength; D is told the style, whatever its strength."""
    adversarial = Adversarial(formula=formula)
    condition = torch.tensor([[1.0, 0.0], [0.0, 0.5], [0.0, 0.0], [0.3, 0.0]])
    strengths, second = [1.0, 0.5, 0.0, 0.3], [0.0, 1.0, 0.0, 0.0]
    real, fake = noise(4, 3, 4, 4, seed=1), noise(4, 3, 4, 4, seed=2)
    random = [torch.Generator()] * 8
    loss, _ = adversarial.discriminator_loss(OfStyles(), real, fake, random, condition)
    of_d, of_g = FORMULAS[formula].discriminator, FORMULAS[formula].generator
    logits = [(r.mean() + s, f.mean() + s) for r, f, s in zip(real, fake, second, strict=True)]
    expected = sum(w * of_d(r, f) for w, (r, f) in zip(strengths, logits, strict=True)) / 4
    torch.testing.assert_close(loss, expected)
    judged = adversarial.logits(OfStyles(), fake, random[:4], condition)
    expected = sum(w * of_g(f) for w, (_, f) in zip(strengths, logits, strict=True)) / 4
    torch.testing.assert_close(adversarial.generator_loss(judged, condition), expected)
