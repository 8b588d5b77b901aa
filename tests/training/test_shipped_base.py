from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from moderation.thresholds import Thresholds
from retrieval_shared import Encoder
from retrieval_shared.bundle import BASE_WEIGHTS, CONFIG, Bundle
from retrieval_shared.calibration import Calibration
from retrieval_shared.torch_encoder import from_hugging_face
from training.assemble import Parts, write_bundle
from training.base_model import BaseModel, load_base_model, round_to_int8
from training.config import ModerationConfig
from training.examples import HEADS
from training.heads import PooledHeads
from training.pooling import pooling_block

TEXTS = ["free bet and win cash now", "fresh bread every morning", "вільний хліб", "play responsibly casino wine"]


def written(folder: Path, base: BaseModel, adapter: Path, config: ModerationConfig) -> Bundle:
    """Return a bundle with the base, one adapter and random heads."""
    with torch.random.fork_rng():
        torch.manual_seed(10)
        heads = PooledHeads(pooling_block(base.model), len(HEADS), hidden=8, rank=2, alpha=4).eval()
        with torch.no_grad():
            for parameter in heads.parameters():
                parameter.copy_(parameter.half().float())
    ones = np.ones(len(HEADS), dtype=np.float32)
    parts = Parts(
        base=base, adapters={"task:moderation": adapter}, parents={}, heads=heads,
        calibration=Calibration(heads=HEADS, scale=ones, offset=0 * ones),
        thresholds=Thresholds.of(prevalence=0.02, heads={}), training={},
    )  # fmt: skip
    return write_bundle(folder, parts, config)


@pytest.mark.parametrize("paths", ["one", "two"])
def test_what_was_shipped_comes_back_and_ships_again_bit_for_bit(
    tiny_region_adapter: Path,
    tiny_config: ModerationConfig,
    tmp_path: Path,
    paths: str,
    request: pytest.FixtureRequest,
) -> None:
    made_from, shipped = {"one": ("tiny_base", "tiny_bundle"), "two": ("two_path_base", "two_path_bundle")}[paths]
    base = load_base_model(str(request.getfixturevalue(made_from)))
    round_to_int8(base)
    bundle: Bundle = request.getfixturevalue(shipped)
    again = load_base_model(str(bundle.path))
    assert (again.two_paths is None) == (base.two_paths is None) == (paths == "one")
    ids = torch.tensor([base.tokenizer.encode(TEXTS[0]).ids, again.tokenizer.encode(TEXTS[0]).ids])
    mask, rows, slot = torch.ones_like(ids), torch.arange(2), torch.zeros(2, dtype=torch.int64)
    found = [from_hugging_face(each.model, two_paths=each.two_paths) for each in (base, again)]
    with torch.no_grad():
        states = [each(ids, mask, rows, slot) for each in found]
        torch.testing.assert_close(states[1], states[0], atol=1e-6, rtol=1e-5)
        pair = [each.vector(ids, mask, rows, state) for each, state in zip(found, states, strict=True)]
    torch.testing.assert_close(pair[1], pair[0], atol=1e-6, rtol=1e-5)
    round_to_int8(again)  # as every later stage does
    copied = written(tmp_path / "again", again, tiny_region_adapter, tiny_config)  # with other adapters and heads
    assert copied.file(BASE_WEIGHTS).read_bytes() == bundle.file(BASE_WEIGHTS).read_bytes()


def test_a_bundle_with_two_paths_serves_the_joint_vector(two_path_base: Path, two_path_bundle: Bundle) -> None:
    base = load_base_model(str(two_path_base))
    round_to_int8(base)
    served = Encoder.load(two_path_bundle.path).encode(TEXTS)
    slots = from_hugging_face(base.model, two_paths=base.two_paths)
    for text, vector in zip(TEXTS, served, strict=True):
        ids = torch.tensor([base.tokenizer.encode(text).ids])
        mask, zero = torch.ones_like(ids), torch.zeros(1, dtype=torch.int64)
        with torch.no_grad():
            expected = slots.vector(ids, mask, zero, slots(ids, mask, zero, zero))[0].numpy()
        assert float(vector @ expected) > 0.98  # int8 activations


def test_the_expected_hash_is_that_of_the_one_file(tiny_bundle: Bundle) -> None:
    found = load_base_model(str(tiny_bundle.path))
    assert found.sha256 == tiny_bundle.manifest.files[BASE_WEIGHTS]
    with pytest.raises(ValueError, match="weights have sha256"):
        load_base_model(str(tiny_bundle.path), sha256="0" * 64)


def test_a_bundle_that_does_not_say_its_sizes_is_refused(tiny_bundle: Bundle, tmp_path: Path) -> None:
    shutil.copytree(tiny_bundle.path, tmp_path / "old")
    record = json.loads((tmp_path / "old" / CONFIG).read_text(encoding="utf-8"))
    del record["shape"]
    (tmp_path / "old" / CONFIG).write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(ValueError, match=r"bundle old: training\.json holds no 'shape'"):
        load_base_model(str(tmp_path / "old"))
