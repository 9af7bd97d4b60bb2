"""gan_style/optimise/optimise.py: what is counted, what is computed once, and going on where it was left."""

import io
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gan_style.functional import gram_matrix
from gan_style.losses.content import Content
from gan_style.losses.objective import Objective
from gan_style.losses.pixel import SquaredVariation
from gan_style.losses.style import GramStyle
from gan_style.losses.term import Term
from gan_style.models.perceptual import compact
from gan_style.optimise.optimise import (
    ORIENTATIONS,
    NonFiniteLossError,
    Optimisation,
    Problem,
    View,
    cover,
    draw_view,
    plan_levels,
    resize,
    turn,
)

LBFGS = {"line_search_fn": "strong_wolfe", "max_iter": 1, "max_eval": 25, "tolerance_grad": 0, "tolerance_change": 0}
METHODS = {
    "lbfgs": partial(torch.optim.LBFGS, history_size=5, **LBFGS),
    "lbfgs, several steps": partial(torch.optim.LBFGS, history_size=5, **LBFGS | {"max_iter": 4}),
    "lbfgs without a search": partial(torch.optim.LBFGS, max_iter=1),
    "adam": partial(torch.optim.Adam, lr=0.05),
}


class TowardsValue(Term):
    """Pixels are drawn to a value; counts how often it is asked, and says ``bad`` at the given time."""

    def __init__(self, to=0.5, weight=1.0, bad_at=None):
        super().__init__(weight=weight)
        self.to, self.bad_at, self.calls = to, bad_at, 0

    def __call__(self, inputs):
        self.calls += 1
        factor = float("nan") if self.calls == self.bad_at else 1.0
        return (inputs.fake - self.to).square().mean() * factor


def pulled(term, noise, *, method="lbfgs", steps=20, size=32, levels=1, channels=3):
    content = noise(1, 3, size, size) * 0.3
    problem = Problem(
        objective=Objective({"pull": term}, compact(layers=[], weights="random")),
        content=content,
        styles=[content],
        style_weights=None,
        levels=plan_levels(size, size, levels=levels, steps=steps),
        make_optimiser=METHODS[method],
    )
    first = problem.levels[0]
    return Optimisation(problem, content[:, :channels, : first.height, : first.width])


def painted(noise, *, method="lbfgs", steps=24, levels=2, weights=None):
    """Two styles, two levels, over a small random network."""
    torch.manual_seed(3)
    terms = {
        "content": Content(weight=1.0, layers=["relu2_1"]),
        "style": GramStyle(weight=5.0, layers=["relu1_1", "relu2_1"]),
        "tv": SquaredVariation(weight=0.1),
    }
    problem = Problem(
        objective=Objective(terms, compact(layers=["relu1_1", "relu2_1"], weights="random")),
        content=noise(1, 3, 32, 40, seed=1),
        styles=[noise(1, 3, 32, 32, seed=2), noise(1, 3, 48, 32, seed=3) * 0.2],
        style_weights=weights,
        levels=plan_levels(32, 40, levels=levels, steps=steps),
        make_optimiser=METHODS[method],
    )
    first = problem.levels[0]
    return Optimisation(problem, noise(1, 3, first.height, first.width, seed=4))


def finish(optimisation):
    for _ in optimisation.iterates():
        pass
    return optimisation.canvas.detach()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("levels", "steps"), [(1, 1), (1, 2), (2, 3), (2, 8), (1, 31), (2, 32)])
def test_every_forward_and_backward_is_counted_and_they_are_as_many_as_asked_for(noise, method, levels, steps):
    optimisation = painted(noise, method=method, levels=levels, steps=steps)
    calls = 0
    look = optimisation.problem.objective.generator_loss

    def counted(*arguments, **named):
        nonlocal calls
        calls += 1
        return look(*arguments, **named)

    optimisation.problem.objective.generator_loss = counted
    finish(optimisation)
    assert optimisation.evaluation == calls == steps


@pytest.mark.parametrize("method", ["lbfgs", "lbfgs, several steps"])
def test_lbfgs_finds_the_minimum_of_a_parabola(noise, method):
    assert torch.allclose(finish(pulled(TowardsValue(0.5), noise, method=method)), torch.tensor(0.5), atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_pixels_are_not_clamped_on_their_way(noise, method):
    steps = 120 if method == "adam" else 20
    result = finish(pulled(TowardsValue(1.7), noise, method=method, steps=steps))
    assert result.mean().item() == pytest.approx(1.7, abs=0.02)


def test_one_channel_is_shown_to_the_losses_as_grey(noise):
    optimisation = pulled(TowardsValue(0.25), noise, channels=1)
    assert finish(optimisation).shape == (1, 1, 32, 32)
    assert torch.allclose(optimisation.canvas, torch.tensor(0.25), atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_it_comes_to_an_end_where_nothing_moves(noise, method):
    """No gradient anywhere: the start is the result, after as many evaluations as were asked for."""
    optimisation = pulled(TowardsValue(weight=0.0), noise, method=method)
    start = optimisation.canvas.detach().clone()
    assert torch.equal(finish(optimisation), start)
    assert optimisation.evaluation == 20


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("left_at", [3, 12, 20])
def test_going_on_gives_the_same_bits_as_never_having_stopped(noise, method, left_at):
    uninterrupted = finish(painted(noise, method=method))
    first = painted(noise, method=method)
    for _ in first.iterates():
        if first.evaluation >= left_at:
            break
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = painted(noise, method=method)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(finish(second), uninterrupted)


def test_targets_and_content_are_looked_at_once_a_level(noise):
    looks = []
    optimisation = painted(noise)
    forward = optimisation.problem.objective.perceptual.forward

    def watched(images, layers):
        looks.extend([images] if layers else [])
        return forward(images, layers)

    optimisation.problem.objective.perceptual.forward = watched
    finish(optimisation)
    contents, styles_of_the_second_level = 2, 2
    assert len(looks) == optimisation.evaluation + contents + styles_of_the_second_level


def test_the_losses_fall_at_every_level_and_the_terms_are_told_by_name(noise):
    optimisation, messages = painted(noise, steps=60), {}
    for _ in optimisation.iterates():
        messages.setdefault(optimisation.level, []).append(optimisation.terms["total"])
    assert [actual[-1] < actual[0] for actual in messages.values()] == [True, True]
    terms = optimisation.terms
    assert terms["total"] == pytest.approx(terms["content"] + 5.0 * terms["style"] + 0.1 * terms["tv"], rel=1e-5)


def test_the_target_of_several_styles_is_the_weighted_mean_of_their_statistics(noise):
    blended = painted(noise, levels=1, weights=[3.0, 1.0]).problem.objective
    first, second = (
        painted(noise, levels=1, weights=weights).problem.objective for weights in ([1.0, 0.0], [0.0, 2.0])
    )
    assert len(blended.style_targets) == 2
    for key, target in blended.style_targets.items():
        expected = 0.75 * first.style_targets[key] + 0.25 * second.style_targets[key]
        assert torch.allclose(target, expected, rtol=1e-5)
        assert not torch.allclose(first.style_targets[key], second.style_targets[key], rtol=0.1)


@pytest.mark.parametrize("method", METHODS)
def test_a_number_that_is_not_finite_is_named_and_the_picture_before_it_kept(noise, method):
    optimisation = pulled(TowardsValue(bad_at=4), noise, method=method)
    with pytest.raises(NonFiniteLossError, match=r"evaluation 4: .*pull"):
        finish(optimisation)
    assert optimisation.last_good.isfinite().all()


def test_a_step_into_nothing_is_seen_before_anyone_gets_the_picture(noise):
    optimisation = pulled(TowardsValue(), noise, method="adam")
    optimisation.optimiser.param_groups[0]["lr"] = float("inf")
    with pytest.raises(NonFiniteLossError, match=r"evaluation 1: .*the picture after it"):
        finish(optimisation)


@pytest.mark.parametrize("search", ["strong_wolfe", None])
@pytest.mark.parametrize("max_iter", [2, 20])
def test_the_first_steps_rate_is_for_one_iteration_whatever_max_iter(noise, search, max_iter):
    """torch reads lr once for all iterations of a step: the second one, at the first one's rate, threw the picture out
    by some hundred times the range.
    """
    METHODS["here"] = partial(torch.optim.LBFGS, max_iter=max_iter, max_eval=25, line_search_fn=search)
    optimisation, furthest = painted(noise, method="here", levels=1, steps=40), 0.0
    del METHODS["here"]
    start = None
    for canvas in optimisation.iterates():
        furthest = max(furthest, canvas.abs().max().item())
        start = start or optimisation.terms["total"]
    assert furthest < 10 and optimisation.terms["total"] < 0.5 * start


def test_each_level_has_twice_the_sides_of_the_one_before_and_the_last_the_full_size():
    levels = plan_levels(96, 131, levels=3, steps=30)
    assert [(item.height, item.width) for item in levels] == [(24, 33), (48, 66), (96, 131)]
    assert [item.factor for item in levels] == [0.25, 0.5, 1.0]
    assert [item.evaluations for item in levels] == [10, 10, 10]


@given(steps=st.integers(4, 999), shares=st.lists(st.floats(0.5, 9), min_size=1, max_size=3))
def test_the_shares_of_the_levels_make_up_the_steps(steps, shares):
    levels = plan_levels(512, 512, levels=len(shares), steps=40 * steps, shares=shares)
    assert sum(item.evaluations for item in levels) == 40 * steps
    for level, share in zip(levels, shares, strict=True):
        assert abs(level.evaluations - 40 * steps * share / sum(shares)) <= 1


def test_a_level_without_evaluations_is_refused():
    with pytest.raises(ValueError, match=r"steps=2 .*levels=3"):
        plan_levels(512, 512, levels=3, steps=2)
    with pytest.raises(ValueError, match=r"shares=\[0, 1\]"):
        plan_levels(512, 512, levels=2, steps=100, shares=[0, 1])


def test_a_level_too_small_for_the_networks_is_refused_with_its_size():
    with pytest.raises(ValueError, match=r"200 x 60 pixels.*levels=3.*is 15"):
        plan_levels(60, 200, levels=3, steps=30)
    assert len(plan_levels(64, 200, levels=3, steps=30)) == 3


def test_resizing_to_the_same_size_changes_nothing_and_a_flat_picture_stays_flat():
    image = torch.rand(1, 3, 7, 9)
    assert resize(image, 7, 9) is image
    assert torch.allclose(resize(torch.full((1, 3, 20, 30), 0.3), 11, 13), torch.tensor(0.3), atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(10, 40), (40, 10), (25, 25)])
def test_covering_takes_the_middle_and_squashes_nothing(height, width):
    ramp = torch.linspace(-1, 1, 80).expand(1, 3, 60, 80)
    covered = cover(ramp, height, width)
    assert covered.shape == (1, 3, height, width)
    ratio = max(height / 60, width / 80)
    slope = (covered[0, 0, height // 2, width - 2] - covered[0, 0, height // 2, 1]) / (width - 3)
    assert slope.item() == pytest.approx(2 / 79 / ratio, rel=0.05)
    assert covered.mean().item() == pytest.approx(0.0, abs=0.05)


def test_the_orientations_are_the_eight_of_a_square():
    image = torch.arange(9.0).reshape(1, 1, 3, 3)
    actual = [turn(image, orientation) for orientation in range(ORIENTATIONS)]
    assert len({tuple(item.flatten().tolist()) for item in actual}) == 8
    assert actual[1][0, 0].tolist() == [[2, 5, 8], [1, 4, 7], [0, 3, 6]]  # a quarter to the left
    assert actual[4][0, 0].tolist() == [[2, 1, 0], [5, 4, 3], [8, 7, 6]]


@pytest.mark.parametrize(("down", "right"), [(0, 0), (2, 0), (0, -3), (-1, 2), (3, 4), (-3, -4), (9, -9)])
def test_a_shift_moves_each_pixel_and_mirrors_what_lies_beyond_the_edge(down, right):
    image = torch.arange(20.0).reshape(1, 1, 4, 5)
    view = View(0, down, right).of(image)[0, 0]
    down, right = max(-3, min(3, down)), max(-4, min(4, right))  # as far as there is something to mirror

    def mirrored(place, length):
        return length - 1 - abs(length - 1 - abs(place))

    for y in range(4):
        for x in range(5):
            assert view[y, x] == image[0, 0, mirrored(y - down, 4), mirrored(x - right, 5)]


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

    def __call__(self, inputs):
        self.shown.append((inputs.content, inputs.fake.detach(), inputs.style_targets))
        return (inputs.fake - inputs.content).square().mean()


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
    optimisation, views = watched(noise, partial(draw_view, 0, reach=3), steps=12)
    network, problem = optimisation.problem.objective.perceptual, optimisation.problem
    before = optimisation.canvas.detach().clone()
    for number, _ in enumerate(optimisation.iterates()):
        view = draw_view(0, number, 3)
        content, fake, targets = views[number]
        assert torch.equal(content, view.of(problem.content)) and torch.equal(fake, view.of(before))
        style = network(turn(problem.styles[0], view.orientation), ["relu1_1"])["relu1_1"]
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
    uninterrupted, _ = watched(noise, partial(draw_view, 5, reach=3), steps=9)
    for canvas in uninterrupted.iterates():
        expected = canvas
    first, _ = watched(noise, partial(draw_view, 5, reach=3), steps=9)
    for _ in zip(range(4), first.iterates(), strict=False):
        pass
    second, _ = watched(noise, partial(draw_view, 5, reach=3), steps=9)
    second.load_state_dict(first.state_dict())
    for canvas in second.iterates():
        actual = canvas
    assert torch.equal(actual, expected)
