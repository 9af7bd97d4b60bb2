"""Make golden values of what the commands write, and compare them after a change that must not change results.

    OMP_NUM_THREADS=1 PYTHONPATH=$PWD python tools/check/golden.py --write /tmp/golden.json
    OMP_NUM_THREADS=1 PYTHONPATH=$PWD python tools/check/golden.py --compare /tmp/golden.json [--only train]

Weights of small training runs (1 and 2 ranks, resumed, many styles, every loss), bytes of stylized pictures (whole,
tiled, masked, 16 bits), of datasets in each layout, frames of a video, numbers of metrics.json, and each command's
--help. Floats depend on the machine, so the values are kept outside of the repository. Exit status 1 where any differ.
"""

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

import gan_style.cli as cli

SMOKE = ("experiment=smoke", "run.root=runs")
TIMES = ("second", "time", "throughput", "memory", "wall")  # parts of names whose values differ from run to run


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def run(*arguments: str) -> str:
    """Run a gan-style command in a fork of this process, which has imported torch already; return its stdout."""
    output = Path(tempfile.mkstemp()[1])
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        target = os.open(output, os.O_WRONLY | os.O_TRUNC)
        os.dup2(target, 1)
        os.dup2(target, 2)
        sys.argv = ["gan-style", *arguments]
        try:
            cli.main()
            status = 0
        except SystemExit as error:
            status = int(error.code or 0)
        sys.stdout.flush()
        os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    text = output.read_text()
    output.unlink()
    if status:
        raise SystemExit(f"gan-style {' '.join(arguments)} ended with status {status}:\n{text}")
    return text


def weights(path: Path) -> str:
    """Digest of a safetensors file's tensors, whatever the order and content of its metadata."""
    tensors = load_file(path)
    return digest(b"".join(key.encode() + tensors[key].numpy().tobytes() for key in sorted(tensors)))


def without_times(content: Any) -> Any:
    """Nested containers without the numbers that depend on the clock."""
    if isinstance(content, dict):
        return {k: without_times(v) for k, v in content.items() if not any(part in k for part in TIMES)}
    return [without_times(one) for one in content] if isinstance(content, list) else content


def files(folder: Path, *, outside: tuple[str, ...] = ()) -> dict[str, str]:
    """Digest of every file below a folder, by its path; ``outside`` are names that are left out."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and not set(outside) & set(path.parts)]
    return {path.relative_to(folder).as_posix(): digest(path.read_bytes()) for path in paths}


def rows(path: Path) -> list[Any]:
    return [without_times(json.loads(line)) for line in path.read_text().splitlines()]


def make_pictures() -> None:
    """Write the inputs: two labelled folders of photographs, a mask, and a picture with 16 bits and alpha."""
    from skimage import data

    photos = {"a/cat": data.chelsea(), "b/coffee": data.coffee(), "b/rocket": data.rocket()}
    for number, (name, photo) in enumerate(photos.items()):
        path = Path(f"photos/{name}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo).resize((97 + 8 * number, 70)).save(path)
    mask = np.zeros((70, 97), np.uint8)
    mask[:, 40:] = 255
    Image.fromarray(mask).save("mask.png")
    rgba = np.asarray(Image.open("photos/a/cat.png").convert("RGBA")).copy()
    rgba[:, :, 3] = mask
    Image.fromarray(rgba).save("alpha.png")
    Image.open("photos/a/cat.png").save("photo.jpg", quality=95)
    deep = np.asarray(Image.open("photos/a/cat.png").convert("L")).astype(np.uint16) * 257
    Image.fromarray(deep).save("deep.png")


def train() -> Iterator[tuple[str, Any]]:
    """Weights, metrics and samples of small runs of every kind."""
    variants = {
        "one": (),
        "two_ranks": ("runtime.devices=2",),
        "full": ("loss=full", "training.accumulate=2", "training.recompute=true"),
        "stable": ("loss=stable", "training.decay=cosine"),
        "styles": ("generator=library", "data.style={flow: demo:styles/flow, dots: demo:styles/pointillism}"),
        "reference": ("generator=reference", "data.style=demo:styles", "data.style_holdout_count=1"),
    }
    reference = ("loss.style.target=crop",)
    for name, options in variants.items():
        more = reference if name == "reference" else ()
        run("train", *SMOKE, f"run.name={name}", *options, *more)
        yield f"{name} weights", weights(Path(f"runs/{name}/generator.safetensors"))
        yield f"{name} metrics.jsonl", rows(Path(f"runs/{name}/metrics.jsonl"))
        yield f"{name} samples", files(Path(f"runs/{name}/samples"))
    for steps in (2, 4):
        run("train", *SMOKE, "run.name=resumed", "training.decay=constant", f"training.steps={steps}")
        yield f"resumed weights at step {steps}", weights(Path("runs/resumed/generator.safetensors"))


def stylize() -> Iterator[tuple[str, Any]]:
    """Bytes of pictures from the model that ships."""
    variants = {
        "whole": ("input=photos",),
        "tiled": ("input=photos", "tile=64"),
        "strength": ("input=photo.jpg", "strength=0.5", "colours=luminance", "sheet=true"),
        "mask": ("input=photos/a/cat.png", "mask=mask.png", "colours=lab"),
        "mask_tiled": ("input=photos/a/cat.png", "mask=mask.png", "tile=64"),
        "alpha": ("input=alpha.png",),
        "deep": ("input=deep.png",),
    }
    for name, options in variants.items():
        folder = options[0] == "input=photos"
        Path(f"painted/{name}").mkdir(parents=True)
        output = f"painted/{name}" if folder else f"painted/{name}/out{Path(options[0]).suffix}"
        run("stylize", "style=monet", *options, f"output={output}")
        yield name, files(Path(f"painted/{name}"))


def dataset() -> Iterator[tuple[str, Any]]:
    """Bytes of a dataset in each layout, its manifest without times, and a second dataset made from each."""
    common = ("style=[monet,wave]", "manifest=jsonl", "shard_size=2", "strength=[0.5,1.0]")
    for layout in ("folder", "webdataset", "coco"):
        if layout == "coco":  # from a COCO folder, since boxes cannot be made up
            _make_coco(Path("coco"))
        source = "coco" if layout == "coco" else "photos"
        run("make-dataset", f"input={source}", f"output=sets/{layout}", f"output_layout={layout}", *common)
        yield f"{layout} data", files(Path(f"sets/{layout}/data"))
        yield f"{layout} manifest", [rows(path) for path in sorted(Path(f"sets/{layout}").glob("*.jsonl"))]
        run("verify-dataset", f"output=sets/{layout}", f"input={source}")
        run("make-dataset", f"input=sets/{layout}/data", f"output=again/{layout}", "copies=2", *common)
        yield f"{layout} again", files(Path(f"again/{layout}/data"))


def _make_coco(folder: Path) -> None:
    (folder / "annotations").mkdir(parents=True)
    (folder / "images").mkdir()
    content: dict[str, Any] = {"categories": [{"id": 1, "name": "thing"}], "images": [], "annotations": []}
    for number, path in enumerate(sorted(Path("photos").rglob("*.png"))):
        picture = Image.open(path)
        picture.save(folder / "images" / f"{path.stem}.jpg", quality=90)
        size = {"width": picture.width, "height": picture.height}
        content["images"].append({"id": number, "file_name": f"{path.stem}.jpg", **size})
        box = {"bbox": [5, 6, 30, 20], "area": 600, "iscrowd": 0}
        content["annotations"].append({"id": number, "image_id": number, "category_id": 1, **box})
    (folder / "annotations" / "instances.json").write_text(json.dumps(content))


def evaluate() -> Iterator[tuple[str, Any]]:
    """Numbers of an evaluation, and an optimised picture."""
    options = ("perceptual=compact", "size=64", "report_pictures=2", "calibration_pictures=2")
    pictures = ("content=photos", "style=demo:styles/flow", "output=evaluation")
    run("train", *SMOKE, "run.name=evaluated")
    run("evaluate", "checkpoint=[runs/evaluated]", *pictures, *options)
    content = without_times(json.loads(Path("evaluation/metrics.json").read_text()))
    yield "metrics.json", _numbers(content)
    for method in ("lbfgs", "adam"):
        more = ("size=64", "steps=3", "levels=1", "perceptual=compact", f"method={method}")
        run("optimise", "content=photo.jpg", "style=demo:styles/flow", f"output={method}.png", *more)
        yield f"optimised by {method}", digest(Image.open(f"{method}.png").tobytes())


def _numbers(content: Any, prefix: str = "") -> dict[str, Any]:
    """The numbers of nested containers by their path: hashes of files and versions change for good reasons."""
    pairs = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    found = {prefix: content} if isinstance(content, float) else {}
    return found | {k: v for key, value in pairs for k, v in _numbers(value, f"{prefix}/{key}").items()}


def video() -> Iterator[tuple[str, Any]]:
    """Decoded frames and their times of a stylized clip."""
    import av

    with av.open("clip.mkv", "w") as file:
        stream = file.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        picture = np.asarray(Image.open("photos/b/rocket.png").resize((110, 64)).convert("RGB"))
        for number in range(6):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:, number : number + 96]), format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    for name, options in {"plain": (), "blend": ("blend=0.5", "warp_error=true", "segment=2")}.items():
        codec = ("codec=ffv1", "crf=auto") if name == "plain" else ()
        output = f"{name}.mkv"
        run("stylize-video", "style=monet", "input=clip.mkv", f"output={output}", *codec, *options)
        with av.open(output) as file:
            frames = [(frame.pts, digest(frame.to_ndarray().tobytes())) for frame in file.decode(video=0)]
        yield name, [list(frame) for frame in frames]


def options() -> Iterator[tuple[str, Any]]:
    """The text of every --help."""
    yield "gan-style", run("--help")
    for name in cli.COMMANDS:
        yield name, run(name, "--help")


PARTS: dict[str, Callable[[], Iterator[tuple[str, Any]]]] = {
    "options": options,
    "train": train,
    "stylize": stylize,
    "dataset": dataset,
    "evaluate": evaluate,
    "video": video,
}


def measure(only: list[str]) -> dict[str, Any]:
    """All values by "part/name", made in a temporary folder."""
    for name in ("train", "stylize", "make_dataset", "evaluate", "optimise"):  # imported once, for all forks
        import_module(f"gan_style.commands.{name}")
    values: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        make_pictures()
        for part in only:
            begin = time.monotonic()
            values |= {f"{part}/{name}": value for name, value in PARTS[part]()}
            print(f"{part}: {time.monotonic() - begin:.0f} s", flush=True)
        os.chdir("/")
    return json.loads(json.dumps(values))  # type: ignore[no-any-return]


def differences(before: Any, after: Any, path: str) -> Iterator[str]:
    """Lines that name each place where two nested containers differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            yield from differences(before.get(key, "absent"), after.get(key, "absent"), f"{path}/{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from differences(old, new, f"{path}/{number}")
    elif isinstance(before, str) and isinstance(after, str) and "\n" in before:
        old, new = before.splitlines(), after.splitlines()
        yield from (f"{path}: - {line}" for line in old if line not in new)
        yield from (f"{path}: + {line}" for line in new if line not in old)
    elif before != after:
        yield f"{path}: {before} before, {after} now"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", type=Path, metavar="FILE")
    action.add_argument("--compare", type=Path, metavar="FILE")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["WANDB_MODE"] = "disabled"
    before = json.loads(arguments.compare.read_text()) if arguments.compare else {}
    target = arguments.write and arguments.write.absolute()
    values = measure(arguments.only)
    if target:
        target.write_text(json.dumps(values, indent=1, sort_keys=True))
        return 0
    before = {name: value for name, value in before.items() if name.split("/")[0] in arguments.only}
    lines = list(differences(before, values, ""))
    print("\n".join(lines) or f"{len(values)} values are equal")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
