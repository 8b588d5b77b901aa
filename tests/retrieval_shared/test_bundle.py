from __future__ import annotations

import json
from pathlib import Path

import pytest

import retrieval_shared.bundle
from retrieval_shared.bundle import (
    FORMAT,
    MANIFEST,
    PERSPECTIVE,
    REQUIRED,
    Manifest,
    Probe,
    load_bundle,
    read_manifest,
    sha256_of,
    write_manifest,
)
from retrieval_shared.errors import BundleError

ADAPTER = "adapters/task-moderation/adapter_model.safetensors"
HEAD = "heads/scam/adapter_model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle of the right form whose files hold a few bytes each."""
    folder = tmp_path / "bundle"
    for name in (*REQUIRED, ADAPTER, HEAD, "MODEL_CARD.md"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(f"content of {name}".encode())
    manifest = Manifest(
        name="toy",
        version="3",
        heads=("drugs", "scam"),
        slots=("base", "task:moderation"),
        languages=("en",),
        max_tokens=256,
        files={},
        probe=Probe(text="a", probabilities={"drugs": 0.25, "scam": 0.5}),
    )
    write_manifest(folder, manifest)
    return folder


def edit(folder: Path, **changes: object) -> None:
    document = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    (folder / MANIFEST).write_text(json.dumps({**document, **changes}), encoding="utf-8")


def test_what_was_written_is_read(folder: Path) -> None:
    bundle = load_bundle(folder)
    manifest = bundle.manifest
    assert (manifest.name, manifest.version, manifest.heads, manifest.max_tokens) == (
        "toy",
        "3",
        ("drugs", "scam"),
        256,
    )
    assert manifest.slots == ("base", "task:moderation")
    assert manifest.probe == Probe(text="a", probabilities={"drugs": 0.25, "scam": 0.5})
    assert set(manifest.files) == {*REQUIRED, ADAPTER, HEAD}
    assert manifest.format == FORMAT == 2
    assert bundle.sha256(REQUIRED[0]) == sha256_of(bundle.file(REQUIRED[0]))


def test_sha256_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert sha256_of(tmp_path / "empty") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_the_model_card_may_be_edited(folder: Path) -> None:
    before = load_bundle(folder).manifest.digest
    (folder / "MODEL_CARD.md").write_text("corrected", encoding="utf-8")
    assert load_bundle(folder).manifest.digest == before


@pytest.mark.parametrize("name", [*REQUIRED, ADAPTER, HEAD])
def test_one_flipped_bit_is_told_with_the_files_name(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[3] ^= 1
    (folder / name).write_bytes(bytes(content))
    with pytest.raises(BundleError, match=f"{name} has sha256 .* expects .* damaged or belongs to another bundle"):
        load_bundle(folder)


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        load_bundle(folder)


def test_a_required_file_that_is_not_listed_is_named(folder: Path) -> None:
    files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    del files["thresholds.json"]
    edit(folder, files=files)
    with pytest.raises(BundleError, match=r"lists no thresholds\.json"):
        load_bundle(folder)


@pytest.mark.parametrize("absolute", [False, True])
def test_a_file_outside_the_bundle_is_refused(folder: Path, absolute: bool) -> None:
    outside = folder.parent / "secret"
    outside.write_text("x", encoding="utf-8")
    name = str(outside) if absolute else "../secret"
    files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    edit(folder, files={**files, name: sha256_of(outside)})
    with pytest.raises(BundleError, match="lies outside the bundle"):
        load_bundle(folder)


def test_a_link_out_of_the_bundle_is_refused(folder: Path) -> None:
    outside = folder.parent / "elsewhere"
    (folder / "encoder.onnx").rename(outside)
    (folder / "encoder.onnx").symlink_to(outside)
    with pytest.raises(BundleError, match="lies outside the bundle"):
        load_bundle(folder)


def test_no_bundle_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no model bundle at .*make train.*WARDLINE_BUNDLE"):
        load_bundle(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'"text"', b"\xff\xfe", b'{"format": 2}', b'{"format": 2, "name": "a", "probe": 3}']
)
def test_a_manifest_that_is_none_is_refused(folder: Path, content: bytes) -> None:
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(BundleError, match=r"bundle\.json cannot be read"):
        load_bundle(folder)


@pytest.mark.parametrize("found", [1, 99, "2", None])
def test_another_format_is_refused(folder: Path, found: object) -> None:
    """Format 1 held its adapters inside the graph."""
    edit(folder, format=found)
    with pytest.raises(BundleError, match=f"format {found!r}, this version reads 2"):
        load_bundle(folder)


def test_the_environment_names_the_bundle(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARDLINE_BUNDLE", str(folder))
    assert load_bundle().path == folder


def test_without_a_name_the_shipped_bundle_is_meant(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WARDLINE_BUNDLE", raising=False)
    monkeypatch.setattr(retrieval_shared.bundle, "DEFAULT_BUNDLE", folder)
    assert load_bundle().path == folder


def test_the_digest_follows_the_content_and_not_the_order(folder: Path) -> None:
    before = load_bundle(folder).manifest
    edit(folder, files=dict(reversed(list(before.files.items()))), name="renamed")
    assert load_bundle(folder).manifest.digest == before.digest
    (folder / "thresholds.json").write_text("other", encoding="utf-8")
    write_manifest(folder, before)
    assert load_bundle(folder).manifest.digest != before.digest


def test_what_is_fitted_to_a_bundle_later_is_no_part_of_it(folder: Path) -> None:
    before = load_bundle(folder).manifest
    (folder / PERSPECTIVE).write_text("{}", encoding="utf-8")
    write_manifest(folder, before)
    assert load_bundle(folder).manifest.digest == before.digest
    assert read_manifest(folder).files == before.files
