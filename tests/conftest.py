"""Fixtures every test may use: a tiny real encoder, a bundle made of it, and the data folder.

Everything heavy is imported inside the fixture that needs it, so that a test of serving code imports no torch.
"""

from __future__ import annotations

import os
import string
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from retrieval_shared.bundle import Bundle
    from training.config import ModerationConfig

# Read when the libraries are first imported, so set before any test file is. Offline: a test that would download fails.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["BENTOML_DO_NOT_TRACK"] = "True"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # on a tiny model threads only wait for each other
os.environ.pop("WARDLINE_BUNDLE", None)

WORDS = """
free bet win cash now casino vodka wine shop sale shoes tea bread fresh every morning your door the and of for
to in on is not no adult escort pills weed gun knife vote party war kill hate you we buy get new day week skip
pause match play responsibly loan crypto invest cure miracle doctor replica watch rolex smoke vape click here
last chance
""".split()  # noqa: SIM905 - a list of so many words would fill the page
DIM, LAYERS, ATTENTION_HEADS, POSITIONS, MAX_TOKENS = 32, 2, 4, 320, 48
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ROBERTA_SPECIAL = ("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]")
FAMILIES = {
    "bert": {"max_position_embeddings": POSITIONS},
    # Two positions go to the padding: ids and positions lie as in XLM-R's own checkpoints.
    "roberta": {"max_position_embeddings": POSITIONS + 2, "pad_token_id": 1},
    "xlm-roberta": {"max_position_embeddings": POSITIONS + 2, "pad_token_id": 1},
    # The settings of version 3 of the checkpoints, mDeBERTa's too, with fewer buckets.
    "deberta-v2": {
        "max_position_embeddings": POSITIONS, "relative_attention": True, "position_buckets": 16, "type_vocab_size": 0,
        "norm_rel_ebd": "layer_norm", "share_att_key": True, "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
    },
    # One block sees everything, the other 8 tokens on each side.
    "modernbert": {
        "max_position_embeddings": 1_024, "local_attention": 16, "pad_token_id": 0, "bos_token_id": 2,
        "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3,
    },
}  # fmt: skip
"""`model_type` -> what its tiny configuration has beside its sizes."""


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in Hugging Face layout: a seeded random BERT (2 layers, width 32) and its own WordPiece tokenizer."""
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("tiny_base")
    vocabulary = _save_tokenizer(folder)
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=DIM,
        num_hidden_layers=LAYERS,
        num_attention_heads=ATTENTION_HEADS,
        intermediate_size=2 * DIM,
        max_position_embeddings=POSITIONS,
        # Wide enough that two texts get plainly different vectors; 0.02 would leave a random model near constant.
        initializer_range=0.2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = BertModel(config, add_pooling_layer=False)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:  # equal norms and biases would be exported as one
                    parameter.add_(0.1 * torch.randn_like(parameter))
        model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """`model_type` -> a folder as `tiny_base` is, for each family of encoders."""
    import torch
    from transformers import AutoConfig, AutoModel

    folders = {}
    for name, own in FAMILIES.items():
        folders[name] = tmp_path_factory.mktemp(name)
        vocabulary = _save_tokenizer(folders[name], ROBERTA_SPECIAL if "roberta" in name else SPECIAL)
        config = AutoConfig.for_model(
            name,
            vocab_size=vocabulary,
            hidden_size=DIM,
            num_hidden_layers=LAYERS,
            num_attention_heads=ATTENTION_HEADS,
            intermediate_size=2 * DIM,
            initializer_range=0.2,
            **own,
        )
        with torch.random.fork_rng():
            torch.manual_seed(7)
            model = AutoModel.from_config(config)
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.dim() == 1:  # as in `tiny_base`
                        parameter.add_(0.1 * torch.randn_like(parameter))
            model.save_pretrained(folders[name])
    return folders


@pytest.fixture(scope="session")
def tiny_config(tiny_base: Path) -> ModerationConfig:
    """A training configuration over the tiny encoder; texts above 48 tokens are chunked."""
    from training.config import AdapterConfig, ModerationConfig

    return ModerationConfig(
        name="tiny",
        base_model=str(tiny_base),
        base_sha256="",
        max_tokens=MAX_TOKENS,
        adapter=AdapterConfig(layers=1, rank=2, alpha=4),
    )


@pytest.fixture(scope="session")
def tiny_adapter(tiny_base: Path, tiny_config: ModerationConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a seeded random LoRA over the tiny encoder's upper layer, as PEFT saves it."""
    return _save_adapter(tmp_path_factory.mktemp("tiny_adapter"), tiny_base, tiny_config, seed=8)


@pytest.fixture(scope="session")
def tiny_region_adapter(
    tiny_base: Path, tiny_config: ModerationConfig, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Another such adapter, which the tiny bundle holds as `region:ID`."""
    return _save_adapter(tmp_path_factory.mktemp("tiny_region"), tiny_base, tiny_config, seed=18)


def _save_adapter(folder: Path, base: Path, config: ModerationConfig, *, seed: int) -> Path:
    import torch
    from peft import get_peft_model

    from training.adapter import lora_config
    from training.base_model import load_base_model

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        plain = load_base_model(str(base)).model
        model = get_peft_model(plain, lora_config(config.adapter, plain))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if ".lora_" in name:
                    parameter.normal_(std=0.2)
    model.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="session")
def tiny_bundle(
    tiny_config: ModerationConfig,
    tiny_adapter: Path,
    tiny_region_adapter: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Bundle:
    """A real bundle: the tiny encoder, random adapters for moderation and ID, 16 random heads, made-up thresholds."""
    adapters = {"task:moderation": tiny_adapter, "region:ID": tiny_region_adapter}
    return _write_bundle(tmp_path_factory.mktemp("tiny_bundle"), tiny_config, adapters)


@pytest.fixture(scope="session")
def two_path_base(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny encoder's layers and a second path over a random table, as training saves it."""
    import torch

    from training.base_model import load_base_model
    from training.tokenizer import train_tokenizer
    from training.two_paths import graft, save_encoder

    base = load_base_model(str(tiny_base))
    tokenizer = train_tokenizer([" ".join(WORDS), "вільний хліб щоранку"] * 5, vocabulary=450, alphabet=60)
    generator = torch.Generator().manual_seed(5)
    table = torch.randn(tokenizer.get_vocab_size(), DIM, generator=generator)
    encoder = graft(base.model, base.tokenizer, table, tokenizer)  # type: ignore[arg-type]
    with torch.no_grad():
        encoder.paths.joint.weight.copy_(torch.randn(2 * DIM, DIM, generator=generator) / 8)
    folder = tmp_path_factory.mktemp("two_path_base")
    save_encoder(folder, encoder, tokenizer)
    return folder


@pytest.fixture(scope="session")
def two_path_bundle(
    two_path_base: Path, tiny_config: ModerationConfig, tiny_adapter: Path, tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    """A bundle as `tiny_bundle`, over the encoder with two paths."""
    import dataclasses

    config = dataclasses.replace(tiny_config, name="two-paths", base_model=str(two_path_base))
    return _write_bundle(tmp_path_factory.mktemp("two_path_bundle"), config, {"task:moderation": tiny_adapter})


def _write_bundle(folder: Path, config: ModerationConfig, adapters: Mapping[str, Path]) -> Bundle:
    import numpy as np
    import torch

    from moderation.thresholds import HeadThreshold, Thresholds
    from retrieval_shared.calibration import Calibration
    from training.assemble import Parts, write_bundle
    from training.base_model import load_base_model, round_to_int8
    from training.examples import HEADS
    from training.heads import PooledHeads
    from training.pooling import pooling_block

    base = load_base_model(config.base_model)
    round_to_int8(base)
    with torch.random.fork_rng():
        torch.manual_seed(9)
        heads = PooledHeads(pooling_block(base.model), len(HEADS), hidden=8, rank=2, alpha=4)
        with torch.no_grad():
            for parameter in heads.lora.values():
                parameter.normal_(std=0.2)
            heads.judge.look.normal_(std=1.0)  # a trained head looks at something
            heads.judge.bias.zero_()
            for parameter in heads.parameters():  # as they are served
                parameter.copy_(parameter.half().float())
    cuts = HeadThreshold(escalate=0.4, act=0.6, basis="made up", positives=0, negatives=0)
    ones = np.ones(len(HEADS), dtype=np.float32)
    parts = Parts(
        base=base,
        adapters=adapters,
        parents={name: "task:moderation" for name in adapters if name != "task:moderation"},
        heads=heads.eval(),
        calibration=Calibration(heads=HEADS, scale=ones, offset=0 * ones),
        thresholds=Thresholds.of(prevalence=0.02, heads=dict.fromkeys(HEADS, cuts)),
        training={},
    )
    return write_bundle(folder, parts, config)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The data folder that WARDLINE_DATA names; without one the test is skipped."""
    named = os.environ.get("WARDLINE_DATA")
    if not named:
        pytest.skip("WARDLINE_DATA names no data folder")
    return Path(named)


def _save_tokenizer(folder: Path, special: Sequence[str] = SPECIAL) -> int:
    """Save a lower-casing WordPiece tokenizer, special tokens first, and return the size of its vocabulary."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = [*string.ascii_lowercase, *string.digits]
    pieces = [*special, *string.punctuation, "£", "€", *letters, *(f"##{letter}" for letter in letters), *WORDS]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    ).save_pretrained(folder)
    return len(vocabulary)
