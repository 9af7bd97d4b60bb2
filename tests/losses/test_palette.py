"""The palette term, against a search of all colours (scipy's k-d tree) and closed forms."""

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from gan_style.losses.objective import Objective
from gan_style.losses.palette import LEVELS, Palette, color_shares, distance_to_colors
from gan_style.losses.term import LossInputs
from gan_style.models.perceptual import compact


def plain(*color: float, size: int = 16) -> Tensor:
    return torch.tensor(color)[None, :, None, None].expand(1, 3, size, size).clone()


def objective_of(**settings) -> Objective:
    return Objective({"palette": Palette(weight=1.0, **settings)}, compact(layers=[], weights="random"))


def loss_of(objective: Objective, fake: Tensor, **inputs) -> Tensor:
    loss_inputs = LossInputs(torch.zeros_like(fake), torch.zeros_like(fake), fake, **inputs)
    return objective.generator_loss(loss_inputs, None, warming_up=False)[1]["palette"]


def test_shares_of_colours_sum_to_one_and_lie_at_r_g_b():
    picture = plain(-1.0, 0.0, 1.0)
    picture[..., :4] = 1.0
    shares = color_shares(picture)
    assert shares[0, 0, LEVELS // 2, -1] == 0.75
    assert shares[0, -1, -1, -1] == 0.25
    assert shares.sum() == 1.0


def test_distances_are_those_of_a_search_among_all_colours(noise):
    present = color_shares(noise(2, 3, 8, 8).clamp(-1.0, 1.0)) > 0
    levels = np.linspace(-1.0, 1.0, LEVELS)
    nodes = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1)
    for colors, distances in zip(present, distance_to_colors(present), strict=True):
        expected, _ = cKDTree(nodes[colors.numpy()]).query(nodes)
        np.testing.assert_allclose(distances, expected, atol=1e-5)


def test_a_colour_costs_its_distance_less_the_margin_and_is_drawn_to_the_styles():
    objective = objective_of(margin=0.125)
    objective.set_style("mean", [(0, plain(0.5, -0.5, 0.25))])
    fake = plain(0.5, 0.25, 0.25).requires_grad_()
    loss = loss_of(objective, fake)
    assert loss.item() == pytest.approx(0.75 - 0.125, abs=1e-5)
    loss.backward()
    gradient = fake.grad[0, :, 8, 8]
    assert gradient[1] > 0
    assert gradient[[0, 2]].abs().max() < 0.1 * gradient[1]


def test_every_colour_of_the_style_is_free_in_any_amount(noise):
    style = torch.cat([plain(0.5, -0.5, 0.25), plain(-1.0, -1.0, 1.0)], dim=3)
    objective = objective_of()
    objective.set_style("mean", [(0, style)])
    assert loss_of(objective, plain(-1.0, -1.0, 1.0)) == 0
    assert loss_of(objective, plain(0.5, -0.5, 0.25) + 0.05 * noise(1, 3, 16, 16).clamp(-1.0, 1.0)) == 0


def test_of_a_library_each_sample_has_its_own_style_and_mixtures_none():
    objective = objective_of()
    red, blue = plain(1.0, -1.0, -1.0), plain(-1.0, -1.0, 1.0)
    objective.set_library("mean", {"red": [(0, red)], "blue": [(0, blue)]})
    condition = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.5, 0.0]])
    assert loss_of(objective, torch.cat([red, blue, red, blue]), condition=condition) == 0
    expected = 2 * (8.0**0.5 - 0.15) / 4
    assert loss_of(objective, torch.cat([blue, red, red, blue]), condition=condition).item() == pytest.approx(expected)


def test_of_each_picture_it_is_that_beside_the_photo():
    objective = objective_of(target="each")
    red, blue = plain(1.0, -1.0, -1.0), plain(-1.0, -1.0, 1.0)
    objective.set_style("each", [(0, red), (1, blue)])
    assert loss_of(objective, torch.cat([blue, red]), style_index=torch.tensor([1, 0])) == 0
    assert loss_of(objective, torch.cat([blue, red]), style_index=torch.tensor([0, 1])) > 2
