"""The machine a bench ran on: processor, the instruction sets that matter for int8, memory, load."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import psutil

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16", "asimddp", "i8mm")
"""Instruction sets named in the report; int8 is fast with one of the VNNI, AMX, dot-product or i8mm ones."""


@dataclass(frozen=True)
class Machine:
    """Where the figures were measured."""

    processor: str
    """Model name."""
    cores: int
    """Cores the process may use."""
    flags: tuple[str, ...]
    """Of `FLAGS`, those the processor has."""
    memory_gb: float
    """Main memory, 10^9 bytes."""
    system: str
    """Operating system and architecture."""
    python: str
    """Version of Python."""
    load: float | None
    """Processes that wanted a core, averaged over the minute before the bench; None where the system does not say."""


def this_machine() -> Machine:
    """Return what is known of this machine."""
    file = Path("/proc/cpuinfo")
    processor, flags = read_cpuinfo(file.read_text(encoding="utf-8") if file.is_file() else "")
    return Machine(
        processor=processor or platform.processor() or "unknown",
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        flags=flags,
        memory_gb=round(psutil.virtual_memory().total / 1e9, 1),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    )


def read_cpuinfo(text: str) -> tuple[str, tuple[str, ...]]:
    """Return model name and flags of the first processor in the text of /proc/cpuinfo; empty where it names none."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip().lower(), value.strip())
    had = set((fields.get("flags") or fields.get("features") or "").split())
    return fields.get("model name", ""), tuple(flag for flag in FLAGS if flag in had)
