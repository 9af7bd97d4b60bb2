"""docs/reliability.md, of which each chaos tool writes its own section."""

from pathlib import Path

from gan_style.runtime.files import write_bytes


def write_section(path: Path, heading: str, text: str) -> None:
    """Replace what stands between the markers of a section; the rest of the document stays."""
    begin, end = (f"<!-- {heading.lower()}: {word} -->" for word in ("begin", "end"))
    old = path.read_text(encoding="utf-8") if path.exists() else f"# Reliability\n\n## {heading}\n\n{begin}\n{end}\n"
    if begin not in old or end not in old:
        raise SystemExit(f"{path} has no place for the table: the lines {begin} and {end} are missing")
    before, rest = old.split(begin, 1)
    write_bytes(path, f"{before}{begin}\n{text}\n{end}{rest.split(end, 1)[1]}".encode())
