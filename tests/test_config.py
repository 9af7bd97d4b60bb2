"""Every config composes and builds; what cannot be meant is refused in the user's words."""

import inspect
from importlib import import_module
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf
from torch import nn

from gan_style.cli import COMMANDS
from gan_style.commands.train import TrainOptions, check_train
from gan_style.commands.train_setup import TrainSetup, make_objective
from gan_style.config import CONFIG_PATH, build, flat, plain, readable, to_yaml
from gan_style.losses.content import Content
from gan_style.losses.objective import Objective
from gan_style.models.blocks import count_parameters
from gan_style.options import check_options

ROOTS = [name.replace("-", "_") for name in COMMANDS]
PICTURES = ["data.content=x", "data.style=y"]


def compose(root: str, *overrides: str) -> DictConfig:
    import_module(f"gan_style.commands.{root}")  # which knows the types of its options
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONFIG_PATH), version_base="1.3"):
        return hydra.compose(root, overrides=list(overrides))


def node(target: str, **arguments: Any) -> DictConfig:
    return OmegaConf.create({"_target_": target, **arguments})


def as_written(root: str) -> dict[str, Any]:
    return OmegaConf.to_container(OmegaConf.load(CONFIG_PATH / f"{root}.yaml"), resolve=False)


def group_choices() -> list[str]:
    """Each "group=choice" of the groups that train's defaults list names."""
    defaults = [entry for entry in as_written("train")["defaults"] if isinstance(entry, dict)]
    groups = [name for entry in defaults for name in entry if (CONFIG_PATH / str(name)).is_dir()]
    actual = [f"{group}={path.stem}" for group in groups for path in sorted((CONFIG_PATH / group).glob("*.yaml"))]
    return [choice for choice in actual if not choice.startswith("experiment=")]


EXPERIMENTS = sorted(path.stem for path in (CONFIG_PATH / "experiment").glob("*.yaml"))


def objective_of(cfg: DictConfig) -> Objective:
    """With random perceptual weights."""
    cfg.perceptual.weights = "random"
    return make_objective(TrainSetup(cfg, {}, torch.device("cpu"), Path()))


def all_terms(objective: Objective) -> dict[str, Any]:
    return objective.terms | ({"adversarial": objective.adversarial} if objective.adversarial else {})


def build_everything(cfg: DictConfig) -> None:
    """Build what train builds, with random perceptual weights."""
    library = cfg.generator._target_.endswith((".LibraryGenerator", ".MobileGenerator"))
    if library:
        cfg.data.style = {"one": "x"}
    generator = build(cfg.generator, "generator", **({"styles": ["one"]} if library else {}))
    discriminator = build(cfg.discriminator, "discriminator", **({"styles": 1} if library else {}))
    objective_of(cfg)
    for name, network in (("generator", generator), ("discriminator", discriminator)):
        optimiser = build(cfg.optimiser[name], f"optimiser.{name}")(network.parameters())
        assert isinstance(optimiser, torch.optim.Optimizer)
    assert cfg.data.size >= discriminator.smallest
    check_options(TrainOptions, cfg)
    check_train(cfg)


class TestComposition:
    def test_there_is_a_root_for_every_command(self):
        assert {path.stem for path in CONFIG_PATH.glob("*.yaml")} == set(ROOTS)

    @pytest.mark.parametrize("root", ROOTS)
    def test_every_root_names_every_option_of_its_schema(self, root):
        """What is missing after composition is what the YAML marks with ???: the user's to give."""
        asked_for = {key for key, value in flat(as_written(root)).items() if value == "???"}
        assert OmegaConf.missing_keys(compose(root)) == asked_for

    def test_train_builds_as_it_stands(self):
        build_everything(compose("train", *PICTURES))

    @pytest.mark.parametrize("experiment", EXPERIMENTS)
    def test_every_experiment_builds(self, experiment):
        cfg = compose("train", f"experiment={experiment}")
        for name in ("content", "style"):
            if OmegaConf.is_missing(cfg.data, name):
                cfg.data[name] = "x"
        assert cfg.run.name == experiment  # two experiments never share a run's folder
        build_everything(cfg)

    @pytest.mark.parametrize("choice", group_choices())
    def test_every_choice_of_every_group_builds(self, choice):
        needed = {
            "generator=reference": ["loss.style.target=crop"],
            "loss=guided": ["data.regions={content: x, style: x, classes: x, names: [sky, rest]}"],
            "loss=paired": ["data.paired=true", "training.warmup_steps=0"],
            "loss=patch_nce": ["training.warmup_steps=0"],
            "perceptual=torchvision": ["loss.style.layers=[conv1,layer1]", "loss.content.layers=[layer2.0]"],
        }.get(choice, [])
        build_everything(compose("train", *PICTURES, choice, *needed))

    @pytest.mark.parametrize("choice", [c for c in group_choices() if c.startswith("loss=")])
    def test_every_term_of_every_loss_is_what_its_file_says(self, choice):
        objective = objective_of(cfg := compose("train", *PICTURES, choice))
        terms, nodes = all_terms(objective), {k: v for k, v in plain(cfg.loss).items() if k != "balance"}
        assert terms.keys() == nodes.keys() == objective.weights.keys()
        for name, written in nodes.items():
            assert f"{type(terms[name]).__module__}.{type(terms[name]).__name__}" == written.pop("_target_")
            assert {key: getattr(terms[name], key) for key in written} == written
            assert objective.weights[name] == written["weight"]

    def test_there_are_choices(self):
        assert {"generator=slim", "discriminator=patch34", "perceptual=vgg16", "loss=full"} <= set(group_choices())
        assert {"smoke", "quickstart", "monet"} <= set(EXPERIMENTS)

    @pytest.mark.parametrize(("choice", "least", "most"), [("resnet", 1.6e6, 1.75e6), ("slim", 0.35e6, 0.5e6)])
    def test_generators_have_the_size_that_their_files_say(self, choice, least, most):
        cfg = compose("train", *PICTURES, f"generator={choice}")
        assert least <= count_parameters(build(cfg.generator, "generator")) <= most

    @pytest.mark.parametrize("choice", [c for c in group_choices() if c.startswith(("generator", "discriminator"))])
    def test_every_network_is_free_of_checkerboards_and_statistics_of_torchs(self, choice):
        group = choice.split("=")[0]
        overrides = {"styles": ["one"]} if choice in ("generator=library", "generator=mobile") else {}
        network = build(compose("train", *PICTURES, choice)[group], group, **overrides)
        forbidden = (nn.modules.batchnorm._NormBase, nn.modules.conv._ConvTransposeNd)
        assert not [module for module in network.modules() if isinstance(module, forbidden)]

    def test_terms_are_overridden_and_removed_by_name(self):
        cfg = compose("train", *PICTURES, "loss.style.weight=2.5", "~loss.tv", "loss.content.layers=[relu2_2,relu4_1]")
        terms = all_terms(objective_of(cfg))
        assert terms.keys() == {"adversarial", "content", "style"}
        assert terms["style"].weight == 2.5 and terms["content"].layers == ["relu2_2", "relu4_1"]


class TestBuild:
    def test_gives_the_object_plain_arguments_and_what_the_config_does_not_hold(self):
        term = build(node("gan_style.losses.content.Content", weight=1, layers=["relu1_1"]), "loss.content")
        assert isinstance(term, Content) and type(term.layers) is list
        network = build(node("gan_style.models.perceptual.vgg16", weights="random"), "perceptual", layers=["relu1_2"])
        assert network.layers == ["relu1_2"]

    def test_partial_nodes_wait_for_their_parameters(self):
        make = build(node("torch.optim.Adam", _partial_=True, lr=0.25, betas=[0.5, 0.99]), "optimiser.generator")
        optimiser = make(nn.Linear(1, 1).parameters())
        assert isinstance(optimiser, torch.optim.Adam)
        assert optimiser.defaults["lr"] == 0.25 and tuple(optimiser.defaults["betas"]) == (0.5, 0.99)

    @pytest.mark.parametrize(
        "target",
        [
            *("os.getcwd", "builtins.dict", "torch.nn.Flatten", "torch.optimistic.Adam", ""),
            "gan_styles.models.generator.ResnetGenerator",
            # through a module that a module of ours imports
            *("gan_style.runtime.files.os.getcwd", "gan_style.models.blocks.nn.Flatten"),
        ],
    )
    def test_refuses_targets_of_anyone_else(self, target):
        with pytest.raises(ValueError, match=r"part\._target_=.*gan_style.*torch\.optim"):
            build(node(target), "part")

    def test_refuses_a_node_without_a_target(self):
        with pytest.raises(ValueError, match=r"part\._target_="):
            build(OmegaConf.create({"width": 4}), "part")

    @pytest.mark.parametrize("target", ["gan_style.models.generator.Nothing", "gan_style.nowhere.At", "torch.optim.X"])
    def test_refuses_targets_that_do_not_exist(self, target):
        with pytest.raises(ValueError, match=rf"generator\._target_={target}: there is no such"):
            build(node(target), "generator")

    @pytest.mark.parametrize(
        ("target", "option", "arguments", "message"),
        [
            ("models.generator.ResnetGenerator", "generator", {"widht": 8}, r"generator\.widht \(did you mean width"),
            ("models.generator.ResnetGenerator", "generator", {"xyz": 8}, r"no generator\.xyz; allowed are width, bl"),
            ("losses.pixel.Colour", "loss.colour", {"weigth": 8.0}, r"no loss\.colour\.weigth \(did you mean weight"),
            ("losses.content.Content", "loss.content", {"weight": 1.0}, r"loss\.content\.layers is missing"),
            ("losses.content.Content", "x", {"weight": 1.0, "layers": {"_target_": "os.getcwd"}}, r"os\.getcwd"),
            ("models.generator.ResnetGenerator", "x", {"width": "wide"}, r"x\.width=wide: a whole number"),
            ("models.generator.ResnetGenerator", "x", {"width": 2.5}, r"x\.width=2.5: a whole number"),
            ("models.generator.ResnetGenerator", "x", {"width": True}, r"x\.width=true: a whole number"),
            ("losses.pixel.Colour", "x", {"weight": "high"}, r"x\.weight=high: a number"),
            ("losses.pixel.Colour", "x", {"weight": False}, r"x\.weight=false: a number"),
            ("losses.adversarial.Adversarial", "x", {"formula": 3}, r"x\.formula=3: a single"),
            (
                "models.discriminator.PatchDiscriminator",
                "d",
                {"receptive_field": 50},
                r"receptive_field=50; allowed are",
            ),
        ],
    )
    def test_refuses_arguments_that_do_not_exist_are_missing_or_do_not_fit(self, target, option, arguments, message):
        with pytest.raises(ValueError, match=message):
            build(node(f"gan_style.{target}", **arguments), option)

    def test_takes_whole_numbers_where_numbers_are_asked_for(self):
        assert build(node("gan_style.losses.pixel.Colour", weight=2), "loss.colour").weight == 2

    @pytest.mark.parametrize(
        ("optimiser", "setting"),
        [
            (name, setting)
            for name, kind in inspect.getmembers(torch.optim, inspect.isclass)
            if issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
            for setting in ("lr", "weight_decay", "momentum")
            if setting in inspect.signature(kind).parameters
        ],
    )
    def test_takes_fractions_for_every_optimisers_settings(self, optimiser, setting):
        make = build(node(f"torch.optim.{optimiser}", _partial_=True, **{setting: 0.01}), "optimiser.generator")
        assert make.keywords[setting] == 0.01


class TestQuoted:
    PATHS = (
        "/photos/my photo (1).jpg",
        "/photos/a,b.jpg",
        "/photos/[2024], best of/x.jpg",
        "/photos/it's.jpg",
        '/photos/say "hi".jpg',
        """/photos/both 'these' and "those".jpg""",
        "/photos/{a}.jpg",
        "/photos/a=b.jpg",
        "/photos/a: b.jpg",
        "/photos/#1 & more!.jpg",
        "/photos/ünï.jpg",
        "/photos/plain.jpg",
        "relative/plain.jpg",
        "photo(1).jpg",
        "/photos/back\\slash (1).jpg",
        "/photos/ends in (\\",
    )

    @pytest.mark.parametrize("path", PATHS)
    def test_paths_reach_the_config_as_they_are(self, path):
        assert compose("train", readable("train", f"data.content={path}")).data.content == path

    @pytest.mark.parametrize(
        ("value", "meant"),
        [
            ("[runs/lr=1,runs/lr=2]", ["runs/lr=1", "runs/lr=2"]),
            ("[a (1).jpg,b.jpg]", ["a (1).jpg", "b.jpg"]),
            ("[a#monet, b=1#wave]", ["a#monet", "b=1#wave"]),
            ("['a,b.jpg',c (2).jpg]", ["a,b.jpg", "c (2).jpg"]),
            ("[it's.jpg,b.jpg]", ["it's.jpg", "b.jpg"]),
            ("{monet: my photo (1).jpg, wave: [a=1,b]}", {"monet": "my photo (1).jpg", "wave": ["a=1", "b"]}),
            ("[2024_01_05,plain]", ["2024_01_05", "plain"]),
            (" blanks at the ends.jpg ", " blanks at the ends.jpg "),
            ("glob(zzz*)", "glob(zzz*)"),
        ],
    )
    def test_names_in_lists_and_mappings_reach_it_too(self, value, meant):
        assert plain(compose("train", readable("train", f"data.content={value}")).data.content) == meant

    @given(st.text("ab1 ()[]{},'\":=+%@#&!?*~|;<>`^-_./é", max_size=12).map("/p{}".format))
    @example("/p,")
    @example("/p'")
    def test_whatever_the_path(self, path):
        override = OverridesParser.create().parse_override(readable("train", f"data.content={path}"))
        assert override.key_or_group == "data.content"
        assert not override.is_sweep_override()
        assert override.value() == path

    @pytest.mark.parametrize(
        "argument",
        [
            *("training.steps=3", "training.steps=10_000", "optimiser.generator.lr=1e-3", "generator.width=1_6"),
            *("optimiser.discriminator.lr=1_0", "dry_run=true", "data.resize=[1,2]", "data.holdout=null"),
            *("loss.style.layers=[relu1_1, relu2_1]", "generator={width: 4}", "data.style='quoted, by the user'"),
            *("~loss.tv", "+x=1", "--help", "-m"),
        ],
    )
    def test_what_hydra_understands_stays_as_it_is(self, argument):
        assert readable("train", argument) == argument

    @pytest.mark.parametrize(("command", "argument"), [("stylize_video", "crf=2_3"), ("make_dataset", "size=1_024")])
    def test_a_number_of_an_option_of_many_types_is_a_number(self, command, argument):
        assert readable(command, argument) == argument

    @pytest.mark.parametrize("name", ["2024_01_05", "1_000", "1e3", "1.50", "Infinity"])
    def test_a_folder_of_digits_is_none_of_numbers(self, name):
        assert compose("train", readable("train", f"data.content={name}")).data.content == name

    @pytest.mark.parametrize("name", ["1_0", "20240105", "1e3", "1.50", "007", "true", "0x10", "1_5.0", "-0.0", "inf"])
    def test_whatever_is_to_be_text_stays_as_it_was_written(self, name):
        assert compose("stylize", readable("stylize", f"input={name}")).input == name
        assert compose("train", readable("train", f"run.name={name}")).run.name == name


class TestFlat:
    def test_names_every_leaf_by_its_dotted_path(self):
        nested = {"a": 1, "b": {"c": [1, {"d": 2}], "e": {"f": None}}, "g": {}}
        assert flat(nested) == {"a": 1, "b.c": [1, {"d": 2}], "b.e.f": None, "g": {}}

    def test_of_a_config_survives_yaml(self, tmp_path):
        """As settings are saved beside a run and compared when it goes on."""
        settings = plain(compose("train", *PICTURES, "experiment=quickstart"))
        path = tmp_path / "config.yaml"
        path.write_text(to_yaml(settings))
        assert flat(plain(OmegaConf.load(path))) == flat(settings)
        assert flat(settings)["training.steps"] == settings["training"]["steps"]
