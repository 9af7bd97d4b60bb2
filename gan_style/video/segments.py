"""Segments of a video, kept beside the output until all are there: each written whole or not at all."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gan_style.files import Together, ensure_folder, write_bytes
from gan_style.images import decode, encode_uint8
from gan_style.video.encode import Coded
from gan_style.video.flow import Frame
from gan_style.video.follow import Tally

PLAN = "plan.json"


@dataclass(frozen=True)
class Segment:
    """What was made of so many frames: packets in decoding order, and what was measured."""

    frames: int
    packets: Sequence[Coded]
    tally: Tally


class Segments:
    """The folder of an output's segments, numbered from 0.

    A segment is there if its record (.json) is, and its packets (.bin) are as long as that says. Its last result
    (.png) is what the next segment goes on from.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Make the folder, or go on in it. ValueError where it is of other settings (JSON types)."""
        path = self.folder / PLAN
        if path.is_file():
            differing = _differences(json.loads(path.read_text(encoding="utf-8")), settings)
            if differing:
                raise ValueError(
                    f"{self.folder} holds a part of this video made with other settings; give them again, or remove "
                    f"the folder to begin anew.\n  " + "\n  ".join(differing)
                )
            return
        ensure_folder(self.folder)
        write_bytes(path, json.dumps(dict(settings), indent=1).encode() + b"\n")

    def frames(self, number: int) -> int | None:
        """How many frames a segment holds; None where it is not there, or not whole."""
        record = self._record(number)
        if record is None or not self._path(number, "png").is_file():
            return None
        data = self._path(number, "bin")
        whole = data.is_file() and hashlib.sha256(data.read_bytes()).hexdigest() == record["sha256"]
        return int(record["frames"]) if whole else None

    def save(self, number: int, segment: Segment, last: Frame) -> None:
        """Keep a segment, for good; last: its last result."""
        data = b"".join(packet.data for packet in segment.packets)
        record = {
            "frames": segment.frames,
            "tally": segment.tally.as_plain(),
            "packets": [[p.pts, p.duration, p.key, len(p.data)] for p in segment.packets],
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        picture = encode_uint8(torch.from_numpy(last).permute(2, 0, 1), ".png", compress_level=1)
        together = Together("segment")
        for suffix, content in (("bin", data), ("png", picture), ("json", json.dumps(record).encode())):
            together.write(self._path(number, suffix), content)  # the record last: it says that the others are there
        together.commit()

    def load(self, number: int) -> Segment:
        """A segment that is there."""
        record = self._record(number)
        assert record is not None
        data, packets, start = self._path(number, "bin").read_bytes(), [], 0
        for pts, duration, key, size in record["packets"]:
            packets.append(Coded(pts, duration, key, data[start : start + size]))
            start += size
        return Segment(record["frames"], packets, Tally(**record["tally"]))

    def times(self, number: int) -> list[int]:
        """When the packets of a segment that is there are shown; and no more is read."""
        record = self._record(number)
        assert record is not None
        return [packet[0] for packet in record["packets"]]

    def last(self, number: int) -> Frame:
        """The last result of a segment that is there."""
        return decode(self._path(number, "png")).permute(1, 2, 0).contiguous().numpy()

    def remove(self, count: int) -> None:
        """All segments and the folder, once the output is there. Files of other names, and then the folder, stay."""
        for number in range(count):
            for suffix in ("json", "png", "bin"):
                self._path(number, suffix).unlink(missing_ok=True)
        Together.remove("segment", [self._path(count, suffix) for suffix in ("json", "png", "bin")])
        for name in (PLAN, ".lock"):
            (self.folder / name).unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _record(self, number: int) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads(self._path(number, "json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found

    def _path(self, number: int, suffix: str) -> Path:
        return self.folder / f"{number:06}.{suffix}"


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    keys = list(dict.fromkeys([*old, *new]))
    return [f"{key}: {old.get(key)} there, {new.get(key)} here" for key in keys if old.get(key) != new.get(key)]
