from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import BertModel

from retrieval_shared.torch_encoder import from_hugging_face
from retrieval_shared.torch_paths import JoinedPaths
from retrieval_shared.torch_rows import ROW_LEVELS, int8_rows, mean_pool
from training.base_model import load_base_model, round_to_int8
from training.export import OUTPUTS, ServingGraph, TrunkGraph, export_onnx, run_onnx
from training.heads import FoldedHeads, PooledHeads
from training.pooling import pooling_block
from training.tokenizer import SPECIAL, train_tokenizer
from training.two_paths import (
    TwoPathEncoder,
    as_served,
    fit_joint,
    graft,
    load_encoder,
    save_encoder,
    shared_pieces,
    whole_words,
)

TEXTS = ["free bet and win cash now", "fresh bread every morning", "вільний хліб", "play responsibly casino wine"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS * 5, vocabulary=450, alphabet=60)


@pytest.fixture(scope="module")
def grafted(tiny_base: Path, tokenizer: Tokenizer) -> tuple[TwoPathEncoder, torch.Tensor]:
    base = load_base_model(str(tiny_base))
    table = torch.randn(tokenizer.get_vocab_size(), base.dim, generator=torch.Generator().manual_seed(0))
    assert isinstance(base.model, BertModel)
    return graft(base.model, base.tokenizer, table, tokenizer), table


def batch(tokenizer: Tokenizer, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    ids = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    width = max(map(len, ids))
    rows = torch.tensor([row + [0] * (width - len(row)) for row in ids])
    return rows, torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids])


def test_shared_pieces_stand_for_the_same_letters(tiny_base: Path, tokenizer: Tokenizer) -> None:
    known = load_base_model(str(tiny_base)).tokenizer
    new, old = shared_pieces(tokenizer, known)
    assert len(new) > 10
    for i, k in zip(new.tolist(), old.tolist(), strict=True):
        piece, other = tokenizer.id_to_token(i), known.id_to_token(k)
        assert piece is not None
        assert other == (piece[1:] if piece.startswith("▁") else f"##{piece}")


def test_layers_are_kept_and_known_pieces_keep_their_rows(
    grafted: tuple[TwoPathEncoder, torch.Tensor], tiny_base: Path, tokenizer: Tokenizer
) -> None:
    encoder, table = grafted
    base = load_base_model(str(tiny_base))
    kept, old = encoder.bert.state_dict(), base.model.state_dict()
    for name, value in old.items():
        if "word_embeddings" not in name:
            torch.testing.assert_close(kept[name], value)
    words = old["embeddings.word_embeddings.weight"]
    rows = encoder.two_paths.input_rows()
    new_ids, old_ids = shared_pieces(tokenizer, base.tokenizer)
    torch.testing.assert_close(rows[new_ids], words[old_ids])
    for i, name in enumerate(SPECIAL):
        torch.testing.assert_close(rows[i], words[base.tokenizer.token_to_id(name)])
    static = encoder.two_paths.rows[:, 1]
    torch.testing.assert_close(torch.nn.functional.cosine_similarity(static, table, dim=1), torch.ones(len(table)))
    torch.testing.assert_close(static.std(), rows.std())


def test_a_new_piece_is_a_mixture_of_the_known_pieces_beside_it(
    grafted: tuple[TwoPathEncoder, torch.Tensor], tiny_base: Path, tokenizer: Tokenizer
) -> None:
    encoder, table = grafted
    base = load_base_model(str(tiny_base))
    words = base.model.state_dict()["embeddings.word_embeddings.weight"]
    new_ids, old_ids = shared_pieces(tokenizer, base.tokenizer)
    rows, center = encoder.two_paths.input_rows(), words[old_ids].mean(0)
    length = (words[old_ids] - center).norm(dim=1).mean()
    for i in set(range(len(SPECIAL), len(table))) - set(new_ids.tolist()):
        cosine = torch.nn.functional.cosine_similarity(table[new_ids], table[i], dim=1)
        near = cosine.argsort(descending=True)[:8]
        weights = torch.exp((cosine[near] - cosine[near].max()) / 0.05)
        mixed = (weights[:, None] * words[old_ids[near.numpy()]]).sum(0) / weights.sum() - center
        torch.testing.assert_close(rows[i], center + mixed * length / mixed.norm(), atol=1e-4, rtol=1e-4)


def test_words_of_a_vocabulary_come_in_its_order(tiny_base: Path) -> None:
    known = load_base_model(str(tiny_base)).tokenizer
    found = whole_words(known)
    assert len(found) > 10
    numbers = [known.get_vocab()[word] for word in found]
    assert numbers == sorted(numbers)
    assert not [word for word in found if len(word) < 3 or not word.isalpha()]


def test_the_static_path_is_the_mean_of_the_table(
    grafted: tuple[TwoPathEncoder, torch.Tensor], tokenizer: Tokenizer
) -> None:
    encoder, table = grafted
    found = encoder(*batch(tokenizer, TEXTS)).static.detach()
    bags = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
    direct = torch.nn.functional.normalize(torch.stack([as_served(table)[bag].mean(0) for bag in bags]), dim=-1)
    torch.testing.assert_close(found, direct, atol=2e-3, rtol=0)


def test_each_path_teaches_its_own_rows_and_the_old_words_are_left_alone(
    grafted: tuple[TwoPathEncoder, torch.Tensor], tokenizer: Tokenizer
) -> None:
    encoder = copy.deepcopy(grafted[0])
    for number, path in enumerate(("transformer", "static")):
        encoder.zero_grad()
        getattr(encoder(*batch(tokenizer, TEXTS)), path)[:, 0].sum().backward()
        assert encoder.table.weight.grad is not None
        learnt = encoder.table.weight.grad.view(-1, 2, 32).abs().sum((0, 2))
        assert learnt[number] > 0
        assert learnt[1 - number] == 0
    assert not {"bert.embeddings.word_embeddings.weight", "paths.joint.weight"} & set(dict(_trained(encoder)))


def _trained(encoder: TwoPathEncoder) -> list[tuple[str, torch.Tensor]]:
    return [(name, value) for name, value in encoder.named_parameters() if value.requires_grad]


def test_padding_and_neighbours_change_nothing(
    grafted: tuple[TwoPathEncoder, torch.Tensor], tokenizer: Tokenizer
) -> None:
    encoder, _ = grafted
    together = encoder(*batch(tokenizer, TEXTS))
    for i, text in enumerate(TEXTS):
        alone = encoder(*batch(tokenizer, [text]))
        for name in ("joint", "transformer", "static"):
            torch.testing.assert_close(getattr(together, name)[i], getattr(alone, name)[0], atol=1e-5, rtol=1e-4)


def test_a_text_without_tokens_has_a_vector(grafted: tuple[TwoPathEncoder, torch.Tensor], tokenizer: Tokenizer) -> None:
    found = grafted[0](*batch(tokenizer, ["", "bread"])).joint
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))


def test_the_joint_vector_keeps_the_similarities_of_both_paths(grafted: tuple[TwoPathEncoder, torch.Tensor]) -> None:
    """With fewer samples than dimensions the principal components lose nothing."""
    encoder, _ = grafted
    generator = torch.Generator().manual_seed(1)
    paths = [torch.nn.functional.normalize(torch.randn(20, 32, generator=generator), dim=-1) for _ in range(2)]
    fit_joint(encoder, paths[0], paths[1], share=0.5)
    both = torch.nn.functional.normalize(torch.cat([0.5 * paths[0], paths[1]], dim=1), dim=-1)
    joint = encoder.paths.join(*paths).detach()
    torch.testing.assert_close(joint @ joint.T, both @ both.T, atol=1e-4, rtol=1e-4)


def test_full_whitening_gives_every_component_the_same_strength(grafted: tuple[TwoPathEncoder, torch.Tensor]) -> None:
    encoder, _ = grafted
    generator = torch.Generator().manual_seed(1)
    strengths = torch.linspace(0.2, 2, 32)
    paths = [torch.randn(500, 32, generator=generator) * strengths for _ in range(2)]
    fit_joint(encoder, paths[0], paths[1], share=0.5, whitening=0.5)
    joint = encoder.paths.joint(torch.cat(paths, dim=1)).detach()
    torch.testing.assert_close(joint.T @ joint / 500, torch.eye(32), atol=1e-3, rtol=0)


def test_a_saved_encoder_comes_back(
    grafted: tuple[TwoPathEncoder, torch.Tensor], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    encoder, _ = grafted
    save_encoder(tmp_path, encoder, tokenizer)
    ids, mask = batch(tokenizer, TEXTS)
    torch.testing.assert_close(load_encoder(tmp_path)(ids, mask).joint, encoder(ids, mask).joint)
    again = load_base_model(str(tmp_path))  # what the other stages start from
    assert again.tokenizer.encode("bread").ids == tokenizer.encode("bread").ids
    assert again.two_paths is not None
    torch.testing.assert_close(again.two_paths.rows.flatten(1), encoder.table.weight.detach())
    states = again.model(input_ids=ids, attention_mask=mask).last_hidden_state  # a plain BertModel reads it as well
    torch.testing.assert_close(states, encoder.states(again.two_paths.rows[ids], mask))


def test_a_folder_without_a_second_path_is_refused(tiny_base: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no second path"):
        load_encoder(tiny_base)


def test_serving_makes_the_same_joint_vector(
    grafted: tuple[TwoPathEncoder, torch.Tensor], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    encoder, _ = grafted
    save_encoder(tmp_path / "encoder", encoder, tokenizer)
    base = load_base_model(str(tmp_path / "encoder"))
    round_to_int8(base)
    assert base.two_paths is not None
    ids, mask = batch(tokenizer, TEXTS)
    rows, slot = torch.arange(len(ids)), torch.zeros(len(ids), dtype=torch.int64)
    slots = from_hugging_face(base.model, branch_layers=1, two_paths=base.two_paths)
    with torch.no_grad():
        states = slots(ids, mask, rows, slot)
        plain = base.model(input_ids=ids, attention_mask=mask).last_hidden_state  # what adapters are trained on
        torch.testing.assert_close(states, plain, atol=1e-5, rtol=1e-4)
        static = encoder(ids, mask).static  # trained as it is served
        expected = base.two_paths.paths.join(mean_pool(plain, mask), static)
        found = slots.vector(ids, mask, rows, states)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)

    heads = FoldedHeads(PooledHeads(pooling_block(base.model), 2, hidden=3))
    graph, trunk = tmp_path / "graph.onnx", tmp_path / "trunk.onnx"
    export_onnx(ServingGraph(slots, heads), graph, OUTPUTS)
    order = torch.tensor([2, 0, 3, 1, 2])
    feeds = {"input_ids": ids, "attention_mask": mask}
    resident = {f"heads.{name}": value.numpy() for name, value in heads.named_parameters()}
    for ours, theirs in slots.lora_paths().items():
        for side in ("lora_a", "lora_b"):
            resident[f"{side}.{theirs}"] = slots.get_parameter(f"{ours}.{side}").detach().numpy()
    branches = {"branch_row": order, "slot": torch.zeros(5, dtype=torch.int64)}
    exported = run_onnx(graph, {name: value.numpy() for name, value in (feeds | branches).items()}, resident)[0]
    torch.testing.assert_close(torch.from_numpy(exported), expected[order], atol=1e-5, rtol=1e-4)

    export_onnx(TrunkGraph(slots), trunk, ("trunk", "static"))
    lower = run_onnx(trunk, {name: value.numpy() for name, value in feeds.items()}, {})
    torch.testing.assert_close(torch.from_numpy(lower[1]), static, atol=1e-5, rtol=1e-4)


def test_rounding_lets_the_gradient_through() -> None:
    rows = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found = as_served(rows)
    values, scale = int8_rows(rows.detach(), levels=ROW_LEVELS)
    torch.testing.assert_close(found.detach(), values.float() * scale)
    (gradient,) = torch.autograd.grad(found.square().sum(), rows)
    torch.testing.assert_close(gradient, 2 * found.detach())


def test_both_floors_agree_on_the_special_tokens() -> None:
    assert len(SPECIAL) == JoinedPaths.SPECIAL


def test_a_table_that_does_not_fit_is_refused(tiny_base: Path, tokenizer: Tokenizer) -> None:
    base = load_base_model(str(tiny_base))
    with pytest.raises(ValueError, match=r"table: found 3 rows of width 32, expected \d+ of 32"):
        graft(base.model, base.tokenizer, torch.zeros(3, 32), tokenizer)  # type: ignore[arg-type]
