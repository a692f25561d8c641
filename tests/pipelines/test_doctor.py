"""What the doctor finds."""

from __future__ import annotations

import pytest
from topwork.extract.runtime.providers import PROVIDERS
from topwork.pipelines.doctor import examined, problems

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def test_every_provider_is_told_with_a_reason_where_it_is_missing() -> None:
    facts = examined()
    assert [p["name"] for p in facts["providers"]] == list(PROVIDERS)
    assert all(p["there"] or "install" in p["note"] for p in facts["providers"])
    assert next(p for p in facts["providers"] if p["name"] == "cpu")["precisions"][:2] == ["fp32", "fp16"]
    assert facts["auto"]["fp32"].endswith("cpu")
    assert facts["versions"]["onnxruntime"]


@pytest.mark.parametrize(
    ("installed", "listed", "told"),
    [
        ({"onnxruntime"}, [CPU], []),
        ({"onnxruntime-gpu"}, [CUDA, CPU], []),
        ({"onnxruntime", "onnxruntime-gpu"}, [CUDA, CPU], ["overwritten files of the other"]),
        (
            {"onnxruntime", "onnxruntime-gpu"},
            [CPU],
            ["overwritten files of the other", "what is imported cannot use a GPU"],
        ),
    ],
)
def test_packages_that_overwrite_each_other_are_recognised(
    installed: set[str], listed: list[str], told: list[str]
) -> None:
    found = problems(installed, listed)
    assert len(found) == len(told)
    assert all(part in problem for part, problem in zip(told, found, strict=True))
