"""PatchNCE against its equation, and what the term looks at."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gan_style.losses.patch_nce import PatchNCE, PatchProjection, patch_nce_loss, random_places, take
from gan_style.losses.term import AuxiliaryPass, LossInputs
from gan_style.models.generator import ResnetGenerator
from gan_style.models.library import LibraryGenerator

LAYERS = ["image", "encoder.1", "blocks.0"]


def draws(role: str) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(len(role) + number) for number in range(2)]


def reference(queries: Tensor, keys: Tensor, temperature: float) -> float:
    """Park et al. 2020, equations 3 and 4, in float64 and loops; a mean over queries."""
    losses = []
    for q, k in zip(queries.double(), keys.double(), strict=True):
        for s in range(len(q)):
            positive = math.exp((q[s] @ k[s]).item() / temperature)
            negatives = sum(math.exp((q[s] @ k[n]).item() / temperature) for n in range(len(k)) if n != s)
            losses.append(-math.log(positive / (positive + negatives)))
    return sum(losses) / len(losses)


class TestLoss:
    @pytest.mark.parametrize("temperature", [0.07, 0.5])
    def test_is_the_papers_equation(self, noise, temperature):
        queries, keys = (F.normalize(noise(2, 7, 5, seed=seed), dim=2) for seed in (0, 1))
        expected = reference(queries, keys, temperature)
        assert patch_nce_loss(queries, keys, temperature).item() == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize("count", [2, 9])
    def test_of_orthogonal_patches_has_a_closed_form(self, count):
        """The positive's similarity is 1 and each negative's 0: log(1 + (P - 1) exp(-1 / t))."""
        patches = torch.eye(count)[None]
        expected = math.log(1 + (count - 1) * math.exp(-1 / 0.2))
        assert patch_nce_loss(patches, patches, 0.2).item() == pytest.approx(expected, rel=1e-5)

    def test_of_patches_that_are_all_alike_is_that_of_a_guess(self):
        patches = F.normalize(torch.ones(1, 8, 4), dim=2)
        assert patch_nce_loss(patches, patches, 0.07).item() == pytest.approx(math.log(8), rel=1e-5)


class TestTerm:
    @pytest.fixture
    def generator(self) -> ResnetGenerator:
        torch.manual_seed(0)
        return ResnetGenerator(width=4, blocks=2)

    def inputs(self, noise, generator: ResnetGenerator, term: PatchNCE, fake: Tensor) -> LossInputs:
        torch.manual_seed(1)
        return LossInputs(
            noise(2, 3, 16, 16),
            noise(2, 3, 16, 16, seed=1),
            fake,
            auxiliary={"rebuilt": AuxiliaryPass(noise(2, 3, 16, 16, seed=3))},
            generator=generator,
            projection=term.projection(generator),
            random_for=draws,
        )

    @pytest.mark.parametrize("identity", [0.0, 0.5])
    def test_is_the_equation_on_the_encoders_own_layers(self, noise, generator, identity):
        """With all places drawn their order does not matter. The layers are the modules' own outputs."""
        term = PatchNCE(weight=1.0, layers=LAYERS, patches=10_000, width=6, identity=identity)
        fake = noise(2, 3, 16, 16, seed=2)
        inputs = self.inputs(noise, generator, term, fake)

        def layers_of(images: Tensor) -> dict[str, Tensor]:
            features = {"image": images, "encoder.1": generator.encoder[1](generator.encoder[0](images))}
            return features | {"blocks.0": generator.blocks[0](generator.encoder[2](features["encoder.1"]))}

        def loss(fake: Tensor, original: Tensor) -> float:
            total = 0.0
            for layer in LAYERS:
                network = inputs.projection[layer.replace(".", "_")]
                q, k = (
                    F.normalize(network(layers_of(x)[layer].flatten(2).transpose(1, 2)), dim=2)
                    for x in (fake, original)
                )
                total += reference(q, k, 0.07) / len(LAYERS)
            return total

        expected = loss(fake, inputs.content) + identity * loss(inputs.auxiliary["rebuilt"].images, inputs.style)
        assert term(inputs).item() == pytest.approx(expected, rel=1e-4)
        assert (term.auxiliary is None) is (identity == 0.0)

    def test_trains_generator_and_projection_and_asks_nothing_of_the_photo(self, noise, generator):
        term = PatchNCE(weight=1.0, layers=LAYERS, patches=8, width=6, identity=0.0)
        fake = noise(2, 3, 16, 16, seed=2).requires_grad_()
        inputs = self.inputs(noise, generator, term, fake)
        inputs.content = inputs.content.requires_grad_()
        term(inputs).backward()
        assert fake.grad is not None and fake.grad.count_nonzero() > 0
        assert inputs.content.grad is None or inputs.content.grad.count_nonzero() == 0
        for network in (generator.encoder, inputs.projection):
            assert any(p.grad is not None and p.grad.count_nonzero() > 0 for p in network.parameters())

    def test_places_are_different_within_the_map_and_taken_where_they_are(self):
        features = torch.arange(2 * 3 * 4 * 5.0).view(2, 3, 4, 5)
        places = random_places(features, draws("x"), 6)
        assert places.shape == (2, 6) and all(len(set(row.tolist())) == 6 for row in places)
        taken = take(features, places)
        for sample in range(2):
            for number, place in enumerate(places[sample].tolist()):
                assert torch.equal(taken[sample, number], features[sample, :, place // 5, place % 5])

    def test_projections_have_unit_length(self, noise):
        projection = PatchProjection({"image": 3, "blocks.0": 5}, 7)
        for out in projection({"image": noise(2, 4, 3), "blocks.0": noise(2, 4, 5)}).values():
            torch.testing.assert_close(out.norm(dim=2), torch.ones(2, 4))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"layers": []}, "layers"),
            ({"layers": "image"}, "layers"),
            ({"layers": ["image"], "patches": 1}, "patches"),
            ({"layers": ["image"], "temperature": 0.0}, "temperature"),
            ({"layers": ["image"], "identity": -1.0}, "identity"),
        ],
    )
    def test_refuses_what_makes_no_sense(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            PatchNCE(weight=1.0, **arguments)

    def test_refuses_layers_and_generators_that_it_cannot_look_through(self, generator):
        with pytest.raises(ValueError, match=r"no layer 'blocks\.4'; it has image, encoder\.0"):
            PatchNCE(weight=1.0, layers=["blocks.4"]).projection(generator)
        with pytest.raises(ValueError, match="generator=resnet"):
            PatchNCE(weight=1.0, layers=["image"]).projection(LibraryGenerator(width=4, blocks=1, styles=["one"]))
