"""What the doctor reports of the installation."""

from __future__ import annotations

import pytest
from topwork.extract.runtime.providers import PROVIDERS, find_rivals
from topwork.pipelines.doctor import examine_installation, find_problems

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def test_every_provider_is_reported_with_a_reason_if_it_is_missing() -> None:
    facts = examine_installation()
    assert [p["name"] for p in facts["providers"]] == list(PROVIDERS)
    assert all(p["there"] or "install" in p["note"] for p in facts["providers"])
    assert next(p for p in facts["providers"] if p["name"] == "cpu")["precisions"][:2] == ["fp32", "fp16"]
    rivals = [provider.name for provider in find_rivals("auto", "fp32")]
    named = facts["auto"]["fp32"]
    assert named == rivals[0] if len(rivals) == 1 else named.startswith(" or ".join(rivals))
    assert facts["versions"]["onnxruntime"]


@pytest.mark.parametrize(
    ("installed", "built", "expected"),
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
    installed: set[str], built: list[str], expected: list[str]
) -> None:
    found = find_problems(installed, built)
    assert len(found) == len(expected)
    assert all(part in problem for part, problem in zip(expected, found, strict=True))
