"""Write a page that stylizes in the browser: a folder for any static host, with the model and its runtime.

The runtime, onnxruntime-web, is not part of this package: it comes from the npm registry when a page is written, at the
version and with the hash below, or from a folder of the user's.
"""

import base64
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from gan_style.runtime.files import write_bytes

RUNTIME, VERSION = "onnxruntime-web", "1.30.0"
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="  # of the archive
RUNTIME_FILES = (
    *("ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify.mjs", "ort-wasm-simd-threaded.asyncify.wasm"),  # on a GPU
    *("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"),  # on a CPU
)
PAGE_FILES = (
    *("app.js", "worker.js", "picture.js", "style.css"),
    *("icon.svg", "manifest.webmanifest", "LICENSE-runtime.txt"),
)
DESCRIPTION = "page.json"
_REGISTRY = "https://registry.npmjs.org/"
_TIMEOUT = 120  # seconds


def write_page(folder: Path, model: bytes, description: Mapping[str, Any], runtime: Mapping[str, bytes]) -> None:
    """Write the page into a folder, index.html last. model: an ONNX file of float pixels, with its description."""
    # Describe the model for the page's script.
    origin, assets = files("gan_style") / "export" / "page", files("gan_style") / "assets"
    fixed = description.get("style")  # of a model of one style, or of one mixture
    styles = description["styles"] or ["_".join(fixed) if isinstance(fixed, Mapping) else str(fixed or "style")]
    steps = f" after {description['step']} steps" if description.get("step") else ""
    facts = {
        "styles": [
            {"name": name, "label": name.replace("_", " "), "about": description.get("about", {}).get(name, "")}
            for name in styles
        ],
        "inputs": description["inputs"],
        "about": f"Model {description['checkpoint'][:12]}{steps}, {description['precision']}; gan_style "
        f"{description['gan_style']}; {RUNTIME} {VERSION}.",
        "result": description["result"],
    }

    # Collect the files; the worker's version follows from their contents, so that browsers see an update.
    contents = {name: (origin / name).read_bytes() for name in PAGE_FILES}
    contents |= {f"runtime/{name}": content for name, content in runtime.items()}
    contents |= {
        "model.onnx": model,
        "sample.jpg": (assets / "photos" / "coffee.jpg").read_bytes(),
        DESCRIPTION: json.dumps(facts, indent=1).encode() + b"\n",
        "index.html": (origin / "index.html").read_bytes(),
    }
    digest = hashlib.sha256(b"".join(hashlib.sha256(content).digest() for content in contents.values())).hexdigest()
    worker = (origin / "sw.js").read_text().replace("{{version}}", digest[:16])
    index = contents.pop("index.html")
    for name, content in [*contents.items(), ("sw.js", worker.encode()), ("index.html", index)]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / name, content)


def read_runtime(folder: Path | None) -> dict[str, bytes]:
    """Return the runtime's files, from a folder (the package's own, or its dist), or from the npm registry.

    ValueError where a file is missing, or nothing can be fetched, or something else than expected.
    """
    if folder is None:
        return _unpack(_fetch())
    place = folder / "dist" if (folder / "dist").is_dir() else folder
    if missing := [name for name in RUNTIME_FILES if not (place / name).is_file()]:
        raise ValueError(
            f"runtime.web={folder}: {missing[0]} is missing; the dist folder of {RUNTIME} {VERSION} has it"
        )
    return {name: (place / name).read_bytes() for name in RUNTIME_FILES}


def _fetch() -> bytes:
    """Return the package's archive: by npm where there is one, else by Python alone; its hash is checked either way."""
    hint = f"; runtime.web=FOLDER takes the dist folder of {RUNTIME} {VERSION} from a disk"
    try:
        archive = _by_npm() if shutil.which("npm") else _by_python()
    except (OSError, subprocess.SubprocessError) as error:
        raise ValueError(f"the page's runtime, {RUNTIME} {VERSION}, cannot be fetched ({error}){hint}") from error
    digest = base64.b64encode(hashlib.sha512(archive).digest()).decode()
    if digest != SHA512:
        raise ValueError(f"what was fetched as {RUNTIME} {VERSION} is something else: its sha512 is {digest}{hint}")
    return archive


def _by_npm() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", f"{RUNTIME}@{VERSION}", "--prefer-offline", "--silent", "--pack-destination", folder]
        process = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=5 * _TIMEOUT, check=False)
        archives = sorted(Path(folder).glob("*.tgz"))
        if process.returncode or not archives:
            raise OSError(f"npm pack: {(process.stderr or process.stdout).strip()[-300:] or process.returncode}")
        return archives[0].read_bytes()


def _by_python() -> bytes:
    registry = os.environ.get("NPM_CONFIG_REGISTRY") or _REGISTRY
    address = f"{registry.rstrip('/')}/{RUNTIME}/-/{RUNTIME}-{VERSION}.tgz"
    with urllib.request.urlopen(address, timeout=_TIMEOUT) as response:
        content: bytes = response.read()
        return content


def _unpack(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as package:
        members = {name: package.extractfile(f"package/dist/{name}") for name in RUNTIME_FILES}
        return {name: member.read() for name, member in members.items() if member is not None}
