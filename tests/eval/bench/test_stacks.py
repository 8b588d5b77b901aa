from __future__ import annotations

from importlib.util import find_spec

from eval.bench.environment import INFINITY, ONNX, PEERS
from eval.bench.stacks import HTTP, PEERS_IN_BATCHES, STACKS, WARDLINE
from eval.peers.orders import ARRIVAL, SORTED

BY_KEY = {stack.key: stack for stack in STACKS}


def test_ours_come_first_and_no_key_or_title_twice() -> None:
    assert [stack.key for stack in STACKS if not stack.is_peer] == [HTTP, WARDLINE] == [s.key for s in STACKS[:2]]
    assert len(BY_KEY) == len({stack.title for stack in STACKS}) == len(STACKS)


def test_every_peer_is_measured_in_arrival_order_and_sorted_and_reads_single_texts_once() -> None:
    for peer in PEERS_IN_BATCHES:
        shapes = [stack for stack in STACKS if stack.module == peer.module and stack.settings["batch_size"] == 32]
        assert [stack.settings["order"] for stack in shapes] == [ARRIVAL, SORTED]
        single = [stack for stack in STACKS if stack.module == peer.module and stack.single]
        assert len(single) == 1


def test_every_stack_is_a_module_in_an_environment_that_holds_it() -> None:
    assert all(find_spec(stack.module) for stack in STACKS)
    assert BY_KEY["infinity"].environment is INFINITY
    assert BY_KEY["sentence_transformers_int8"].environment is ONNX
    assert BY_KEY["sentence_transformers"].environment is BY_KEY["onnxruntime"].environment is PEERS
    assert "infinity" in INFINITY.requirements.read_text(encoding="utf-8")
    assert "optimum-onnx" in ONNX.requirements.read_text(encoding="utf-8")
