"""What a camera sees, as a page on this machine."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import cv2
import torch
from torch import Tensor

from gan_style.images.decode import encode_uint8
from gan_style.runtime.signals import Stop

_HTML = b"""<!doctype html><meta charset="utf-8"><title>gan_style</title>
<style>body{margin:0;background:#111;display:grid;place-items:center;height:100vh}img{max-width:100%;max-height:100%}
</style><img src="/stream" alt="what the camera sees, stylized">"""
_BOUNDARY = "frame"
_PATIENCE = 1.0  # seconds after which a viewer looks whether the page is closed


def camera_number(source: str) -> int:
    """Of "camera:0"."""
    number = source.removeprefix("camera:")
    if not number.isdecimal():
        raise ValueError(f"input={source}; a camera is named by its number, as in camera:0")
    return int(number)


def camera_pictures(number: int, size: int | None) -> Iterator[Tensor]:
    """uint8 (3, H, W) each, the shorter side scaled to at most ``size``. ValueError where there is no such camera."""
    device = Path(f"/dev/video{number}")
    if not device.exists():
        there = sorted(path.name.removeprefix("video") for path in Path("/dev").glob("video*"))
        known = ", ".join(f"camera:{name}" for name in there) if there else "there is none here"
        raise ValueError(f"input=camera:{number}: there is no camera {device}; cameras: {known}")
    try:
        container = av.open(str(device), format="v4l2")
    except (av.FFmpegError, ValueError, OSError) as error:
        raise ValueError(f"input=camera:{number}: cannot open {device} ({error})") from error
    return _scaled(container, size)


def _scaled(container: av.container.InputContainer, size: int | None) -> Iterator[Tensor]:
    with container:
        for frame in container.decode(video=0):
            picture: Any = frame.to_ndarray(format="rgb24")
            factor = 1.0 if size is None else min(1.0, size / min(picture.shape[:2]))
            if factor < 1:
                picture = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
            yield torch.from_numpy(picture).permute(2, 0, 1)


class Page:
    """The latest picture, for everyone who looks: who is slow misses some."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._latest, self._number, self._closed = b"", 0, False

    def show(self, picture: Tensor) -> None:
        """The next picture, uint8 (3, H, W)."""
        data = encode_uint8(picture, ".jpg", quality=85)
        with self._changed:
            self._latest, self._number = data, self._number + 1
            self._changed.notify_all()

    def close(self) -> None:
        """There will be no more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def pictures(self) -> Iterator[bytes]:
        """JPEGs, each newer than the last, until the page is closed."""
        seen = 0
        while True:
            with self._changed:
                while self._number == seen and not self._closed:
                    self._changed.wait(_PATIENCE)
                if self._number == seen:
                    return
                data, seen = self._latest, self._number
            yield data


def show(pictures: Iterable[Tensor], paint: Callable[[Tensor], Tensor], port: int, stop: Stop) -> None:
    """Serve pictures (uint8 (3, H, W) each), stylized, until they end or a signal comes."""
    page = Page()
    with serve(page, port) as address:
        print(f"{address} shows it; Ctrl-C ends", flush=True)
        for picture in pictures:
            page.show(paint(picture[None])[0])
            if stop.reason is not None:
                break


@contextmanager
def serve(page: Page, port: int) -> Iterator[str]:
    """While the block runs the page is at the address that it is given: on this machine, and for it alone."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with suppress(BrokenPipeError, ConnectionResetError):  # who looked has gone
                self._answer()

        def _answer(self) -> None:
            if self.path == "/":
                self._head(200, "text/html; charset=utf-8")
                self.wfile.write(_HTML)
            elif self.path == "/stream":
                self._head(200, f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
                for data in page.pictures():
                    head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                    self.wfile.write(head.encode() + data + b"\r\n")
            else:
                self._head(404, "text/plain")

        def _head(self, status: int, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Cache-Control", "no-store")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: who looks is nobody's business."""

    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except OSError as error:
        raise ValueError(f"port={port} cannot be used ({error.strerror}); 0 takes any that is free") from error
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        page.close()
        server.shutdown()
        server.server_close()
