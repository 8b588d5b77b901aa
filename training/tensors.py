"""Tensors on disk in the safetensors format, the same bytes for the same values: files are known by their hashes."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors and metadata; safetensors itself writes its metadata in whatever order.

    The file begins with the header's length in eight bytes, then the header in JSON, padded with spaces.
    """
    written = save({name: tensors[name].contiguous() for name in sorted(tensors)}, dict(metadata))
    (length,) = struct.unpack("<Q", written[:8])
    header = json.loads(written[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
    ordered = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    path.write_bytes(written[:8] + ordered.ljust(length) + written[8 + length :])
