from __future__ import annotations

from eval.bench.machine import read_cpuinfo, this_machine

CPUINFO = """processor\t: 0
model name\t: Some Processor 9
flags\t\t: fpu avx2 amx_int8 avx512_vnni other

processor\t: 1
model name\t: Another
flags\t\t: fpu
"""


def test_the_first_processor_counts_and_flags_keep_their_order() -> None:
    assert read_cpuinfo(CPUINFO) == ("Some Processor 9", ("avx2", "avx512_vnni", "amx_int8"))


def test_arm_calls_its_flags_features() -> None:
    assert read_cpuinfo("processor : 0\nFeatures : fp asimddp i8mm\n") == ("", ("asimddp", "i8mm"))


def test_no_file_means_nothing_known() -> None:
    assert read_cpuinfo("") == ("", ())


def test_this_machine_has_a_name_a_core_and_memory() -> None:
    machine = this_machine()
    assert machine.processor
    assert machine.cores >= 1
    assert machine.memory_gb > 0
