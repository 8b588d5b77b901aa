from __future__ import annotations

import pytest

from eval.peers import minilm
from eval.peers.minilm import TOKENIZER, folder


def test_the_weights_come_from_the_installed_package() -> None:
    assert (folder() / TOKENIZER).is_file()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "PACKAGE", "no_such_package_here")
    with pytest.raises(ValueError, match="no_such_package_here: found no such package"):
        folder()
