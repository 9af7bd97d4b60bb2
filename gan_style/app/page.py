"""The app's page: what is seen and what happens on a click (Gradio)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import gradio as gr
import numpy as np
import torch
from torch import Tensor

from gan_style.app.backend import STROKES, Backend, Photo, Settings
from gan_style.images.decode import encode_uint8
from gan_style.images.formats import FORMAT_OF_SUFFIX
from gan_style.runtime.machine import is_shortage

LISTED, SHOWN = "Styles", "Style of a picture"
_COLOURS = {"the style's": "style", "the photo's hues": "luminance", "the photo's palette": "lab"}
_ALONE = "no other"
_FONTS = ["system-ui", "Segoe UI", "Roboto", "sans-serif"]
THEME = gr.themes.Soft(
    primary_hue="indigo", neutral_hue="slate", radius_size="lg", font=_FONTS, font_mono=["ui-monospace", "monospace"]
).set(
    body_background_fill="*neutral_100",
    block_border_width="1px",
    checkbox_border_color="*neutral_400",
    input_border_width="1px",
    button_secondary_border_color="*neutral_300",
    button_secondary_border_color_dark="*neutral_600",
    block_title_background_fill="none",
    block_title_background_fill_dark="none",
    block_title_text_color="*body_text_color",
    block_title_text_color_dark="*body_text_color",
    block_title_padding="0",
    block_label_background_fill="*block_background_fill",
    block_label_background_fill_dark="*block_background_fill",
    block_label_text_color="*body_text_color_subdued",
    block_label_text_color_dark="*body_text_color_subdued",
)
CSS = """
.gradio-container { max-width: 1240px !important; margin: 0 auto; }
#title h1 { margin: .5rem 0 0; letter-spacing: -.02em; }
#title p { opacity: .75; margin: .25rem 0; }
#styles .grid-wrap { max-height: none; min-height: 0; height: auto; overflow: visible; }
#styles .grid-container { grid-template-columns: repeat(auto-fill, minmax(76px, 1fr)) !important; gap: .5rem; }
#styles .thumbnail-item { aspect-ratio: 1; }
#styles .caption-label {
  left: .2rem; right: .2rem; bottom: .2rem; max-width: none; padding: .05rem .1rem;
  font-size: .66rem; text-align: center;
}
#styles .thumbnail-item.selected { outline: 3px solid var(--color-accent); outline-offset: 1px; }
footer { display: none !important; }
@media (max-width: 767px) { #out { order: -1; } .gradio-container { padding: .5rem !important; } }
"""


def sample_photo() -> Path:
    """Return the photo that is there before anybody has given one."""
    return Path(str(files("gan_style") / "assets" / "photos" / "coffee.jpg"))


def build(backend: Backend) -> gr.Blocks:
    """Lay out the page. Everything that a visitor chooses lives in the session; the backend is the same for all."""
    sample, labels = backend.open(sample_photo()), list(backend.styles)
    shown_at_first = labels[0] if labels else None
    first = _pictures(sample.preview, backend.preview(sample, Settings([shown_at_first]))) if shown_at_first else None
    sources = [LISTED, SHOWN] if backend.reference_model else [LISTED]

    with gr.Blocks(title="gan_style", analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        photo, style, mask = gr.State(sample), gr.State(shown_at_first), gr.State(None)
        gr.Markdown("# gan_style\nPhotos in the style of paintings. Nothing leaves this machine.", elem_id="title")
        with gr.Row():
            # What is put in, and how it is to look
            with gr.Column(scale=2, min_width=300):
                with gr.Tabs():
                    with gr.Tab("Photos"):
                        uploads = _file_input("One photo, or several", "photos")
                        folder = gr.UploadButton("A whole folder", file_count="directory", size="sm")
                    with gr.Tab("Camera"):
                        live = gr.Image(sources=["webcam"], streaming=True, label="What the camera sees", height=240)
                        snap = gr.Button("Take this picture", size="sm")
                source = gr.Radio(sources, value=sources[0], show_label=False, visible=len(sources) > 1)
                thumbnails = gr.Gallery(
                    _with_captions(backend, sample), show_label=False, columns=4, height="auto", allow_preview=False,
                    object_fit="cover", elem_id="styles", buttons=[], selected_index=0 if labels else None,
                )  # fmt: skip
                references = _file_input("A painting, or two to mix", "references", visible=False)
                strength = gr.Slider(0, 1, 1, step=0.05, label="Strength", elem_id="strength")
                with gr.Row():
                    partners = [_ALONE, *(backend.partners(shown_at_first) if shown_at_first else [])]
                    second = gr.Dropdown(partners, value=_ALONE, label="Mixed with", elem_id="second", min_width=140)
                    share = gr.Slider(
                        0, 1, 0.5, step=0.05, label="Of the other", elem_id="share", min_width=140, visible=False
                    )
                with gr.Row():
                    stroke = gr.Dropdown(list(STROKES), value="medium", label="Strokes", min_width=140)
                    colours = gr.Dropdown(list(_COLOURS.items()), value="style", label="Colours", min_width=140)
            # What comes out
            with gr.Column(scale=3, min_width=300, elem_id="out"):
                slider = gr.ImageSlider(
                    first, label="Before and after", max_height=640, buttons=["fullscreen"], elem_id="result"
                )
                filmed = gr.Image(label="Camera, painted", visible=False, buttons=[], streaming=True, elem_id="filmed")
                only_here = gr.Checkbox(False, label="Only where I paint", elem_id="only_here")
                editor = gr.ImageEditor(
                    label="Paint where the style is wanted", visible=False, type="numpy", sources=[], transforms=None,
                    layers=False, show_label=False,
                    brush=gr.Brush(colors=["#ffffff"], color_mode="fixed"), buttons=[], elem_id="mask",
                )  # fmt: skip
                save = gr.Button("Paint at full size", variant="primary", elem_id="save")
                results = gr.File(label="Results", visible=False, file_count="multiple", elem_id="results")

        # A new photo: its preview, its thumbnails; the mask belonged to the one before.
        @_show_errors()
        def open_photos(paths: Sequence[str]) -> list[Any]:
            opened, problems = backend.latest([Path(path) for path in paths])
            for problem in problems:
                gr.Warning(problem)
            if opened is None:
                raise gr.Error("none of this can be read as a picture", print_exception=False)
            return [opened, _with_captions(backend, opened), None, gr.update(value=None, visible=False), False]

        def take(frame: np.ndarray | None) -> list[Any]:
            if frame is None:
                raise gr.Error("the camera shows nothing yet", print_exception=False)
            path = Path(mkdtemp(dir=backend.folder)) / "camera.png"
            path.write_bytes(encode_uint8(_planes(frame), ".png"))
            return [[str(path)], *open_photos([str(path)])]

        opened = [photo, thumbnails, mask, editor, only_here]
        light: dict[str, Any] = {"concurrency_id": "previews", "concurrency_limit": 2, "api_visibility": "private"}
        uploads.upload(open_photos, uploads, opened, **light)
        folder.upload(lambda paths: paths, folder, uploads, **light).then(open_photos, uploads, opened, **light)
        snap.click(take, live, [uploads, *opened], **light)

        # A style from the list, or a picture of one's own
        def choose(event: gr.SelectData) -> list[Any]:
            label = labels[event.index]
            return [label, gr.update(choices=[_ALONE, *backend.partners(label)], value=_ALONE)]

        thumbnails.select(choose, None, [style, second], **light)
        source.change(
            lambda chosen: [gr.update(visible=chosen == LISTED)] * 2 + [gr.update(visible=chosen == SHOWN)],
            source, [thumbnails, second, references], **light,
        )  # fmt: skip

        def show_share(source: str, second: str, references: Sequence[str] | None) -> Any:
            return gr.update(visible=second != _ALONE if source == LISTED else len(references or []) > 1)

        gr.on([second.change, source.change, references.change], show_share, [source, second, references], share,
              **light)  # fmt: skip

        # The mask: what is painted on the preview
        only_here.input(
            lambda on, photo: [gr.update(visible=on, value=_picture(photo.preview) if on else None), None],
            [only_here, photo], [editor, mask], **light,
        )  # fmt: skip
        editor.input(_read_mask, editor, mask, show_progress="hidden", **light)

        def settings(style, second, share, strength, colours, stroke, source, references, mask, only_here) -> Settings:  # type: ignore[no-untyped-def]
            styles = [style] if second == _ALONE else [style, second]
            shown = [Path(path) for path in references or []] if source == SHOWN else []
            if source == SHOWN and not shown:
                raise gr.Error("give a picture whose style is wanted", print_exception=False)
            return Settings(styles, share, strength, colours, stroke, shown, mask if only_here else None)

        settings_inputs = [style, second, share, strength, colours, stroke, source, references, mask, only_here]

        @_show_errors()
        def show(photo: Photo, *chosen: Any) -> tuple[np.ndarray, np.ndarray]:
            return _pictures(photo.preview, backend.preview(photo, settings(*chosen)))

        triggers = [item.change for item in (photo, style, second, share, strength, colours, stroke, mask, only_here)]
        gr.on(
            [*triggers, references.upload, references.delete], show, [photo, *settings_inputs], slider,
            trigger_mode="always_last", show_progress="minimal", **light,
        )  # fmt: skip

        # Full size, one request at a time: large photos take memory.
        @_show_errors()
        def paint_all(uploads: Sequence[str] | None, photo: Photo, *chosen: Any) -> Any:
            paths = [Path(path) for path in uploads] if uploads else [photo.path]
            chosen_settings, painted, progress = settings(*chosen), list[Path](), gr.Progress()
            progress(0, desc="Painting")
            for number, (result, words) in enumerate(backend.results(paths, chosen_settings), start=1):
                progress(number / len(paths), desc=f"{number} of {len(paths)}")
                if words:
                    gr.Warning(words)
                if result is not None:
                    painted.append(result)
            if not painted:
                raise gr.Error("there is no result", print_exception=False)
            archive = [backend.zipped(painted)] if len(painted) > 1 else []
            return gr.update(value=[str(path) for path in archive + painted], visible=True)

        save.click(paint_all, [uploads, photo, *settings_inputs], results,
                   concurrency_id="results", concurrency_limit=1, api_visibility="private")  # fmt: skip

        # The camera, painted as it comes
        @_show_errors()
        def film(frame: np.ndarray | None, *chosen: Any) -> Any:
            if frame is None:
                return gr.update(visible=False)
            return gr.update(value=_picture(backend.frame(_planes(frame), settings(*chosen))), visible=True)

        live.stream(film, [live, *settings_inputs], filmed, stream_every=0.1, show_progress="hidden", **light)
    return page


def _file_input(label: str, element: str, *, visible: bool = True) -> gr.File:
    """Take pictures of all kinds that are read, one or several."""
    return gr.File(
        label=label,
        show_label=False,
        elem_id=element,
        file_count="multiple",
        file_types=sorted(FORMAT_OF_SUFFIX),
        height=150,
        visible=visible,
    )


@contextmanager
def _show_errors() -> Iterator[None]:
    """Show a visitor what went wrong, in words, and go on."""
    try:
        yield
    except (ValueError, OSError, ArithmeticError) as error:
        raise gr.Error(str(error), print_exception=False) from error
    except (MemoryError, RuntimeError) as error:
        if not is_shortage(error):
            raise
        raise gr.Error("there is not enough memory for this picture", print_exception=False) from error


def _with_captions(backend: Backend, photo: Photo) -> list[tuple[np.ndarray, str]]:
    return [(_picture(small), label.replace("_", " ")) for label, small in backend.thumbnails(photo)]


def _pictures(photo: Tensor, result: Tensor) -> tuple[np.ndarray, np.ndarray]:
    return _picture(photo), _picture(result)


def _picture(picture: Tensor) -> np.ndarray:
    """Return (H, W, 3) of uint8 (3, H, W)."""
    return np.ascontiguousarray(picture.permute(1, 2, 0).numpy())


def _planes(picture: np.ndarray) -> Tensor:
    """Return uint8 (3, H, W) of (H, W, 3)."""
    return torch.from_numpy(np.array(picture[..., :3])).permute(2, 0, 1).contiguous()


def _read_mask(drawn: dict[str, Any] | None) -> Tensor | None:
    """Read the mask, uint8 (h, w), of what the editor holds: how opaque its layers are; None for none."""
    layers = [torch.from_numpy(layer[..., 3]) for layer in (drawn or {}).get("layers") or [] if layer is not None]
    mask = torch.stack(layers).amax(dim=0) if layers else torch.zeros(1, 1)
    return mask if mask.any() else None
