from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from retrieval_shared.bundle import Bundle


@pytest.fixture(scope="session")
def tiny_graphs(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of graphs that adapters are measured on, of the tiny bundle's encoder."""
    from training.bench_graphs import write_bench_graphs

    folder = tmp_path_factory.mktemp("tiny_graphs")
    write_bench_graphs(tiny_bundle.path, folder)
    return folder
