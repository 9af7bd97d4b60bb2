"""The folder of format=web, and where its runtime comes from."""

import base64
import hashlib
import http.server
import io
import json
import re
import tarfile
import threading
from pathlib import Path

import pytest

from gan_style.export import web

RUNTIME = {name: name.encode() for name in web.RUNTIME_FILES}
FACTS = {"checkpoint": "0" * 64, "gan_style": "0.1.0", "precision": "float32", "result": "1" * 32, "step": 7}
MULTI_STYLE = FACTS | {"styles": ["red", "dark_blue"], "about": {"red": "of a test"}, "inputs": ["image", "styles"]}
SINGLE_STYLE = FACTS | {"styles": [], "style": "monet", "inputs": ["image"]}


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    """A folder of the runtime as the package has it."""
    folder = tmp_path / "package" / "dist"
    folder.mkdir(parents=True)
    for name, content in RUNTIME.items():
        (folder / name).write_bytes(content)
    return folder


def test_a_page_is_whole_and_names_nothing_elsewhere(tmp_path):
    web.write_page(tmp_path / "page", b"the model", MULTI_STYLE, RUNTIME)
    page = tmp_path / "page"
    assert (page / "model.onnx").read_bytes() == b"the model"
    for file in (*page.glob("*.html"), *page.glob("*.js"), *page.glob("*.css"), *page.glob("*.webmanifest")):
        text = file.read_text()
        assert not re.search(r"(?:https?:)?//(?!127\.0\.0\.1)[\w-]+\.\w", text)
        for name in re.findall(r"""["'(](?:\./)?([\w./-]+\.(?:js|css|svg|json|jpg|onnx|webmanifest))["')]""", text):
            assert (page / name).is_file(), f"{file.name} names {name}"
    facts = json.loads((page / "page.json").read_text())
    assert facts["styles"][1] == {"name": "dark_blue", "label": "dark blue", "about": ""}
    assert facts["result"] == FACTS["result"]


def test_a_page_that_differs_has_another_version_for_its_cache(tmp_path):
    workers = set()
    for model in (b"first", b"second", b"first"):
        web.write_page(tmp_path, model, SINGLE_STYLE, RUNTIME)
        workers.add((tmp_path / "sw.js").read_text())
    assert len(workers) == 2
    assert json.loads((tmp_path / "page.json").read_text())["styles"][0]["name"] == "monet"


def test_the_runtime_of_a_folder(dist):
    assert web.read_runtime(dist) == web.read_runtime(dist.parent) == RUNTIME
    (dist / web.RUNTIME_FILES[2]).unlink()
    with pytest.raises(ValueError, match=re.escape(f"runtime.web={dist}: {web.RUNTIME_FILES[2]}")):
        web.read_runtime(dist)


@pytest.fixture
def registry(dist, monkeypatch) -> str:
    """A registry of npm with this one package, and no npm."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as file:
        file.add(dist.parent, "package")
    content = archive.getvalue()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            is_known = self.path == f"/npm/{web.RUNTIME}/-/{web.RUNTIME}-{web.VERSION}.tgz"
            self.send_response(200 if is_known else 404)
            self.end_headers()
            self.wfile.write(content if is_known else b"")

    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(web, "SHA512", base64.b64encode(hashlib.sha512(content).digest()).decode())
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"http://127.0.0.1:{server.server_address[1]}/npm/")
        yield
        server.shutdown()


def test_the_runtime_of_the_registry_without_npm(registry):
    assert web.read_runtime(None) == RUNTIME


def test_another_archive_than_the_pinned_one_is_refused(registry, monkeypatch):
    monkeypatch.setattr(web, "SHA512", web.SHA512[::-1])
    with pytest.raises(ValueError, match="sha512"):
        web.read_runtime(None)


def test_without_a_network_there_is_another_way(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:9/")
    with pytest.raises(ValueError, match=r"runtime\.web=FOLDER"):
        web.read_runtime(None)
