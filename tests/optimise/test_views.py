"""gan_style/optimise/optimise.py: what a view shows, and that an optimisation sees everything through the same one."""

from functools import partial

import pytest
import torch

from gan_style.functional import gram_matrix
from gan_style.losses.inputs import Term
from gan_style.losses.objective import Objective
from gan_style.losses.style import GramStyle
from gan_style.models.perceptual import compact
from gan_style.optimise.optimise import ORIENTATIONS, Optimisation, Problem, View, draw_view, plan_levels, turned


def test_the_orientations_are_the_eight_of_a_square():
    image = torch.arange(9.0).reshape(1, 1, 3, 3)
    found = [turned(image, orientation) for orientation in range(ORIENTATIONS)]
    assert len({tuple(one.flatten().tolist()) for one in found}) == 8
    assert found[1][0, 0].tolist() == [[2, 5, 8], [1, 4, 7], [0, 3, 6]]  # a quarter to the left
    assert found[4][0, 0].tolist() == [[2, 1, 0], [5, 4, 3], [8, 7, 6]]


@pytest.mark.parametrize(("down", "right"), [(0, 0), (2, 0), (0, -3), (-1, 2), (3, 4), (-3, -4), (9, -9)])
def test_a_shift_moves_each_pixel_and_mirrors_what_lies_beyond_the_edge(down, right):
    image = torch.arange(20.0).reshape(1, 1, 4, 5)
    seen = View(0, down, right).of(image)[0, 0]
    down, right = max(-3, min(3, down)), max(-4, min(4, right))  # as far as there is something to mirror

    def mirrored(place, length):
        return length - 1 - abs(length - 1 - abs(place))

    for y in range(4):
        for x in range(5):
            assert seen[y, x] == image[0, 0, mirrored(y - down, 4), mirrored(x - right, 5)]


def test_views_come_from_seed_and_evaluation_and_cover_all_orientations_and_shifts():
    views = [draw_view(7, number, 2) for number in range(400)]
    assert views == [draw_view(7, number, 2) for number in range(400)] != [draw_view(8, n, 2) for n in range(400)]
    assert {view.orientation for view in views} == set(range(8))
    assert {(view.down, view.right) for view in views} == {(y, x) for y in range(-2, 3) for x in range(-2, 3)}


class Alike(Term):
    """How far the picture is from the content, as they are seen; notes what it was shown."""

    def __init__(self):
        super().__init__(weight=1.0)
        self.shown = []

    def __call__(self, scene):
        self.shown.append((scene.content, scene.fake.detach(), scene.style_targets))
        return (scene.fake - scene.content).square().mean()


def watched(noise, view, *, height=32, width=40, steps=40):
    """Free pixels over a content, with the Gram of a style beside: (the optimisation, what its terms were shown)."""
    torch.manual_seed(3)
    alike = Alike()
    terms = {"alike": alike, "style": GramStyle(weight=0.0, layers=["relu1_1"])}
    problem = Problem(
        objective=Objective(terms, compact(layers=["relu1_1"], weights="random")),
        content=noise(1, 3, height, width, seed=1) * 0.3,
        styles=[noise(1, 3, 24, 36, seed=2)],
        style_weights=None,
        levels=plan_levels(height, width, levels=1, steps=steps),
        make_optimiser=partial(torch.optim.Adam, lr=0.05),
        view=view,
    )
    return Optimisation(problem, noise(1, 3, height, width, seed=4) * 0.3), alike.shown


def test_content_and_style_lie_as_the_picture_does(noise):
    optimisation, shown = watched(noise, partial(draw_view, 0, reach=3), steps=12)
    network, problem = optimisation.problem.objective.perceptual, optimisation.problem
    before = optimisation.canvas.detach().clone()
    for number, _ in enumerate(optimisation.iterates()):
        view = draw_view(0, number, 3)
        content, fake, targets = shown[number]
        assert torch.equal(content, view.of(problem.content)) and torch.equal(fake, view.of(before))
        style = network(turned(problem.styles[0], view.orientation), ["relu1_1"])["relu1_1"]
        torch.testing.assert_close(targets["gram_matrix/colour/relu1_1/mean"], gram_matrix(style))
        before = optimisation.canvas.detach().clone()


def test_the_gradient_comes_back_to_the_pixels_it_belongs_to(noise):
    """Through every view the picture is drawn to the content itself, not to a content that lies otherwise."""
    optimisation, _ = watched(noise, partial(draw_view, 0, reach=3), steps=150)
    content = optimisation.problem.content
    start = (optimisation.canvas - content).abs().mean().item()
    for _ in optimisation.iterates():
        pass
    assert (optimisation.canvas - content).abs().mean().item() < 0.15 * start


def test_it_goes_on_with_the_views_that_it_would_have_had(noise):
    whole, _ = watched(noise, partial(draw_view, 5, reach=3), steps=9)
    for canvas in whole.iterates():
        expected = canvas
    first, _ = watched(noise, partial(draw_view, 5, reach=3), steps=9)
    for _ in zip(range(4), first.iterates(), strict=False):
        pass
    second, _ = watched(noise, partial(draw_view, 5, reach=3), steps=9)
    second.load_state_dict(first.state_dict())
    for canvas in second.iterates():
        found = canvas
    assert torch.equal(found, expected)
