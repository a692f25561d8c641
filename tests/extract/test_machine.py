"""What the machine is told to be."""

from topwork.extract.machine import (
    INSTRUCTION_SETS,
    available_cores,
    has_bfloat16,
    instruction_sets,
    processor,
)


def test_machine_is_described() -> None:
    assert available_cores() >= 1
    assert processor()
    assert set(instruction_sets()) <= set(INSTRUCTION_SETS)
    assert has_bfloat16() == bool({"avx512_bf16", "amx_bf16"} & set(instruction_sets()))
