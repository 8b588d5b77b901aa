"""What stands side by side: bundles under their names, the float32 encoder of one of them, nothing unknown."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from eval import compared as module
from eval import path_encoders
from eval.compared import Compared, Float32, load_compared
from eval.path_encoders import NAMES, WEIGHTS
from eval.suites.speed import THREADS
from retrieval_shared.bundle import CONFIG, TOKENIZER, Bundle, sha256_of

MANIFEST = SimpleNamespace(name="made-up", version="1")


@pytest.fixture
def no_bundles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[dict[str, Any]], None]:
    """Bundles that hold a tokenizer and a configuration; their encoders are words."""
    Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]")).save(str(tmp_path / TOKENIZER))
    configuration = tmp_path / CONFIG

    def bundle(path: Path | None) -> Any:
        return SimpleNamespace(manifest=MANIFEST, path=path or Path("default"), file=lambda name: tmp_path / name)

    monkeypatch.setattr(module, "load_bundle", bundle)
    monkeypatch.setattr(
        module, "Encoder", type("E", (), {"load": lambda path: f"encoder of {path}", "__new__": lambda _, made: made})
    )
    monkeypatch.setattr(module, "OnnxEncoder", lambda made, *, threads: f"{made.path} on {threads}")
    return lambda document: configuration.write_text(json.dumps(document), encoding="utf-8") and None


def test_bundles_are_named_and_none_twice(no_bundles: Any) -> None:  # noqa: ARG001
    found = load_compared([None, Path("a/second")])
    names = ["made-up@1 (default)", "made-up@1 (second)"]
    assert found.encoders == dict(zip(names, ("encoder of default", "encoder of a/second"), strict=True))
    assert list(found.tokens) == list(found.served) == names
    assert found.bundle is not None
    assert (found.bundle.path, found.float32) == (Path("default"), None)
    with pytest.raises(ValueError, match="bundles: found 2, 1 different"):
        load_compared([Path("a/second"), Path("b/second")])


def test_all_bundles_are_timed_on_as_many_threads(no_bundles: Any) -> None:  # noqa: ARG001
    found = load_compared([None, Path("a/second")])
    assert [each.encoder for each in found.served.values()] == [f"default on {THREADS}", f"a/second on {THREADS}"]


@pytest.mark.parametrize("said", [True, False, None])
def test_the_float32_encoder_comes_last_and_is_held_against_the_bundle(
    no_bundles: Callable[[dict[str, Any]], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: bool | None
) -> None:
    (tmp_path / WEIGHTS).write_bytes(b"weights")
    digest = sha256_of(tmp_path / WEIGHTS)
    no_bundles({} if said is None else {"base_sha256": digest if said else "another"})
    monkeypatch.setattr(path_encoders, "load_paths", lambda folder: dict.fromkeys(NAMES, f"paths of {folder.name}"))
    found = load_compared([None], paths=tmp_path)
    assert list(found.encoders) == ["made-up@1 (default)", *NAMES]
    assert set(list(found.encoders.values())[1:]) == {f"paths of {tmp_path.name}"}
    assert found.float32 == Float32(name=NAMES[0], sha256=digest, same=said)
    assert list(found.served) == ["made-up@1 (default)"], "float32 is not what is served, and not timed"


def test_a_real_bundle_is_loaded_twice_alike(tiny_bundle: Bundle, tiny_base: Path) -> None:
    found = load_compared([tiny_bundle.path])
    [name] = found.encoders
    texts = ["free bet", "fresh bread every morning"]
    np.testing.assert_array_equal(found.encoders[name].encode(texts), found.served[name].encoder.encode(texts))
    assert found.served[name].tokenizer.encode("free bet").tokens == ["[CLS]", "free", "bet", "[SEP]"]
    assert module._made_from(tiny_bundle) == sha256_of(tiny_base / WEIGHTS)


def test_what_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="encoders: found none"):
        Compared({})
    encoders: Any = {"a": object()}
    with pytest.raises(ValueError, match="tokens: found b, allowed a"):
        Compared(encoders, tokens={"b": len})
    with pytest.raises(ValueError, match="served: found b, c, allowed a"):
        Compared(encoders, served=dict.fromkeys("cb"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="float32: found b, allowed a"):
        Compared(encoders, float32=Float32("b", "", None))


def test_bundles_alone_load_no_torch() -> None:
    check = (
        "import sys, eval.cli, eval.compared, eval.encoder; print(*sorted({'torch', 'transformers'} & {*sys.modules}))"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", check], cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr
