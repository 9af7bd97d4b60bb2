"""Reads what W&B keeps of an offline run: LevelDB's log format around the library's own protocol buffers.

The library writes run-ID.wandb in its Go part and no longer ships a reader; the messages' classes are its own.
"""

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2 as pb

_BLOCK, _FILE_HEADER, _HEADER = 32768, 7, 7
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def records(path: Path) -> list[Any]:
    """Every record of a file, in its order, its checksums compared."""
    actual = []
    for payload in _payloads(path.read_bytes()):
        record = pb.Record()
        record.ParseFromString(payload)
        actual.append(record)
    return actual


def _payloads(data: bytes) -> Iterator[bytes]:
    assert data[:4] == b":W&B", data[:7]
    offset, parts = _FILE_HEADER, b""
    while offset < len(data):
        left = _BLOCK - offset % _BLOCK
        if left < _HEADER:
            offset += left
            continue
        if len(data) - offset < _HEADER:
            return
        checksum, length, kind = struct.unpack_from("<IHB", data, offset)
        payload = data[offset + _HEADER : offset + _HEADER + length]
        if len(payload) < length:
            return  # still being written
        assert checksum == zlib.crc32(payload, zlib.crc32(bytes([kind])))
        parts = payload if kind in (_FULL, _FIRST) else parts + payload
        if kind in (_FULL, _LAST):
            yield parts
        offset += _HEADER + length


def history(payloads: list[Any]) -> list[dict[str, Any]]:
    """The rows, {name: value}."""
    return [_items(item.history.item) for item in payloads if item.WhichOneof("record_type") == "history"]


def config(payloads: list[Any]) -> dict[str, Any]:
    """As it was given at the start."""
    runs = [item.run for item in payloads if item.WhichOneof("record_type") == "run"]
    return {key: value for key, value in _items(runs[0].config.update).items() if key != "_wandb"}


def summary(payloads: list[Any]) -> dict[str, Any]:
    updates = [item.summary.update for item in payloads if item.WhichOneof("record_type") == "summary"]
    return {key: value for update in updates for key, value in _items(update).items()}


def _items(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
