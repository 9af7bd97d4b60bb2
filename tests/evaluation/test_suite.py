"""What is measured of a picture and of a set: against the formulas by hand, and at the two ends of the scale."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from gan_style.demo import demo_pictures
from gan_style.evaluation.metrics import (
    Estimate,
    Moments,
    colour_drift,
    embedding,
    frechet_distance,
    kernel_distance,
    ssim,
    structure,
)
from gan_style.evaluation.suite import (
    DEFAULT,
    INCEPTION,
    METRICS,
    OF_PICTURES,
    PERCEPTUAL,
    PHOTOS,
    STYLES,
    Measurements,
    MetricSuite,
    check_metrics,
    content_distance,
    halves,
    missing_requirements,
    style_distance,
    summary,
)
from gan_style.functional import gram_matrix
from gan_style.images.decode import decode, to_float
from gan_style.losses.objective import mean_gram
from gan_style.models.perceptual import compact

CONTENT, STYLE, EMBEDDING = ["relu2_1", "relu3_1", "relu3_2"], ["relu1_1", "relu2_1", "relu3_1"], ["relu2_2", "relu3_3"]


def measured(rows, space=PERCEPTUAL, **numbers):
    """A set with these embeddings (n, D), and numbers: {name: one value for each picture}."""
    of_each = {n: {name: values[n] for name, values in numbers.items()} for n in range(len(rows))}
    return Measurements(of_each, {n: {space: row} for n, row in enumerate(rows)})


def cloud(count, seed, *, centre=0.0, width=5):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) + centre


def the_same(first: Measurements, second: Measurements) -> bool:
    """To the bit, and in the same order."""
    return (
        list(first.numbers.items()) == list(second.numbers.items())
        and list(first.embeddings) == list(second.embeddings)
        and all(torch.equal(rows[PERCEPTUAL], second.embeddings[n][PERCEPTUAL]) for n, rows in first.embeddings.items())
    )


class TestMeasured:
    @given(shares=st.lists(st.integers(0, 3), min_size=20, max_size=20), order=st.permutations(range(4)))
    def test_any_split_into_parts_gives_the_same_to_the_bit(self, shares, order):
        at_once = measured(cloud(20, 0), style=torch.linspace(0.1, 3.0, 20).tolist())
        parts = [[n for n in range(20) if shares[n] == part] for part in order]
        numbers, embeddings = at_once.numbers, at_once.embeddings
        merged = Measurements.merged(
            Measurements({n: numbers[n] for n in part}, {n: embeddings[n] for n in part}) for part in parts
        )
        assert the_same(merged, at_once)
        reference = measured(cloud(9, 1))
        names = ("kid", "frechet", "deception", "style")
        assert summary({PHOTOS: merged}, reference, names) == summary({PHOTOS: at_once}, reference, names)

    def test_means_have_the_standard_error_of_the_mean_by_hand(self):
        means = measured(cloud(4, 0), ssim=[1.0, 2.0, 3.0, 6.0]).means()
        assert means["ssim"].value == 3.0  # deviations -2, -1, 0, 3: variance 14 / 3
        assert means["ssim"].error == pytest.approx((14 / 3 / 4) ** 0.5, rel=1e-12)
        assert means["ssim"].n == 4

    def test_one_picture_has_a_mean_and_no_error(self):
        assert measured(cloud(1, 0), ssim=[0.25]).means() == {"ssim": Estimate(0.25, None, 1)}

    def test_a_number_that_only_some_pictures_have_counts_those(self):
        means = Measurements({0: {"a": 1.0}, 1: {"a": 3.0, "b": 5.0}}).means()
        assert (means["a"].n, means["a"].value, means["b"]) == (2, 2.0, Estimate(5.0, None, 1))

    def test_rows_of_chosen_pictures_leave_out_those_that_could_not_be_read(self):
        first = measured(cloud(6, 0))
        del first.embeddings[2]
        assert torch.equal(first.rows(PERCEPTUAL, [1, 2, 4]), cloud(6, 0)[[1, 4]])


@pytest.mark.parametrize(("count", "first"), [(9, [0, 2, 4, 6, 8]), (7, range(7)), (1, [0]), (0, [])])
def test_halves_are_every_other_one_and_few_are_not_divided(count, first):
    assert halves(range(count)) == (list(first), [number for number in range(count) if number not in first])


class TestWhyNot:
    @pytest.mark.parametrize(
        ("name", "photos", "styles"),
        [("kid", 3, 3), ("frechet", 2, 2), ("fid", 2, 2), ("artfid", 2, 2), ("deception", 16, 16)],
    )
    def test_each_metric_has_its_smallest_sizes(self, name, photos, styles):
        assert missing_requirements([name], photos, styles) == {}
        for fewer in ((photos - 1, styles), (photos, styles - 1)):
            (reason,) = missing_requirements([name], *fewer).values()
            assert name in reason and str(photos) in reason and "there are" in reason

    def test_the_smallest_sizes_are_enough_indeed(self):
        """Of every metric of sets: what missing_requirements allows can be computed."""
        for photos, styles in ((16, 16), (3, 3), (2, 2), (16, 30)):
            rows = cloud(styles, 2, centre=3.0)
            reference, others = (rows[half] for half in halves(range(styles)))
            sets = {PHOTOS: measured(cloud(photos, 1))} | ({STYLES: measured(others)} if len(others) else {})
            names = [name for name in DEFAULT if name not in missing_requirements(DEFAULT, photos, styles)]
            metrics = summary(sets, measured(reference), names)
            assert set(metrics[PHOTOS]) == {"kid", "frechet", "deception"} & set(names)

    def test_too_few_to_compare_with_is_counted_in_the_reference_half(self):
        """8 style pictures are divided, 7 are not."""
        assert "there are 2 and 4" in missing_requirements(["kid"], 2, 8)["kid"]
        assert "there are 2 and 7" in missing_requirements(["kid"], 2, 7)["kid"]

    def test_what_is_measured_of_single_pictures_needs_one(self):
        assert missing_requirements([*OF_PICTURES, "lpips"], 1, 1) == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["content", "structur"],), r"metrics: there is no metric 'structur' \(did you mean structure\?"),
        (([7],), r"there is no metric 7; known are content, ssim, .* artfid"),  # all, where nothing is near
        ((["kid"], OF_PICTURES, "metrics.names"), r"metrics\.names: there is no metric 'kid'; .*colour/spread$"),
    ],
)
def test_an_unknown_metric_is_named_with_the_nearest(arguments, message):
    check_metrics(METRICS)
    with pytest.raises(ValueError, match=message):
        check_metrics(*arguments)


@pytest.fixture(scope="module")
def photos():
    return [to_float(decode(path, short_side=96)[None]) for path in demo_pictures("heldout")]


@pytest.fixture(scope="module")
def suite(photos):
    perceptual = compact(layers=[*CONTENT, *STYLE, *EMBEDDING])
    perceptual.calibrate(photos)
    styles = [to_float(decode(path, short_side=96)[None]) for path in demo_pictures("styles/flow")]
    return MetricSuite(perceptual, DEFAULT, CONTENT, STYLE, EMBEDDING, mean_gram(perceptual, styles, STYLE))


def noised(photo, strength):
    return (photo + strength * torch.randn(photo.shape, generator=torch.Generator().manual_seed(0))).clamp(-1, 1)


def blurred(photo, factor):
    return F.interpolate(F.avg_pool2d(photo, factor, ceil_mode=True), photo.shape[-2:], mode="bilinear")


def scores(suite, result, photo):
    features = suite.features(result)
    return suite.measure_pair(result, photo, features, suite.features(photo)) | suite.measure_image(result, features)


class TestMetricSuite:
    def test_numbers_are_those_of_the_formulas(self, suite, photos):
        result, photo = noised(photos[0], 0.3), photos[0]
        actual, network = scores(suite, result, photo), suite.perceptual
        assert actual["content"] == pytest.approx(content_distance(network, result, photo, CONTENT), rel=1e-5)
        assert actual["style"] == pytest.approx(style_distance(network, result, suite.grams), rel=1e-5)
        item, two = network(result, ["relu3_1"])["relu3_1"], network(photo, ["relu3_1"])["relu3_1"]
        assert actual["content/relu3_1"] == pytest.approx(F.mse_loss(item, two).item(), rel=1e-5)
        expected = (gram_matrix(item) - suite.grams["relu3_1"]).square().mean()
        assert actual["style/relu3_1"] == pytest.approx(expected.item(), rel=1e-5)
        assert actual["ssim"] == ssim(result, photo).item()
        assert actual["structure"] == structure(result, photo).item()
        assert [actual["colour/mean"], actual["colour/spread"]] == [item.item() for item in colour_drift(result, photo)]

    def test_a_mean_over_layers_is_that_of_its_layers(self, suite, photos):
        actual = scores(suite, blurred(photos[1], 3), photos[1])
        for name, layers in (("content", CONTENT), ("style", STYLE)):
            assert actual[name] == pytest.approx(sum(actual[f"{name}/{layer}"] for layer in layers) / 3, rel=1e-12)

    def test_an_embedding_is_that_of_the_embedding_layers(self, suite, photos):
        features = suite.features(photos[0])
        expected = embedding(suite.perceptual(photos[0], EMBEDDING))[0]
        assert torch.equal(suite.embed(photos[0], features)[PERCEPTUAL], expected)

    @pytest.mark.parametrize("number", [0, 1])
    @pytest.mark.parametrize(("damage", "strengths"), [(noised, [0.05, 0.1, 0.2, 0.4]), (blurred, [2, 3, 5, 8])])
    def test_damage_scores_worse_the_stronger_it_is(self, suite, photos, number, damage, strengths):
        photo = photos[number]
        actual = [scores(suite, photo, photo), *(scores(suite, damage(photo, s), photo) for s in strengths)]
        for less, more in pairwise(actual):
            assert more["content"] > less["content"]
            assert more["ssim"] < less["ssim"] and more["structure"] < less["structure"]

    @pytest.mark.parametrize("name", OF_PICTURES)
    def test_only_what_is_asked_for_is_measured(self, suite, photos, name):
        single = MetricSuite(suite.perceptual, [name], CONTENT, STYLE, EMBEDDING, suite.grams)
        actual, complete = (scores(x, noised(photos[0], 0.2), photos[0]) for x in (single, suite))
        assert set(actual) == {key for key in complete if key == name or key.startswith(f"{name}/")}
        assert actual == pytest.approx({key: complete[key] for key in actual}, rel=1e-5)
        assert single.embed(photos[0], single.features(photos[0])) == {}

    def test_other_peoples_networks_are_asked_where_they_are_there(self, photos):
        suite = MetricSuite(
            compact(layers=[]), ["artfid"], [], [], [],
            lpips=lambda image, content: (image - content).abs().mean().reshape(1),
            inception=lambda picture: picture.mean(dim=(2, 3)),
        )  # fmt: skip
        actual = scores(suite, photos[0] * 0.5, photos[0])
        assert actual == {"lpips": pytest.approx((photos[0] * 0.5).abs().mean().item(), rel=1e-6)}
        rows = suite.embed(photos[0], {})
        assert torch.equal(rows[INCEPTION], photos[0].mean(dim=(2, 3))[0]) and PERCEPTUAL not in rows


@pytest.fixture(scope="module")
def actual():
    """Synthetic sets: photos around 0, style pictures around 4, a model that has come half the way."""
    styles = cloud(40, 1, centre=4.0)
    reference, others = (styles[half] for half in halves(range(40)))
    model = measured(cloud(40, 3, centre=2.5))
    sets = {PHOTOS: measured(cloud(40, 2)), "model": model, STYLES: measured(others)}
    return summary(sets, measured(reference), ["deception"])


class TestSummary:
    def test_photos_are_taken_for_photos_and_style_pictures_for_style_pictures(self, actual):
        # of those that were not learned from; Wilson's interval for 0 of n ends at z^2 / (n + z^2)
        error = pytest.approx(1.959964**2 / (20 + 1.959964**2) / (2 * 1.959964), rel=1e-6)
        for name, rate in ((PHOTOS, 0.0), (STYLES, 1.0)):
            first = actual[name]["deception"]
            assert (first.value, first.error, first.n) == (rate, error, 20)

    def test_the_error_of_a_rate_is_that_of_a_share(self, actual):
        rate = actual["model"]["deception"]
        assert 0 < rate.value < 1 and rate.n == 20
        plain = (rate.value * (1 - rate.value) / 20) ** 0.5
        assert plain < rate.error < 1.2 * plain  # Wilson's for a share that is not near an end

    def test_distances_are_those_of_the_formulas(self):
        sets, y = {PHOTOS: cloud(6, 1), "model": cloud(7, 3), STYLES: cloud(4, 4, centre=1.0)}, cloud(5, 2, centre=1.0)
        actual = summary({name: measured(x) for name, x in sets.items()}, measured(y), ["kid", "frechet"])
        assert actual == {
            name: {"kid": kernel_distance(x, y), "frechet": frechet_distance(Moments.of(x), Moments.of(y))}
            for name, x in sets.items()
        }

    def test_artfid_is_made_of_lpips_and_fid(self):
        x, y = cloud(6, 1), cloud(5, 2, centre=1.0)
        photos = measured(x, space=INCEPTION, lpips=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
        actual = summary({PHOTOS: photos}, measured(y, space=INCEPTION), ["artfid"])[PHOTOS]
        fid = frechet_distance(Moments.of(x), Moments.of(y)).value
        assert actual["fid"].value == fid
        assert actual["artfid"] == Estimate(pytest.approx((1 + 0.35) * (1 + fid), rel=1e-12), None, 6)

    def test_style_pictures_that_are_too_few_to_divide_leave_their_end_open(self):
        actual = summary({PHOTOS: measured(cloud(4, 1))}, measured(cloud(3, 2)), ["kid"])
        assert set(actual) == {PHOTOS}
