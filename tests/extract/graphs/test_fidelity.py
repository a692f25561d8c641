"""What a precision costs, in words."""

from __future__ import annotations

from topwork.extract.graphs.fidelity import Fidelity


def test_fidelity_fits_one_line_of_a_terminal() -> None:
    whole = str(Fidelity("bf16", "openvino", 256, 0.013121, 0.014567, 1.7352))
    assert whole == "bf16 on openvino: error 0.0131 (99 %), 0.0146 (worst of 256); 1.7 times as fast"
    assert len(whole) <= 80
    divided = Fidelity("bf16:0d2c57aa", "openvino", 40, 0.01, 0.02, 1.2, 1)
    assert "bf16:0d2c57aa on openvino (its beginning in float32): " in str(divided)
    assert "int8:3fa94c1b on cpu (7 operations in float32): " in str(
        Fidelity("int8:3fa94c1b", "cpu", 40, 0.01, 0.02, 1.2, 7)
    )
