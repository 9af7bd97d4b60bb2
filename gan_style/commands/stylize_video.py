"""``gan-style stylize-video``: give a video, or what a camera sees, the style that a generator has learned."""

from importlib.util import find_spec

from omegaconf import DictConfig

from gan_style.config import command
from gan_style.schema_video import check_stylize_video

_NEEDED = {"av": "PyAV", "cv2": "OpenCV"}


@command("stylize_video")
def main(cfg: DictConfig) -> int:
    """Stylize a video: its sound, its times and its size are kept. The same command goes on where it was stopped.

    Status 3 where parts of it could not be read, 75 where it was asked to stop.
    """
    check_stylize_video(cfg)
    if missing := [name for module, name in _NEEDED.items() if find_spec(module) is None]:
        raise ValueError(f"videos need {' and '.join(missing)}: pip install 'gan_style[video]'")
    from gan_style.commands import stylize_video_parts as parts  # which imports them

    if parts.is_camera(cfg.input):
        return parts.preview(cfg)
    return parts.stylize(cfg)


if __name__ == "__main__":
    main()
