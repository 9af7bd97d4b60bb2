"""``gan-style stylize``: give pictures the style that a generator has learned."""

import sys
from pathlib import Path

from omegaconf import DictConfig

from gan_style.config import command
from gan_style.demo import PREFIX, demo_pictures
from gan_style.files import ensure_writable
from gan_style.images import WITHOUT_NOTE, list_others
from gan_style.inference.load import find_generator, load_generator, note_of
from gan_style.inference.stylize import Job, plan_file, plan_folder, run
from gan_style.runtime import choose_device

UNREADABLE = 3  # exit status: some pictures could not be read


@command("stylize")
def main(cfg: DictConfig) -> int:
    """Stylize a picture or a folder of pictures; status 3 where some could not be read."""
    checkpoint, source, output = Path(cfg.checkpoint).expanduser(), str(cfg.input), Path(cfg.output).expanduser()
    device = choose_device(cfg.runtime.device, cfg.runtime.threads)
    jobs = _plan(source, output)
    generator = load_generator(checkpoint, device)
    ensure_writable(jobs[0].target.parent, "output")
    failures = 0
    if without := [job.target for job in jobs if job.target.suffix.lower() in WITHOUT_NOTE]:
        print(f"warning: {without[0]} cannot say what made it: its kind of file holds nothing but pixels")
    note = note_of(find_generator(checkpoint))
    for number, (job, problem) in enumerate(run(generator, jobs, device, note=note), start=1):
        failures += problem is not None
        print(f"[{number}/{len(jobs)}] {job.target if problem is None else problem}", flush=True)
    if failures:
        print(f"gan-style stylize: {failures} of {len(jobs)} pictures could not be read", file=sys.stderr)
    return UNREADABLE if failures else 0


def _plan(source: str, output: Path) -> list[Job]:
    if source.startswith(PREFIX):
        jobs = [job for path in demo_pictures(source.removeprefix(PREFIX)) for job in plan_file(path, output)]
        if len({job.target for job in jobs}) < len(jobs):
            raise ValueError(f"output={output} is one picture, but input={source} are {len(jobs)}; give a folder")
        return jobs
    path = Path(source).expanduser()
    if path.is_dir():
        if others := list_others(path):
            print(f"warning: {len(others)} pictures of kinds that are not read, such as {others[0]}, are passed over")
        return plan_folder(path, output)
    if not path.is_file():
        raise ValueError(f"input={source}: there is no such file or folder")
    return plan_file(path, output)


if __name__ == "__main__":
    main()
