"""What is measured of the held-out pictures while a run goes on, and what chooses the best checkpoint."""

import pytest
import torch

from gan_style.evaluation.metrics import colour_drift, ssim, structure
from gan_style.evaluation.suite import OF_PICTURES, MetricSuite, content_distance, style_distance
from gan_style.functional import gram_matrix
from gan_style.images.decode import grid
from gan_style.models.perceptual import compact
from gan_style.models.reference import ReferenceGenerator
from gan_style.training.sampling import PREFIX, Composite, LibrarySampler, ReferenceSampler, Sampler, composite_weights

CONTENT, STYLE = ["relu2_1", "relu3_1"], ["relu1_1", "relu2_1"]


@pytest.fixture
def make_sampler(noise):
    """A sampler of two pictures of different sizes, measured by these metrics."""

    def make(*names):
        perceptual = compact(layers=[*CONTENT, *STYLE])
        style = noise(1, 3, 48, 48, seed=9).round()
        grams = {layer: gram_matrix(first) for layer, first in perceptual(style, STYLE).items()}
        contents = [noise(1, 3, 32, 40, seed=1), noise(1, 3, 48, 32, seed=2)]
        return Sampler(contents, [style], MetricSuite(perceptual, names, CONTENT, STYLE, [], grams))

    return make


def test_measures_are_means_over_pictures_by_the_metrics_own_formulas(make_sampler):
    sampler = make_sampler(*OF_PICTURES)
    results = [content * 0.5 + 0.2 for content in sampler.contents]
    actual, network, pairs = (
        sampler.measure(results),
        sampler.suite.perceptual,
        list(zip(results, sampler.contents, strict=True)),
    )
    expected = {
        "content": [content_distance(network, *pair, CONTENT) for pair in pairs],
        "style": [style_distance(network, result, sampler.suite.grams) for result in results],
        "style_photo": [style_distance(network, content, sampler.suite.grams) for content in sampler.contents],
        "ssim": [ssim(*pair).item() for pair in pairs],
        "structure": [structure(*pair).item() for pair in pairs],
        "colour/mean": [colour_drift(*pair)[0].item() for pair in pairs],
        "colour/spread": [colour_drift(*pair)[1].item() for pair in pairs],
    }  # fmt: skip
    for name, values in expected.items():
        assert actual[PREFIX + name] == pytest.approx(sum(values) / 2, rel=1e-4), name
    layers = {f"content/{layer}" for layer in CONTENT} | {f"style/{layer}" for layer in STYLE}
    assert set(actual) == {PREFIX + name for name in {*expected, *layers, "style_ratio"}}
    assert actual["heldout/style"] == pytest.approx(sum(actual[f"heldout/style/{k}"] for k in STYLE) / 2, rel=1e-9)


def test_the_style_ratio_is_of_the_photos_own(make_sampler):
    sampler = make_sampler("style")
    of_photos = sampler.measure(list(sampler.contents))
    assert of_photos["heldout/style_ratio"] == pytest.approx(1.0, rel=1e-6)
    results = [content * 0.5 for content in sampler.contents]
    actual = sampler.measure(results)
    assert actual["heldout/style_ratio"] == pytest.approx(
        actual["heldout/style"] / of_photos["heldout/style"], rel=1e-6
    )
    assert actual["heldout/style_photo"] == of_photos["heldout/style_photo"]


def test_without_the_metric_style_there_is_no_ratio(make_sampler):
    sampler = make_sampler("ssim")
    actual = sampler.measure(list(sampler.contents))
    assert actual == {"heldout/ssim": pytest.approx(1.0, abs=1e-6)}


def test_results_are_the_generators_in_full_precision_and_without_gradients(make_sampler):
    sampler = make_sampler("ssim")
    layer = torch.nn.Conv2d(3, 3, 1)
    results = sampler.results(layer)
    assert [item.shape for item in results] == [content.shape for content in sampler.contents]
    assert all(torch.equal(item, layer(content)) for item, content in zip(results, sampler.contents, strict=True))
    assert not any(item.requires_grad for item in results)
    assert all(item.dtype == torch.float32 for item in sampler.results(lambda x: x.bfloat16()))


def test_the_sheet_shows_content_style_and_result_in_rows(make_sampler):
    sampler = make_sampler("ssim")
    results = [-content for content in sampler.contents]
    (style,) = sampler.styles
    rows = [[c[0], style[0], r[0]] for c, r in zip(sampler.contents, results, strict=True)]
    assert torch.equal(sampler.sheet(results), grid(rows))


class TestComposite:
    def test_a_metric_that_is_better_when_higher_counts_as_what_it_lacks(self):
        composite = Composite({"ssim": 2.0, "structure": 1.0, "content": 1.0})
        values = {"heldout/ssim": 0.75, "heldout/structure": 0.9, "heldout/content": 0.5}
        assert composite(values) == pytest.approx(2 * 0.25 + 0.1 + 0.5)
        assert composite(values | {"heldout/ssim": 0.8}) < composite(values)
        assert composite(values | {"heldout/content": 0.4}) < composite(values)


class TestCompositeWeights:
    @pytest.mark.parametrize(
        ("weights", "names", "message"),
        [
            (None, ["contnt"], r"metrics\.names: there is no metric 'contnt' \(did you mean content\?"),
            (None, ["kid"], r"metrics\.names: there is no metric 'kid'; known are content, ssim"),
            ({"style": 1.0}, ["content"], r"metrics\.best\.style: not in metrics\.names=\['content'\]"),
            ({"colour/mean": 1.0}, ["colour/mean"], r"metrics\.best\.colour/mean: neither more nor less"),
            ({"content": -1.0}, ["content"], r"metrics\.best\.content=-1; allowed are finite numbers from 0"),
            ({"content": float("nan")}, ["content"], r"metrics\.best\.content=nan"),
            ({"content": float("inf")}, ["content"], r"metrics\.best\.content=inf"),
            ({"content": "much"}, ["content"], r"metrics\.best\.content=much; allowed are finite numbers"),
            ({"content": True}, ["content"], r"metrics\.best\.content=true"),
            ("contnt", ["content"], r"metrics\.best=contnt: weights such as .*, auto, or null expected"),
            (["content"], ["content"], r"metrics\.best=\[content\]: weights such as"),
        ],
    )
    def test_names_the_option_and_what_is_wrong(self, weights, names, message):
        with pytest.raises(ValueError, match=message):
            composite_weights(weights, names)

    @pytest.mark.parametrize("weights", [None, {}, {"content": 0.0}, {"ssim": 1.0, "style": 2}])
    def test_are_those_that_are_given(self, weights):
        assert composite_weights(weights, OF_PICTURES) == weights

    def test_of_auto_are_content_and_style_as_far_as_they_are_measured(self):
        assert composite_weights("auto", OF_PICTURES) == {"content": 1.0, "style": 1.0}
        assert composite_weights("auto", ["style", "ssim"]) == {"style": 1.0}
        assert composite_weights("auto", ["ssim"]) == {}


class Towards(torch.nn.Module):
    """A library of two styles: darker by the first, lighter by the second."""

    def forward(self, images: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        return images + (condition[:, 1] - condition[:, 0])[:, None, None, None] * 0.25


def test_a_library_is_measured_in_each_of_its_styles(make_sampler):
    sampler = LibrarySampler({"dark": make_sampler("content", "style"), "light": make_sampler("content", "style")})
    results = sampler.results(Towards())
    assert [item.shape for item in results] == [content.shape for content in [*sampler.contents, *sampler.contents]]
    torch.testing.assert_close(results[3], sampler.contents[1] + 0.25)
    actual, single = sampler.measure(results), make_sampler("content", "style")
    for name, result in (("dark", results[:2]), ("light", results[2:])):
        for metric in ("content", "style", "style_ratio"):
            assert actual[f"heldout/{name}/{metric}"] == single.measure(result)[f"heldout/{metric}"]
    mean = (actual["heldout/dark/style"] + actual["heldout/light/style"]) / 2
    assert actual["heldout/style"] == pytest.approx(mean, rel=1e-9)
    assert actual["heldout/style/relu1_1"] > 0  # layers are told of the whole library only
    assert "heldout/dark/style/relu1_1" not in actual


def test_references_are_shown_to_the_generator_that_takes_its_style_from_them(make_sampler):
    torch.manual_seed(0)
    generator = ReferenceGenerator(width=4, blocks=1, code=3).eval()
    first, two = make_sampler("ssim"), make_sampler("ssim")
    two.styles = [-first.styles[0]]
    results = ReferenceSampler({"one": first, "two": two}).results(generator)
    for result, content, reference in (
        (results[1], first.contents[1], first.styles[0]),
        (results[2], first.contents[0], two.styles[0]),
    ):
        torch.testing.assert_close(result, generator(content, reference), rtol=1e-4, atol=1e-5)


def test_a_librarys_sheet_has_a_row_of_styles_and_one_for_each_photo(make_sampler):
    sampler = LibrarySampler({"dark": make_sampler("ssim"), "light": make_sampler("ssim")})
    sheet = sampler.sheet(sampler.results(Towards()))
    assert sheet.shape == (3, 3 * 32 + 2 * 4, 3 * 40 + 2 * 4)  # all fitted to the first photo's shape
    first = sampler.contents[0][0]
    torch.testing.assert_close(sheet[:, 36:68, 0:40], first)
    torch.testing.assert_close(sheet[:, 36:68, 88:128], first + 0.25)
