from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from peft import get_peft_model
from torch import nn

import training.texts
from moderation.classifier import Classifier
from retrieval_shared.bundle import Bundle
from retrieval_shared.head import FOLDED, HEADS_PREFIX, read_heads
from training.adapter import load_peft, lora_config
from training.base_model import BaseModel, load_base_model, round_to_int8
from training.branch import TokenBranch, TrunkBranch
from training.config import AdapterConfig
from training.examples import HEADS, Examples
from training.heads import judge_folded
from training.states import JoinedStates, TokenStates, padded_states
from training.texts import MAX_STATE_TOKENS, Texts, read_texts

TEXTS = (
    "free bet win cash now", "tea", "fresh bread every morning to your door", "вільний хліб щоранку", "",
    "play responsibly and win a free bet", "vodka and wine for the party " * 20,
)  # fmt: skip
SERVED = 6
"""So many of them are served in one piece."""
SHARED = np.array([True, False, True, True, False, True, False])
EVERY = np.arange(len(TEXTS))


def examples(rows: NDArray[np.intp] = EVERY) -> Examples:
    n = len(rows)
    return Examples(
        texts=tuple(TEXTS[i] for i in rows), targets=np.zeros((n, len(HEADS)), np.float32), source=np.full(n, "a"),
        licence=np.full(n, "open"), lang=np.full(n, "en"), kind=np.full(n, "post"), group=rows.astype(str),
        region=np.full(n, ""),
    )  # fmt: skip


def rounded(folder: Path) -> BaseModel:
    base = load_base_model(str(folder))
    round_to_int8(base)
    return base


def read(base: BaseModel, runs: Path, rows: NDArray[np.intp] = EVERY, *, max_tokens: int = 128) -> Texts:
    config = AdapterConfig(layers=1, rank=2, alpha=4, max_tokens=max_tokens)
    return read_texts(base, examples(rows), config, runs=runs, threads=1, shared=SHARED[rows])


def vectors(states: TokenStates) -> NDArray[np.float32]:
    return padded_states(states, np.arange(len(states.lengths)))[2].numpy()


def cosines(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = (left * right).sum(1) / (np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1))
    return found


@dataclass(frozen=True)
class Case:
    """An encoder with two paths, as production has one."""

    base: BaseModel
    texts: Texts
    runs: Path
    adapter: Path
    under: TokenStates
    """All rows under the adapter."""


@pytest.fixture(scope="module")
def case(two_path_base: Path, tiny_adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    runs, base = tmp_path_factory.mktemp("runs"), rounded(two_path_base)
    texts = read(base, runs)
    under = texts.states(tiny_adapter, folder=runs / "adapter", threads=1)
    return Case(base, texts, runs, tiny_adapter, under)


@pytest.fixture
def nothing_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(training.texts, "export_onnx", never)
    monkeypatch.setattr(onnxruntime.InferenceSession, "run", never)


def trunk_of(texts: Texts) -> JoinedStates:
    assert isinstance(texts.trunk, JoinedStates)
    return texts.trunk


def test_rows_are_the_tokenizers_and_long_ones_are_cut(case: Case) -> None:
    tokenizer = case.base.tokenizer
    for text, ids in zip(TEXTS, case.texts.token_ids, strict=True):
        whole = tokenizer.encode(text).ids
        assert ids == (whole if len(whole) <= MAX_STATE_TOKENS else [*whole[: MAX_STATE_TOKENS - 1], whole[-1]])
    assert len(case.texts.token_ids[-1]) == MAX_STATE_TOKENS  # the last one is long
    assert trunk_of(case.texts).lengths.tolist() == [len(ids) for ids in case.texts.token_ids]


def test_the_trunk_is_what_the_encoder_reads_below_its_branches(case: Case) -> None:
    for row, ids in enumerate(case.texts.token_ids):
        x = torch.tensor([ids])
        with torch.no_grad():
            output = case.base.model(input_ids=x, attention_mask=torch.ones_like(x), output_hidden_states=True)
        found = trunk_of(case.texts).row(row).astype(np.float32)
        assert cosines(found, output.hidden_states[1][0].numpy()).min() > 0.99  # rounded to int8
        assert case.base.two_paths is not None
        subwords = [i for i in ids if i >= 4]
        static = nn.functional.normalize(case.base.two_paths.rows[subwords, 1].mean(0), dim=0).numpy()
        np.testing.assert_allclose(trunk_of(case.texts).vector(row), static if subwords else 0 * found[0], atol=1e-3)


@pytest.mark.usefixtures("nothing_computed")
def test_what_is_cached_is_read_again(case: Case) -> None:
    again = read(case.base, case.runs)
    assert again.token_ids == case.texts.token_ids
    for row in range(len(TEXTS)):
        np.testing.assert_array_equal(trunk_of(again).row(row), trunk_of(case.texts).row(row))
        np.testing.assert_array_equal(trunk_of(again).vector(row), trunk_of(case.texts).vector(row))
    under = again.states(case.adapter, folder=case.runs / "adapter", threads=1)
    np.testing.assert_array_equal(vectors(under), vectors(case.under))


@pytest.mark.usefixtures("nothing_computed")
def test_a_run_with_fewer_rows_finds_those_that_all_runs_share(case: Case) -> None:
    rows = np.flatnonzero(SHARED)
    fewer = read(case.base, case.runs, rows)
    for i, row in enumerate(rows):
        np.testing.assert_array_equal(trunk_of(fewer).row(i), trunk_of(case.texts).row(int(row)))


def test_rows_are_cut_sooner_where_the_configuration_says_so(case: Case, tmp_path: Path) -> None:
    [graph] = case.runs.glob("trunk-*/trunk.onnx")
    (tmp_path / graph.parent.name).mkdir()
    (tmp_path / graph.parent.name / graph.name).symlink_to(graph)
    texts = read(case.base, tmp_path, max_tokens=5)
    assert [len(ids) for ids in texts.token_ids] == [min(5, len(ids)) for ids in case.texts.token_ids]
    assert {ids[-1] for ids in texts.token_ids} == {case.texts.token_ids[1][-1]}  # the closing token stays


def test_a_branch_holds_the_rows_it_is_asked_for(case: Case) -> None:
    rows = np.array([5, 0, 5])
    branch = case.texts.branch(rows)
    assert isinstance(branch, TrunkBranch)
    assert branch.layers == 1
    assert branch.lengths.tolist() == [len(case.texts.token_ids[row]) for row in rows]
    model = load_peft(rounded(Path(case.base.name)).model, case.adapter)
    with torch.no_grad():
        states, mask, found = branch.read(model, np.arange(3))
    expected, expected_mask, expected_vectors = padded_states(case.under, rows)
    assert torch.equal(mask, expected_mask)
    # PEFT in float32 on the trunk's int8 states, beside the int8 graph on the same.
    assert nn.functional.cosine_similarity(states, expected, dim=-1)[mask > 0].min() > 0.98
    assert nn.functional.cosine_similarity(found, expected_vectors, dim=-1).min() > 0.99


def test_states_under_an_adapter_are_those_of_the_served_graph(case: Case, two_path_bundle: Bundle) -> None:
    """Vectors, and what the bundle's heads say of the states."""
    encoder = Classifier(two_path_bundle).encoder
    served = encoder.encode(list(TEXTS[:SERVED]), slot="task:moderation")
    plain = encoder.encode(list(TEXTS[:SERVED]), slot="base")
    found = vectors(case.under)[:SERVED]
    assert np.abs(found - served.vectors).max() < 0.01
    assert np.abs(found - plain.vectors).max() > 0.05
    heads = read_heads(two_path_bundle.path / "heads", HEADS, encoder=two_path_bundle.sha256("base.int8.bin"))
    folded = {name: torch.from_numpy(heads.inputs[HEADS_PREFIX + name]) for name in FOLDED}
    logits, _ = judge_folded(folded, *padded_states(case.under, np.arange(SERVED)))
    scale = np.abs(served.logits - plain.logits).max()
    assert np.abs(logits.numpy() - served.logits).max() < 0.05 * scale


def test_another_adapter_is_read_through_the_same_graph(
    case: Case, tiny_region_adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("exported again")

    monkeypatch.setattr(training.texts, "export_onnx", never)
    under = case.texts.states(tiny_region_adapter, folder=case.runs / "region", threads=1)
    assert np.abs(vectors(under) - vectors(case.under)).max() > 0.05


def test_encoders_whose_weights_have_no_hash_are_told_apart(
    tiny_families: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of the hub, by their names; two of one rank and as many layers have no graph in common."""
    monkeypatch.setattr(training.texts, "export_onnx", lambda *_: None)
    base = dataclasses.replace(rounded(tiny_families["modernbert"]), sha256="")
    first, second = (read(dataclasses.replace(base, name=name), tmp_path).graphs for name in ("a/b", "a/c"))
    assert first != second


def test_some_rows_under_an_adapter_are_numbered_from_0(case: Case) -> None:
    rows = np.array([5, 2])
    some = case.texts.states(case.adapter, folder=case.runs / "adapter", threads=1, rows=rows)
    assert some.lengths.tolist() == case.under.lengths[rows].tolist()
    for i, row in enumerate(rows):
        np.testing.assert_allclose(some.row(i), case.under.row(row), atol=2e-2)  # other neighbours in the batch
        np.testing.assert_allclose(some.vector(i), case.under.vector(row), atol=2e-3)


def test_a_family_without_a_trunk_is_read_from_its_tokens(tiny_families: dict[str, Path], tmp_path: Path) -> None:
    folder = tiny_families["modernbert"]
    base, model = rounded(folder), rounded(folder).model
    adapted = get_peft_model(model, lora_config(AdapterConfig(layers=1, rank=2, alpha=4), model))
    torch.manual_seed(8)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if ".lora_" in name:
                parameter.normal_(std=0.2)
    adapted.save_pretrained(str(tmp_path / "adapter"))
    texts = read(base, tmp_path)
    assert texts.trunk is None
    rows = np.array([2, 0, 5])
    branch = texts.branch(rows)
    assert isinstance(branch, TokenBranch)
    assert branch.lengths.tolist() == [len(texts.token_ids[row]) for row in rows]
    with torch.no_grad():
        states, mask, oracle = branch.read(adapted.eval(), np.arange(3))
        _, _, plain = branch.read(base.model, np.arange(3))
    under = texts.states(tmp_path / "adapter", folder=tmp_path / "run", threads=1, rows=rows)
    found, _, found_vectors = padded_states(under, np.arange(3))
    assert nn.functional.cosine_similarity(found, states, dim=-1)[mask > 0].min() > 0.98  # rounded to int8
    gap = 1 - nn.functional.cosine_similarity(found_vectors, oracle, dim=-1)
    assert gap.max() < 0.01
    assert (1 - nn.functional.cosine_similarity(plain, oracle, dim=-1)).min() > 2 * gap.max()


def test_an_encoder_all_of_whose_layers_carry_lora_has_a_trunk_of_rows(two_path_base: Path, tmp_path: Path) -> None:
    base = rounded(two_path_base)
    config = AdapterConfig(layers=2, rank=2, alpha=4)
    rows = EVERY[:2]
    texts = read_texts(base, examples(rows), config, runs=tmp_path, threads=1, shared=SHARED[rows])
    for row in rows:
        x = torch.tensor([texts.token_ids[row]])
        with torch.no_grad():
            output = base.model(input_ids=x, output_hidden_states=True)
        np.testing.assert_allclose(trunk_of(texts).row(row), output.hidden_states[0][0].numpy(), atol=1e-2)
