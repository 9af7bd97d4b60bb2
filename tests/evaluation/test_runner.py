"""What is judged, and where it comes from: a generator or a folder; what it is called; what a sheet shows of it."""

import warnings

import pytest
import torch
from PIL import Image

from gan_style.data.pictures import UnreadablePictures
from gan_style.evaluation.runner import Evaluator, pick_worst
from gan_style.evaluation.suite import PHOTOS, STYLES, Measurements, MetricSuite
from gan_style.images.decode import decode, to_float
from gan_style.models.generator import ResnetGenerator
from gan_style.models.library import LibraryGenerator
from gan_style.models.perceptual import compact
from gan_style.models.registry import describe
from gan_style.report.outputs import FolderOutputs, GeneratedOutputs, model_labels, open_outputs
from gan_style.runtime.checkpoint import write_generator
from gan_style.runtime.distributed import Ranks
from gan_style.stylize.model import load_generator

CPU = torch.device("cpu")


def picture(path, size=(40, 32), seed=0, mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = torch.randint(0, 256, (size[1], size[0], 3), generator=torch.Generator().manual_seed(seed))
    Image.fromarray(pixels.to(torch.uint8).numpy()).convert(mode).save(path)
    return path


def content_of(path, short_side=32):
    return to_float(decode(path, short_side=short_side)[None])


@pytest.fixture
def generator():
    torch.manual_seed(0)
    return ResnetGenerator(width=4, blocks=1).eval()


def left_by(generator, folder):
    """What is left of a run."""
    folder.mkdir(parents=True, exist_ok=True)
    write_generator(folder / "generator.safetensors", generator.state_dict(), describe(generator) | {"step": 3})
    return folder


@pytest.fixture
def run(tmp_path, generator):
    return left_by(generator, tmp_path / "runs" / "mine")


@pytest.fixture
def photo(tmp_path):
    return picture(tmp_path / "photos" / "one.png")


@pytest.fixture
def made(tmp_path):
    """A folder for results."""
    (tmp_path / "made").mkdir()
    return tmp_path / "made"


def result_of(spec, photo):
    return open_outputs(str(spec), CPU)(photo, content_of(photo))


class TestOpenResults:
    def test_a_runs_folder_and_its_generators_file_give_the_generators_results(self, run, generator, photo):
        with torch.no_grad():
            expected = generator(content_of(photo))
        for spec in (run, run / "generator.safetensors"):
            assert isinstance(open_outputs(str(spec), CPU), GeneratedOutputs)
            assert torch.allclose(result_of(spec, photo), expected, atol=1e-5)

    def test_pictures_in_a_runs_folder_do_not_make_it_a_folder_of_results(self, run):
        picture(run / "samples" / "a.jpg")
        assert isinstance(open_outputs(str(run), CPU), GeneratedOutputs)
        (run / "generator.safetensors").unlink()
        (run / "checkpoints").mkdir()
        with pytest.raises(ValueError, match=r"holds no generator\.safetensors"):
            open_outputs(str(run), CPU)

    def test_a_folder_of_pictures_is_looked_up_by_name_whatever_the_suffix_and_size(self, photo, made):
        actual = picture(made / "deep" / "one.jpg", (80, 64))
        assert isinstance(open_outputs(str(made), CPU), FolderOutputs)
        assert torch.equal(result_of(made, photo), content_of(actual))

    def test_a_picture_without_a_result_is_named(self, photo, made):
        picture(made / "two.png")
        with pytest.raises(ValueError, match=r"checkpoint=.*made: .*one\.png"):
            result_of(made, photo)

    def test_a_result_of_another_shape_is_named_with_both_sizes(self, photo, made):
        result = picture(made / "one.png", (32, 40))
        with pytest.raises(ValueError) as refusal:
            result_of(made, photo)
        assert all(word in str(refusal.value) for word in (str(result), "32 x 40 pixels", "content of 40 x 32"))

    def test_a_result_that_cannot_be_read_is_named(self, photo, made):
        (made / "one.png").write_text("no picture")
        with pytest.raises(ValueError, match=r"made/one\.png"):
            result_of(made, photo)

    def test_a_grey_result_is_one_too(self, photo, made):
        picture(made / "one.png", mode="L")
        actual = result_of(made, photo)
        assert torch.equal(actual[:, 0], actual[:, 2]) and actual.shape == (1, 3, 32, 40)

    def test_two_results_of_one_name_are_refused(self, photo, made):
        for name in ("one.png", "one.jpg"):
            picture(made / name)
        with pytest.raises(ValueError, match=r"checkpoint=.*made: several pictures have the same name"):
            open_outputs(str(made), CPU).match([photo])

    def test_names_may_come_again_in_other_folders(self, tmp_path, made):
        photos = [picture(tmp_path / "photos" / name) for name in ("cat/1.jpg", "dog/1.jpg", "dog/2.jpg")]
        results = [picture(made / name) for name in ("cat/1.png", "dog/1.png", "deep/er/2.png")]
        assert open_outputs(str(made), CPU).match(photos) == dict(zip(photos, results, strict=True))

    def test_one_result_is_not_that_of_two_pictures(self, tmp_path, made):
        photos = [picture(tmp_path / "photos" / name) for name in ("cat/1.jpg", "dog/1.jpg")]
        picture(made / "1.png")
        with pytest.raises(ValueError, match=r"checkpoint=.*made: 1\.png would be the result of"):
            open_outputs(str(made), CPU).match(photos)

    def test_neither_file_nor_folder(self, tmp_path):
        (tmp_path / "empty").mkdir()
        with pytest.raises(ValueError, match=r"checkpoint=.*nowhere: there is no such file or folder"):
            open_outputs(str(tmp_path / "nowhere"), CPU)
        with pytest.raises(ValueError, match=r"checkpoint=.*empty: .*is it a run's folder"):
            open_outputs(str(tmp_path / "empty"), CPU)

    def test_a_generator_whose_results_are_no_numbers_is_stopped_at_the_picture(self, run, generator, photo):
        with torch.no_grad():
            next(generator.parameters()).fill_(float("nan"))
        left_by(generator, run)
        with pytest.raises(ArithmeticError, match=r"one\.png: .*not a finite number"):
            result_of(run, photo)


class TestLabels:
    @pytest.fixture(autouse=True)
    def here(self, tmp_path, monkeypatch):
        """In a folder with these runs, of a generator and two checkpoints each."""
        monkeypatch.chdir(tmp_path)
        for folder in ("mine", "a/run", "b/run", "other", PHOTOS, STYLES):
            for name in ("generator.safetensors", "checkpoints/best.pt", "checkpoints/step_00000100.pt"):
                path = tmp_path / folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()

    def test_a_model_is_called_as_its_run_is(self, tmp_path, monkeypatch):
        for spec in (tmp_path / "mine", "mine/", "mine/generator.safetensors", "mine/checkpoints/best.pt"):
            assert model_labels([str(spec)]) == ["mine"]
        monkeypatch.chdir("mine")
        assert model_labels(["."]) == ["mine"]
        assert model_labels(["generator.safetensors"]) == ["mine"]

    def test_a_file_elsewhere_by_its_own_name(self, tmp_path):
        (tmp_path / "mine" / "nice.safetensors").touch()
        assert model_labels(["mine/nice.safetensors"]) == ["nice"]

    def test_checkpoints_of_one_run_are_told_apart(self):
        specs = ["mine/checkpoints/step_00000100.pt", "mine/checkpoints/best.pt", "mine"]
        assert model_labels(specs) == ["mine/step_00000100", "mine/best", "mine"]

    def test_runs_of_one_name_in_two_places_are_told_apart(self):
        assert model_labels(["a/run", "b/run", "other"]) == ["a/run", "b/run", "other"]
        first, two = model_labels(["a/run/generator.safetensors", "b/run/generator.safetensors"])
        assert first.endswith("a/run/generator.safetensors") and two.endswith("b/run/generator.safetensors")

    @pytest.mark.parametrize("name", [PHOTOS, STYLES])
    def test_no_model_is_called_as_an_end_of_the_scale(self, name, tmp_path):
        """It would take its place in the table."""
        assert model_labels([name]) == [str(tmp_path / name)]

    def test_a_model_that_is_given_twice_or_not_there_is_refused(self):
        with pytest.raises(ValueError, match="checkpoint=a/run is given twice"):
            model_labels(["a/run", "other", "./a/run/"])
        with pytest.raises(ValueError, match="checkpoint=nowhere: there is no such file"):
            model_labels(["other", "nowhere"])


class TestWorst:
    def scored(self, content, style=None):
        style = style or [0.0] * len(content)
        pairs = zip(content, style, strict=True)
        return Measurements({n: {"content": c, "style": s} for n, (c, s) in enumerate(pairs)})

    def test_few_are_all_shown_in_order(self):
        assert pick_worst({"a": self.scored([3.0, 1.0, 2.0])}, 3) == [0, 1, 2]
        assert pick_worst({"a": self.scored([3.0, 1.0, 2.0])}, 60) == [0, 1, 2]

    def test_half_are_the_worst_by_content_and_style_in_turn(self):
        content, style = [0.0] * 20, [0.0] * 20
        content[13], content[4], style[17], style[6] = 9.0, 8.0, 9.0, 8.0
        chosen = pick_worst({"a": self.scored(content, style)}, 8)
        assert len(chosen) == 8 == len(set(chosen)) and chosen == sorted(chosen)
        assert {13, 4, 17, 6} <= set(chosen)

    def test_every_models_worst_comes_before_one_models_second(self):
        first, two = [0.0] * 20, [0.0] * 20
        first[19], first[18], two[11] = 9.0, 8.0, 1.0
        assert {19, 11} <= set(pick_worst({"a": self.scored(first), "b": self.scored(two)}, 6))

    def test_the_others_are_evenly_spread(self):
        flat = pick_worst({"a": Measurements({n: {"ssim": 1.0} for n in range(100)})}, 10)
        assert flat == list(range(0, 100, 10))  # nothing to rank by

    def test_pictures_that_were_not_measured_are_not_shown(self):
        first = self.scored([1.0] * 10)
        del first.numbers[4]
        assert 4 not in pick_worst({"a": first}, 9) and len(pick_worst({"a": first}, 9)) == 9

    def test_none_on_demand(self):
        assert pick_worst({"a": self.scored([1.0, 2.0])}, 0) == []


class TestJudge:
    """Over pictures on disk; that ranks agree is measured from the command line."""

    @pytest.fixture
    def evaluator(self):
        suite = MetricSuite(compact(layers=["relu1_1"], weights="random"), ["style", "ssim"], [], ["relu1_1"], [])
        return Evaluator(suite, 32, CPU, Ranks(), lambda line: None)

    def test_the_grams_are_the_reference_halfs_mean(self, evaluator, tmp_path):
        paths = [picture(tmp_path / f"{n}.png", seed=n) for n in range(9)]
        reference, rest = evaluator.measure_styles(paths, UnreadablePictures("style", 9, 0.1))
        assert (list(reference.embeddings), list(rest.numbers)) == ([0, 2, 4, 6, 8], [1, 3, 5, 7])
        features = [evaluator.suite.features(content_of(path))["relu1_1"] for path in paths[::2]]
        expected = torch.stack([f[0].flatten(1) @ f[0].flatten(1).T / f[0][0].numel() for f in features]).mean(0)
        assert torch.allclose(evaluator.suite.grams["relu1_1"][0], expected, rtol=1e-5)

    def test_what_cannot_be_read_is_named_and_left_out_under_its_own_number(self, evaluator, tmp_path):
        paths = [picture(tmp_path / f"{n}.png", seed=n) for n in range(4)]
        evaluator.measure_styles(paths[:1], UnreadablePictures("style", 1, 0.0))
        paths[1].write_text("no picture")
        watch = UnreadablePictures("content", 4, 0.25, "max_unreadable")
        with warnings.catch_warnings(record=True) as output:
            warnings.simplefilter("always")
            actual = evaluator.measure_outputs(paths, {}, watch)
        assert list(actual[PHOTOS].numbers) == [0, 2, 3]
        assert len(output) == 1 and "1.png" in str(output[0].message)

    def test_what_another_rank_cannot_read_counts_and_is_named_here_too(self, evaluator, tmp_path):
        class Two(Ranks):
            def gather(self, part):
                other = [("elsewhere.png", "cannot read elsewhere.png")]
                return [part, other if isinstance(part, list) else part]

        evaluator.ranks = Two()
        paths = [picture(tmp_path / "0.png"), tmp_path / "elsewhere.png"]
        evaluator.suite.grams = {"relu1_1": torch.zeros(1, 16, 16)}
        with pytest.warns(UserWarning, match="cannot read elsewhere.png; passed over"):
            evaluator.measure_outputs(paths[:1], {}, UnreadablePictures("content", 2, 0.5, "max_unreadable"))
        with (
            pytest.raises(ValueError, match=r"1 of 2 pictures cannot be read, more than max_unreadable=0\.1 allows"),
            pytest.warns(UserWarning),
        ):
            evaluator.measure_outputs(paths[:1], {}, UnreadablePictures("content", 2, 0.1, "max_unreadable"))


class TestLibrary:
    """FILE#STYLE: one style of many."""

    @pytest.fixture
    def library(self, tmp_path):
        torch.manual_seed(1)
        generator = LibraryGenerator(width=4, blocks=1, styles=["monet", "wave"])
        for weight in generator.parameters():
            if weight.ndim == 2:
                weight.data += 0.3 * torch.randn_like(weight)
        return left_by(generator, tmp_path / "runs" / "many")

    @pytest.mark.parametrize(("style", "condition"), [("monet", [1.0, 0.0]), ("wave", [0.0, 1.0])])
    def test_one_style_is_named_after_the_file(self, library, photo, style, condition):
        with torch.no_grad():
            expected = load_generator(library, CPU)(content_of(photo), torch.tensor([condition]))
        assert torch.equal(result_of(f"{library}#{style}", photo), expected)

    def test_each_style_has_a_label_of_its_own(self, library):
        specs = [f"{library}#monet", f"{library / 'generator.safetensors'}#wave"]
        assert model_labels(specs) == ["many#monet", "many#wave"]

    @pytest.mark.parametrize("end", ["", "#", "#wawe"])
    def test_a_library_without_one_of_its_styles_is_refused(self, library, end):
        with pytest.raises(ValueError, match=r"choose one of its styles, .*many#NAME: monet, wave"):
            open_outputs(f"{library}{end}", CPU)

    def test_a_generator_of_one_style_has_none_with_a_name(self, run):
        with pytest.raises(ValueError, match="has no styles with names"):
            open_outputs(f"{run}#monet", CPU)

    def test_a_file_that_is_called_so_is_meant_itself(self, run, tmp_path):
        odd = run.rename(tmp_path / "mine#2")
        assert isinstance(open_outputs(str(odd), CPU), GeneratedOutputs)
