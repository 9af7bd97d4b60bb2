"""gan-style optimise, from the command line to the files that it writes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from gan_style.functional import rgb_to_yuv
from gan_style.images.decode import decode, to_float, to_uint8
from gan_style.images.lossless import Original
from gan_style.images.metadata import read_note
from gan_style.models.perceptual import compact, vgg19
from gan_style.optimise.run import Record
from gan_style.runtime.provenance import optimisation_note
from gan_style.stylize.model import load_painter

SMALL = ("perceptual=compact", "size=32", "steps=6", "levels=1", "log_every=1")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """photo.png (48 x 40), a.jpg and b.png (styles), grey.png, dot.png (one pixel), alpha.png, strip.png."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    noise = [Image.effect_noise((6, 5), 120).resize((48, 40)) for _ in range(3)]
    Image.merge("RGB", noise).save(folder / "photo.png")
    Image.merge("RGB", noise[::-1]).rotate(90).save(folder / "a.jpg")
    Image.linear_gradient("L").convert("RGB").resize((50, 60)).save(folder / "b.png")
    noise[0].save(folder / "grey.png")
    Image.new("RGB", (1, 1), "red").save(folder / "dot.png")
    Image.merge("RGBA", [*noise, noise[0]]).save(folder / "alpha.png")
    Image.new("RGB", (40, 4000), "red").save(folder / "strip.png")
    return folder


@pytest.fixture
def optimise(gan_style, pictures, tmp_path):
    """optimise("name=value", ...) with small defaults, the output out/r.png."""

    def call(*arguments: str, status: int = 0):
        names = {argument.split("=")[0] for argument in arguments}
        options = {"content": pictures / "photo.png", "style": pictures / "a.jpg", "output": tmp_path / "out" / "r.png"}
        defaults = [f"{name}={value}" for name, value in options.items()]
        defaults += SMALL
        return gan_style("optimise", *(d for d in defaults if d.split("=")[0] not in names), *arguments, status=status)

    return call


def test_a_picture_from_nothing_but_two_pictures_and_a_name(optimise, tmp_path):
    outcome = optimise()
    assert Image.open(tmp_path / "out" / "r.png").size == (38, 32)
    lines = [line for line in outcome.out.splitlines() if line.startswith("step ")]
    assert all(word in lines[-1] for word in ("step 6/6", "total", "content", "style", "tv"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["r.png", "r.png.optimise"]


def test_a_result_says_what_made_it_and_nothing_of_the_machine(optimise, pictures, tmp_path):
    weights = tmp_path / "weights.safetensors"
    save_file(compact(layers=["relu4_2"], weights="random").state_dict(), weights)
    optimise(f"perceptual.weights={weights}", "save_every=3")
    on_the_way = sorted((tmp_path / "out" / "r_steps").iterdir())
    assert len(on_the_way) > 1
    for path in (tmp_path / "out" / "r.png", *on_the_way):
        note = read_note(path)
        assert note["command"] == "optimise" and note["steps"] == 6 and note["perceptual.weights"] == weights.name
        assert note["content (sha256 of the file)"] and str(tmp_path) not in json.dumps(note)
    nested = optimisation_note({"a": ["/home/me/b.jpg", {"c": "/home/me/d"}], "e": 3})
    assert nested["a"] == ["b.jpg", {"c": "d"}] and nested["e"] == 3
    many = {"style (sha256 of the files)": ["0123456789abcdef"] * 5000}
    assert len(optimisation_note(many)["settings"]) == 64


CHOICES = [
    ("method=adam",),
    ("method=adam", "views=4", "loss=optimise_compact"),
    # a search may find each first try good: then it changes nothing, but for shorter ones
    ("method=lbfgs", "method.line_search_fn=null", "method.lr=0.3"),
    ("init=noise",),
    ("init=style",),
    ("init=shipped:library#scream",),
    ("colours=histogram",),
    ("loss=gatys", "loss.content.layers=[relu3_1]", "loss.style.layers=[relu1_1,relu2_1]"),
    ("loss.style.layer_weights=[4,1,1,0]",),
    ("~loss.tv",),
    ("~loss.content", "init=noise"),
    ("loss=full", "~loss.adversarial", "~loss.identity"),
    ("loss.style._target_=gan_style.losses.style.MomentStyle", "loss.style.grey=true"),
    ("size=64", "levels=2", "shares=[2,1]"),
    ("style_scale=0.5",),
    ("calibrate=false",),
]


def test_every_choice_makes_a_picture_of_its_own(optimise, tmp_path):
    optimise("steps=12")
    plain = to_float(decode(tmp_path / "out" / "r.png"))
    for options in CHOICES:
        optimise("steps=12", *options, "overwrite=true", f"output={tmp_path / 'out' / 'other.png'}")
        other = to_float(decode(tmp_path / "out" / "other.png"))
        assert other.shape != plain.shape or (other - plain).abs().max() > 0.02, options


def test_the_style_comes_nearer(optimise):
    """The first evaluation is of the photo itself."""
    outcome = optimise("content=demo:heldout/chelsea", "style=demo:styles/flow", "steps=40", "size=48")
    of_style = [float(line.split("  style ")[1].split()[0]) for line in outcome.out.splitlines() if "  style " in line]
    assert of_style[-1] < 0.1 * of_style[0]


def test_luminance_keeps_the_contents_chroma(optimise, pictures, tmp_path):
    optimise("colours=luminance", "method=adam", "method.lr=0.002")
    content = rgb_to_yuv(to_float(decode(pictures / "photo.png", short_side=32)[None]))
    result = rgb_to_yuv(to_float(decode(tmp_path / "out" / "r.png")[None]))
    inside = ((to_float(decode(tmp_path / "out" / "r.png")).abs() < 0.95).all(dim=0)).expand(2, -1, -1)
    assert (content - result)[0, 1:][inside].abs().max() < 0.01
    assert (content - result)[0, 0].abs().mean() > 0.002


def test_two_styles_by_weight(optimise, pictures, tmp_path):
    styles = f"style=[{pictures / 'a.jpg'},{pictures / 'b.png'}]"
    results = {}
    for name, options in {"both": ["style_weights=[1,1]"], "equal": [], "first": ["style_weights=[3,0]"]}.items():
        optimise(styles, *options, f"output={tmp_path / name}.png")
        results[name] = decode(tmp_path / f"{name}.png").tolist()
    assert results["both"] == results["equal"] != results["first"]


def test_a_seed_makes_its_noise_again_and_another_another(optimise, tmp_path):
    for name, seed in {"a": 1, "b": 1, "c": 2}.items():
        optimise("init=noise", f"seed={seed}", f"output={tmp_path / name}.png")
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b != c


def test_a_generators_result_is_improved(optimise, pictures, tmp_path):
    """The first evaluation is of the result itself, but for its rounding to 8 bits in the picture beside it."""
    painter = load_painter("shipped:library#scream", torch.device("cpu"))
    with torch.inference_mode():
        painted = painter(to_float(decode(pictures / "photo.png", short_side=32)[None]))
    Image.fromarray(to_uint8(painted)[0].permute(1, 2, 0).numpy()).save(pictures / "painted.png")
    first = {}
    for name, options in {
        "generator": ["init=shipped:library#scream"],
        "its picture": ["init=style", f"style={pictures / 'painted.png'}"],
    }.items():
        outcome = optimise(*options, "calibrate=false", "~loss.style", f"output={tmp_path / name}.png")
        lines = [line for line in outcome.out.splitlines() if line.startswith("step ")]
        first[name], last = (float(line.split("total ")[1].split()[0]) for line in (lines[0], lines[-1]))
        assert last < first[name]
    assert first["generator"] == pytest.approx(first["its picture"], rel=0.02)


def test_pictures_on_the_way_and_their_animation(optimise, tmp_path):
    optimise("size=64", "levels=2", "steps=12", "save_every=2", "gif=true")
    frames = sorted((tmp_path / "out" / "r_steps").iterdir())
    assert len(frames) >= 4 and frames[0].name == "000000.png"
    assert Image.open(frames[0]).size == (38, 32) and Image.open(frames[-1]).size == (77, 64)
    assert frames[-1].read_bytes() == (tmp_path / "out" / "r.png").read_bytes()
    animation = Image.open(tmp_path / "out" / "r.gif")
    assert animation.n_frames == len(frames) and animation.size == (77, 64)


def test_once_finished_it_does_nothing_until_told_to(optimise, tmp_path):
    result = tmp_path / "out" / "r.png"
    optimise()
    before, written = result.read_bytes(), result.stat().st_mtime_ns
    assert "is finished" in optimise("log_every=3", "save_every=5").out and result.stat().st_mtime_ns == written
    optimise("overwrite=true")
    assert result.read_bytes() == before and result.stat().st_mtime_ns > written


def test_a_result_that_was_removed_is_written_again_without_an_evaluation(optimise, tmp_path):
    optimise()
    before = (tmp_path / "out" / "r.png").read_bytes()
    (tmp_path / "out" / "r.png").unlink()
    assert "0 evaluations" in optimise().out
    assert (tmp_path / "out" / "r.png").read_bytes() == before


def test_other_settings_are_refused_with_the_keys_that_differ(optimise, pictures, tmp_path):
    optimise()
    Image.new("RGB", (50, 50), "blue").save(pictures / "a.jpg")
    outcome = optimise("steps=9", "loss.style.weight=3", "method=adam", status=2)
    for message in ("steps: 6 there, 9 here", "loss.style.weight: ", "method._target_: ", "style (sha256", "overwrite"):
        assert message in outcome.err
    assert "content (sha256" not in outcome.err


@pytest.mark.parametrize(
    "options", [("method=adam", "views=3"), ("method=lbfgs",), ("colours=luminance", "init=noise")]
)
def test_killed_and_called_again_it_gives_the_same_bytes(optimise, tmp_path, monkeypatch, options):
    settings = ("size=64", "levels=2", "steps=24", "save_every=6", "checkpoint_every=5", "gif=true", *options)
    optimise(*settings, f"output={tmp_path}/whole.png")

    def killed_at(evaluation):
        write = Record.write_frame

        def written(self, now, picture):
            write(self, now, picture)
            if now >= evaluation:
                raise KeyboardInterrupt

        return written

    for evaluation in (6, 16):  # in the first level, in the second
        with monkeypatch.context() as patched:
            patched.setattr(Record, "write_frame", killed_at(evaluation))
            optimise(*settings, status=130)
        assert not (tmp_path / "out" / "r.png").exists()
    assert "going on after evaluation" in optimise(*settings).out
    assert (tmp_path / "out" / "r.png").read_bytes() == (tmp_path / "whole.png").read_bytes()
    assert (tmp_path / "out" / "r.gif").read_bytes() == (tmp_path / "whole.gif").read_bytes()


def test_killed_while_it_writes_leaves_no_part_of_a_result(optimise, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("gan_style.runtime.files.os.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        optimise(status=130)
    assert list((tmp_path / "out").iterdir()) == []
    optimise()


def test_a_number_that_is_not_finite_ends_it_with_its_own_status(optimise, tmp_path):
    outcome = optimise("loss.style.weight=1e39", "method=adam", status=4)
    assert "evaluation 1: not a finite number: total" in outcome.err
    assert "r_last_good.png" in outcome.err and (tmp_path / "out" / "r_last_good.png").exists()
    assert not (tmp_path / "out" / "r.png").exists()


def test_a_result_without_its_state_is_replaced_by_the_same_command_alone(optimise, tmp_path):
    optimise("gif=true", "save_every=3")
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*") if path.is_file()}
    (tmp_path / "out" / "r.png.optimise").unlink()
    assert "overwrite=true" in optimise("gif=true", "save_every=3", "loss.style.weight=7", status=2).err
    after = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*") if path.is_file()}
    assert after == {path: content for path, content in before.items() if path.name != "r.png.optimise"}
    optimise("gif=true", "save_every=3")


def test_a_damaged_state_is_named_and_overwriting_helps(optimise, tmp_path):
    optimise()
    state = tmp_path / "out" / "r.png.optimise"
    state.write_bytes(state.read_bytes()[:-200])
    outcome = optimise(status=2)
    assert "r.png.optimise is damaged" in outcome.err and "overwrite=true" in outcome.err
    optimise("overwrite=true")


def test_a_dry_run_shows_the_sizes_and_writes_nothing(optimise, tmp_path):
    outcome = optimise("dry_run=true", "size=64", "levels=2")
    assert "38 x 32 (3), 77 x 64 (3)" in outcome.out and "compact; feature scales" in outcome.out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["grey.png", "dot.png", "alpha.png"])
def test_unusual_pictures_are_fine_as_content_and_as_style(optimise, pictures, tmp_path, name):
    for role in ("content", "style"):
        optimise(f"{role}={pictures / name}", "colours=histogram", f"output={tmp_path / role}.png")


def test_gatys_layers_with_weights_that_end_early_are_an_error_that_names_them(optimise, tmp_path):
    network = vgg19(layers=["relu3_1"], weights="random")
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, tmp_path / "short.safetensors")
    options = ("loss=gatys", "perceptual=vgg19", f"perceptual.weights={tmp_path / 'short.safetensors'}")
    outcome = optimise(*options, status=2)
    assert "relu5_1" in outcome.err and "ends at relu3_1" in outcome.err and "loss.style.layers" in outcome.err
    layers = ("loss.content.layers=[relu2_2]", "loss.style.layers=[relu1_1,relu2_1]", "steps=2")
    optimise(*options, *layers)


BAD_INPUT = {
    "no content": (["content={p}/nothing.png"], "content=", "no such file"),
    "content a folder": (["content={p}"], "content=", "is a folder"),
    "style a folder": (["style={p}"], "style=", "is a folder"),
    "no style": (["style=[]"], "style=[]", "at least one"),
    "one style missing": (["style=[{p}/a.jpg,{p}/c.jpg]"], "c.jpg", "no such file"),
    "style a number": (["style=[1]"], "style=1", "no such file"),
    "not a picture": (["style={p}/../words.png"], "words.png", "not a JPEG"),
    "several demo pictures": (["content=demo:heldout"], "demo:heldout/chelsea", "name one"),
    "unknown demo picture": (["style=demo:styles/cubism"], "demo:styles/cubism", "demo:styles/mosaic"),
    "output is the content": (["output={p}/photo.png"], "output=", "one of the inputs"),
    "output is a style": (["output={p}/a.jpg"], "output=", "one of the inputs"),
    "a picture on the way would be the content": (["content={p}/r_steps/6.png", "output={p}/r.png"], "r_steps", "lies"),
    "animation is the content": (["content={p}/b.gif", "gif={p}/b.gif", "save_every=1"], "b.gif", "one of the inputs"),
    "animation in no folder": (["gif={p}/photo.png/b.gif", "save_every=1"], "gif", "cannot write"),
    "output a folder": (["output={p}"], "output=", "picture's name"),
    "output of no kind": (["output={p}/x.gif"], "output=", "picture's name"),
    "size too small": (["size=8"], "size=8", "from 16"),
    "too many levels": (["levels=3"], "levels=3", "coarsest"),
    "one pixel at its own size": (["content={p}/dot.png", "size=null"], "1 x 1", "16"),
    "style too small": (["style_scale=0.2"], "style_scale=0.2", "16"),
    "too large": (["size=null", "max_megapixels=0.001"], "max_megapixels=0.001", "size"),
    "style too long": (["style={p}/strip.png", "max_megapixels=0.01"], "strip.png", "megapixels"),
    "zero steps": (["steps=0"], "steps=0", "from 1"),
    "steps for fewer levels": (["size=64", "levels=2", "steps=1"], "steps=1", "levels=2"),
    "unknown start": (["init=zeros"], "init=zeros", "content, noise, style"),
    "start of no style": (["init=shipped:library"], "init", "choose one of its styles"),
    "start of a picture": (["init={p}/a.jpg"], "init", "a.jpg"),
    "unknown colours": (["colours=red"], "colours=red", "luminance"),
    "too few weights": (["style_weights=[1,2]"], "style_weights=[1, 2]", "1 style"),
    "negative weight": (["style_weights=[-1]"], "style_weights=[-1]", "from 0"),
    "weights all 0": (["style_weights=[0]"], "style_weights=[0]", "not all 0"),
    "weights no list": (["style_weights=2"], "style_weights=2", "list"),
    "shares for other levels": (["shares=[1,2]"], "shares=[1, 2]", "1 level"),
    "layer weights": (["loss.style.layer_weights=[1]"], "loss.style.layer_weights=[1]", "4 layers"),
    "negative loss weight": (["loss.style.weight=-1"], "loss.style.weight=-1", "from 0"),
    "no loss weight": (["loss.style.weight=0", "loss.content.weight=0", "loss.tv.weight=0"], "loss", "nothing to"),
    "adversarial": (["loss=default"], "loss.adversarial", "~loss.adversarial"),
    "identity": (["loss=full", "~loss.adversarial"], "loss.identity", "~loss.identity"),
    "balance": (["loss.balance={{content: 1, style: 1}}"], "loss.balance", "null"),
    "target": (["loss.style.target=each"], "loss.style.target=each", "mean"),
    "unknown layer": (["loss.style.layers=[relu9_1]"], "relu9_1", "relu3_4"),
    "gif without pictures": (["gif=true"], "gif=", "save_every"),
    "gif of another kind": (["gif=a.mp4", "save_every=1"], "gif=a.mp4", ".gif"),
    "learning rate": (["method=adam", "method.lr=-1"], "method", "learning rate"),
    "no learning rate": (["method=adam", "method.lr=0"], "method.lr=0", "above 0"),
    "line search": (["method.line_search_fn=golden"], "method.line_search_fn=golden", "strong_wolfe"),
    "views of a line search": (["views=4"], "views=4", "method=adam"),
    "views below 0": (["views=-1", "method=adam"], "views=-1", "from 0"),
    "history": (["method.history_size=0"], "method.history_size=0", "from 1"),
    "mistyped": (["stile_weights=[1]"], "stile_weights", "style_weights"),
    "mistyped method": (["method.history=3"], "method.history", "history_size"),
    "regions in words": (["regions=many"], "regions=many"),
    "one region": (["regions=1"], "regions=1"),
    "masks no list": (["masks=a.png"], "masks=a.png"),
    "regions and masks": (["regions=2", "masks=[a.png,b.png]"], "regions=2"),
    "missing masks": (["masks=[nothing.png,b.png]"], "masks=nothing.png"),
    "regions of moments": (["regions=2", "loss.style._target_=gan_style.losses.style.MomentStyle"], "loss.style"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_named_in_the_users_words(optimise, pictures, tmp_path, case):
    (tmp_path / "words.png").write_text("no picture")
    (pictures / "r_steps").mkdir()
    for other in (pictures / "r_steps" / "6.png", pictures / "b.gif"):
        other.write_bytes((pictures / "b.png").read_bytes())
    arguments, *message = BAD_INPUT[case]
    before = sorted(tmp_path.rglob("*"))
    outcome = optimise(*(argument.format(p=pictures) for argument in arguments), status=2)
    for word in message:
        assert word in outcome.err
    assert sorted(tmp_path.rglob("*")) == before


def test_the_state_holds_plain_containers_and_tensors_only(optimise, tmp_path):
    optimise()
    saved = torch.load(tmp_path / "out" / "r.png.optimise", weights_only=True)
    assert saved["finished"] and saved["optimisation"]["evaluation"] == 6
    original = Original(torch.zeros(3, 1, 1, dtype=torch.uint8))
    assert Record(tmp_path / "out" / "r.png", saved["settings"], original).load() is not None


def test_each_region_takes_its_style_from_its_own(optimise, tmp_path):
    style = np.zeros((40, 48, 3), np.uint8)
    style[:20], style[20:] = (230, 40, 40), (40, 40, 230)
    Image.fromarray(style).save(tmp_path / "style.png")
    halves = np.repeat(np.array([1, 2], np.uint8), 20)[:, None].repeat(48, 1)
    for name, numbers in {"same": halves, "swapped": halves[::-1]}.items():
        Image.fromarray(np.ascontiguousarray(numbers)).save(tmp_path / f"{name}.png")
    redness = {}
    for name in ("same", "swapped"):
        masks = f"masks=[{tmp_path / 'same.png'},{tmp_path / f'{name}.png'}]"
        output = tmp_path / "out" / f"{name}.png"
        optimise(f"style={tmp_path / 'style.png'}", masks, f"output={output}", "steps=30", "~loss.content")
        picture = np.asarray(Image.open(output)).astype(float)
        redness[name] = (picture[..., 0] - picture[..., 2])[:12].mean()
    assert redness["same"] > redness["swapped"] + 10


@pytest.mark.parametrize("more", [["regions=auto"], ["regions=2", "method=adam", "views=4", "levels=2", "size=64"]])
def test_regions_that_are_found(optimise, tmp_path, more):
    optimise("content=demo:heldout/chelsea", "style=demo:styles/flow", *more)
    assert optimise("content=demo:heldout/chelsea", "style=demo:styles/flow", *more).out.count("finished") == 1
