"""The page of a camera, with pictures that no camera made; and cameras that are not there."""

import threading
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
import torch
from clips import av, smooth_picture

from gan_style.images.decode import decode
from gan_style.video.camera import Page, camera_number, camera_pictures, serve

PICTURE = torch.from_numpy(smooth_picture(24, 32)).permute(2, 0, 1)


def read_pictures(address: str, count: int) -> list[bytes]:
    found = []
    with urlopen(f"{address}stream", timeout=20) as stream:
        assert stream.headers["Content-Type"].startswith("multipart/x-mixed-replace")
        while len(found) < count:
            while not (line := stream.readline()).startswith(b"Content-Length"):
                assert line, "the stream ended"
            stream.readline()
            found.append(stream.read(int(line.split(b":")[1])))
    return found


def test_who_looks_sees_what_is_shown_and_new_pictures_as_they_come(tmp_path):
    page = Page()
    with serve(page, 0) as address:
        assert address.startswith("http://127.0.0.1:")
        assert b"/stream" in urlopen(address, timeout=20).read()
        with pytest.raises(HTTPError, match="404"):
            urlopen(f"{address}etc/passwd", timeout=20)
        stop = threading.Event()

        def film() -> None:
            while not stop.wait(0.01):
                page.show(PICTURE)

        thread = threading.Thread(target=film)
        thread.start()
        try:
            first, second = read_pictures(address, 2)
        finally:
            stop.set()
            thread.join()
    for data in (first, second):
        (tmp_path / "seen.jpg").write_bytes(data)
        seen = decode(tmp_path / "seen.jpg").int()
        assert seen.shape == PICTURE.shape and (seen - PICTURE.int()).abs().float().mean() < 6


def test_a_closed_page_ends_for_those_who_look():
    page = Page()
    page.show(PICTURE)
    page.close()
    assert len(list(page.pictures())) == 1


def test_a_port_that_is_taken_is_named():
    with (
        serve(Page(), 0) as address,
        pytest.raises(ValueError, match=r"port=\d+ cannot be used"),
        serve(Page(), int(address.rstrip("/").rsplit(":", 1)[1])),
    ):
        pass


def test_cameras_that_are_not_there(monkeypatch):
    assert camera_number("camera:3") == 3
    with pytest.raises(ValueError, match="input=camera:front; a camera is named by its number"):
        camera_number("camera:front")
    with pytest.raises(ValueError, match="there is no camera /dev/video987"):
        camera_pictures(987, None)


def test_a_camera_s_pictures_are_scaled(monkeypatch, tmp_path):
    """A film in place of a camera."""
    from clips import write_clip

    clip, open_file = str(write_clip(tmp_path / "clip.mp4", frames=3)), av.open
    monkeypatch.setattr("gan_style.video.camera.Path.exists", lambda _: True)
    monkeypatch.setattr("gan_style.video.camera.av.open", lambda device, format: open_file(clip))
    assert [tuple(picture.shape) for picture in camera_pictures(0, 24)] == [(3, 24, 32)] * 3
    assert next(camera_pictures(0, None)).shape == (3, 48, 64)
