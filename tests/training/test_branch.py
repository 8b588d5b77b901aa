"""Branches against transformers' own hidden states, one text at a time and without padding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import Tensor, nn

import training.branch
from training.adapter import lora_config
from training.base_model import BaseModel, load_base_model, round_to_int8
from training.branch import TokenBranch, TrunkBranch, upper_layers
from training.config import AdapterConfig
from training.states import CachedStates

TEXTS = ("free bet win cash now", "tea", "fresh bread every morning to your door and play responsibly", "win")
ROWS = np.array([2, 0, 2, 1])
"""Of several lengths, one of them twice."""


def rounded(folder: Path) -> BaseModel:
    base = load_base_model(str(folder))
    round_to_int8(base)
    return base


def ids_of(base: BaseModel) -> list[list[int]]:
    return [encoding.ids for encoding in base.tokenizer.encode_batch(list(TEXTS))]


def adapted(folder: Path, *, layers: int) -> PeftModel:
    """The encoder under a random LoRA on its upper layers."""
    model = rounded(folder).model
    peft = get_peft_model(model, lora_config(AdapterConfig(layers=layers, rank=2, alpha=3), model))
    torch.manual_seed(4)
    with torch.no_grad():
        for name, parameter in peft.named_parameters():
            if ".lora_" in name:
                parameter.normal_(std=0.2)
    return peft.eval()


def alone(base: BaseModel, model: nn.Module) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return of each text every hidden state `[L + 1, t, d]`, the unit vector `[d]` and the static vector `[d]`."""
    found = []
    for ids in ids_of(base):
        row = torch.tensor([ids])
        mask = torch.ones_like(row)
        with torch.no_grad():
            output = model(input_ids=row, attention_mask=mask, output_hidden_states=True)
            unit = nn.functional.normalize(output.last_hidden_state[0].mean(0), dim=0)
            static = torch.zeros_like(unit)
            if base.two_paths is not None:  # by hand: unit means, joined by one matrix
                subwords = [i for i in ids if i >= 4]
                static = nn.functional.normalize(base.two_paths.rows[subwords, 1].mean(0), dim=0)
                unit = nn.functional.normalize(torch.cat([unit, static]) @ base.two_paths.paths.joint.weight, dim=0)
        found.append((torch.cat(list(output.hidden_states)), unit, static))
    return found


def trunk_of(reference: list[tuple[Tensor, Tensor, Tensor]], *, layers: int) -> CachedStates:
    """Return the states below the upper `layers`, as training caches them."""
    trunk = [states[len(states) - 1 - layers].numpy() for states, _, _ in reference]
    return CachedStates(
        states=np.concatenate(trunk).astype(np.float16),
        vectors=torch.stack([static for _, _, static in reference]).numpy().astype(np.float16),
        offsets=np.cumsum([0, *(len(states) for states in trunk)]),
    )


def branch_of(base: BaseModel, model: nn.Module, *, layers: int) -> TrunkBranch:
    paths = base.two_paths.paths if base.two_paths else None
    return TrunkBranch(trunk_of(alone(base, model), layers=layers), layers, paths)


@pytest.fixture(autouse=True)
def single(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute in float32 on every processor."""
    monkeypatch.setattr(training.branch, "HALF", False)


@pytest.fixture(params=["one path", "two paths"])
def folder(request: pytest.FixtureRequest, tiny_base: Path, two_path_base: Path) -> Path:
    return tiny_base if request.param == "one path" else two_path_base


@pytest.mark.parametrize("layers", [1, 2])
def test_upper_layers_end_where_the_whole_encoder_does(tiny_base: Path, layers: int) -> None:
    base = rounded(tiny_base)
    width = max(map(len, ids_of(base)))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in ids_of(base)])
    mask = (ids > 0).long()
    assert 0 < mask.float().mean() < 1
    for model in (base.model, adapted(tiny_base, layers=layers)):
        with torch.no_grad():
            whole = model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
            found = upper_layers(model, whole.hidden_states[2 - layers], mask, layers=layers)
        torch.testing.assert_close(found[mask > 0], whole.last_hidden_state[mask > 0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("lora", [False, True], ids=["base", "lora"])
def test_a_branch_over_the_trunk_is_the_whole_encoder(folder: Path, layers: int, lora: bool) -> None:  # noqa: FBT001
    base = rounded(folder)
    model = adapted(folder, layers=layers) if lora else base.model
    reference = alone(base, model)
    branch = branch_of(base, model, layers=layers)
    assert branch.lengths.tolist() == [len(ids) for ids in ids_of(base)]
    with torch.no_grad():
        states, mask, vectors = branch.read(model, ROWS)
    assert (states.shape, mask.dtype) == ((4, branch.lengths.max(), base.dim), torch.int64)
    for i, row in enumerate(ROWS):
        every, vector, _ = reference[row]
        assert mask[i].tolist() == [1] * len(every[0]) + [0] * (states.shape[1] - len(every[0]))
        # The trunk's states are held in half precision, 11 bits of a value of about 3.
        torch.testing.assert_close(states[i, : len(every[0])], every[-1], atol=1e-2, rtol=0)
        torch.testing.assert_close(vectors[i], vector, atol=3e-3, rtol=0)


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "deberta-v2", "modernbert"])
def test_a_branch_over_tokens_is_the_whole_encoder(tiny_families: dict[str, Path], family: str) -> None:
    base = rounded(tiny_families[family])
    model = adapted(tiny_families[family], layers=1)
    reference = alone(base, model)
    branch = TokenBranch(ids_of(base), base)
    assert branch.lengths.tolist() == [len(ids) for ids in ids_of(base)]
    with torch.no_grad():
        states, mask, vectors = branch.read(model, ROWS)
    for i, row in enumerate(ROWS):
        every, vector, _ = reference[row]
        assert mask[i].sum() == len(every[0])
        torch.testing.assert_close(states[i, : len(every[0])], every[-1], atol=1e-4, rtol=0)
        torch.testing.assert_close(vectors[i], vector, atol=1e-5, rtol=0)


def test_a_branch_over_tokens_joins_both_paths(two_path_base: Path) -> None:
    base = rounded(two_path_base)
    with torch.no_grad():
        _, _, vectors = TokenBranch(ids_of(base), base).read(base.model, ROWS)
    reference = alone(base, base.model)
    torch.testing.assert_close(vectors, torch.stack([reference[row][1] for row in ROWS]), atol=1e-5, rtol=0)


def test_gradients_reach_the_same_lora_from_trunk_and_from_tokens(folder: Path) -> None:
    base, model = rounded(folder), adapted(folder, layers=1)
    trunk = branch_of(base, model, layers=1)
    target = torch.randn(len(ROWS), base.dim, generator=torch.Generator().manual_seed(6))
    found: list[dict[str, Tensor]] = []
    for branch in (trunk, TokenBranch(ids_of(base), base)):
        model.zero_grad()
        states, mask, vectors = branch.read(model, ROWS)
        pooled = states.masked_fill(mask[..., None] == 0, 0.0).sum(1)
        torch.autograd.backward([(vectors * target).sum() + 0.01 * (pooled * target).sum()])
        found.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    learns = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert found[0].keys() == found[1].keys() == learns
    assert len(learns) == 12  # A and B of six linear layers, and nothing of the base
    for name, gradient in found[0].items():
        scale = float(found[1][name].abs().max())
        assert scale > 0
        torch.testing.assert_close(gradient, found[1][name], atol=0.02 * scale, rtol=0)


def test_half_precision_rounds_the_products_and_nothing_that_is_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, model = rounded(folder), adapted(folder, layers=1)
    branch = branch_of(base, model, layers=1)
    exact_states, _, exact_vectors = branch.read(model, ROWS)
    monkeypatch.setattr(training.branch, "HALF", True)
    states, mask, vectors = branch.read(model, ROWS)
    assert states.dtype == vectors.dtype == torch.float32
    gap = (states - exact_states)[mask > 0].abs().max()
    assert 1e-3 < gap < 0.15  # bfloat16 keeps 8 bits
    torch.testing.assert_close(vectors, exact_vectors, atol=0.03, rtol=0)
    torch.autograd.backward([vectors.sum()])
    own = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert {parameter.dtype for parameter in own} == {torch.float32}
    assert all(parameter.grad is not None and parameter.grad.dtype == torch.float32 for parameter in own)
