"""Refining a style from one picture: the loss falls, the model that was given stays as it is."""

import torch

from gan_style.functional import gram_matrix
from gan_style.models.library import LibraryGenerator
from gan_style.models.perceptual import compact
from gan_style.optimise.refine import Refiner


def test_style_distance_falls_for_each_reference_and_nothing_else_changes(noise):
    torch.manual_seed(0)
    library = LibraryGenerator(width=8, blocks=1, tone=False, styles=["a", "b"]).requires_grad_(False).eval()
    before = {name: tensor.clone() for name, tensor in library.state_dict().items()}
    photo = noise(1, 3, 48, 40)
    references = {"a": 0.2 * noise(1, 3, 40, 40, seed=1) + 0.5, "b": noise(1, 3, 40, 40, seed=2) - 0.3}
    refined = Refiner(references, 15)(library, photo)
    assert all(torch.equal(tensor, before[name]) for name, tensor in library.state_dict().items())

    # Only the rows of the two styles have moved: not the photo's own, which is the last, and no convolution
    for name, tensor in refined.state_dict().items():
        moved = (tensor != before[name]).reshape(len(tensor), -1).any(dim=1)
        rows = name.removesuffix(".weight").removesuffix(".bias") in library.conditional_norms()
        assert moved.tolist() == [True, True, False] if rows else not moved.any()

    network = compact(layers=["relu2_1"])
    for number, reference in enumerate(references.values()):
        condition = torch.eye(2)[number : number + 1]
        target = gram_matrix(network(reference, ["relu2_1"])["relu2_1"])
        old, new = (
            (gram_matrix(network(generator(photo, condition), ["relu2_1"])["relu2_1"]) - target).square().mean()
            for generator in (library, refined)
        )
        assert new < old
    assert torch.equal(refined(photo, torch.zeros(1, 2)), photo)
