"""``gan-style app``: a page on this machine to stylize photos with."""

import os
import time
from dataclasses import dataclass
from importlib.util import find_spec
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from omegaconf import DictConfig

from gan_style.cli import command
from gan_style.options import Runtime, listed, option
from gan_style.runtime.device import choose_device
from gan_style.runtime.progress import warn
from gan_style.runtime.signals import stop_on_signals
from gan_style.stylize.model import find_generator

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(kw_only=True)
class AppOptions:
    checkpoint: Any = option(path=True, many=True)
    host: str
    port: int = option(0, 65535)
    max_megapixels: float = option(above=0, below=inf)
    browser: bool
    runtime: Runtime


@command("app", AppOptions)
def main(cfg: DictConfig) -> int:
    """Serve the app until Ctrl-C, on this machine alone unless host=... says otherwise."""
    if find_spec("gradio") is None:
        raise ValueError("the app needs Gradio: pip install 'gan_style[app]'")
    checkpoints = [find_generator(Path(path).expanduser()) for path in listed(cfg.checkpoint)]
    device = choose_device(cfg.runtime.device, cfg.runtime.threads)
    with TemporaryDirectory(prefix="gan_style-app-") as folder, stop_on_signals() as stop:
        # Gradio reads both when it is imported: uploads go where they vanish with the app, and nothing is reported.
        os.environ |= {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
        from gan_style.app.backend import Backend
        from gan_style.app.page import CSS, THEME, build

        backend = Backend(checkpoints, Path(folder), device, cfg.max_megapixels)
        if not backend.styles and backend.reference_model is None:
            raise ValueError("checkpoint=... is missing; this installation comes without models of its own")
        page = build(backend)
        try:
            _, address, _ = page.launch(
                server_name=cfg.host,
                server_port=cfg.port or None,
                share=False,
                inbrowser=cfg.browser,
                prevent_thread_lock=True,
                quiet=True,
                ssr_mode=False,
                footer_links=[],
                theme=THEME,
                css=CSS,
                max_file_size="1gb",
            )
        except OSError as error:
            raise ValueError(f"host={cfg.host}, port={cfg.port} cannot be used ({error}); port=0 takes any") from error
        if cfg.host not in _LOOPBACK:
            warn(f"host={cfg.host}: others can use the app, and it asks nobody for a password")
        print(f"{address} shows the app; Ctrl-C ends", flush=True)
        while stop.reason is None:
            time.sleep(0.2)
        page.close()
    return 0


if __name__ == "__main__":
    main()
