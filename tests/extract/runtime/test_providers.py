"""Which providers there are, and which can do what."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from topwork.errors import InputError, ProviderError
from topwork.extract.runtime import providers
from topwork.extract.runtime.providers import PROVIDERS, explain_absence, explain_unsupported, find_providers
from topwork.hardware import DISABLE_VARIABLE


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return the names of the providers that seem to be there; a test may add to them."""
    monkeypatch.delenv(DISABLE_VARIABLE, raising=False)
    names = {"cpu"}
    monkeypatch.setattr(providers, "explain_absence", lambda provider: "" if provider.name in names else "not built in")
    monkeypatch.setattr(providers, "has_bfloat16", lambda: True)
    return names


@pytest.mark.parametrize(
    ("there", "precision", "expected"),
    [
        ((), "fp32", "cpu"),
        (("openvino",), "fp32", "openvino"),
        (("openvino", "cuda"), "fp32", "cuda"),
        (("openvino", "cuda", "tensorrt"), "fp16", "tensorrt"),
        (("openvino", "cuda"), "bf16", "openvino"),
        (("openvino", "tensorrt"), "bf16", "tensorrt"),
    ],
)
def test_auto_takes_the_fastest_usable_provider(
    found: set[str], there: tuple[str, ...], precision: str, expected: str
) -> None:
    found.update(there)
    assert find_providers("auto", precision)[0].name == expected


def test_precision_that_nothing_computes_in_is_an_error_with_every_reason(found: set[str]) -> None:
    with pytest.raises(ProviderError, match=r"no provider here computes in bf16: .*cuda: .*; cpu: it computes in fp32"):
        find_providers("auto", "bf16")


def test_processor_without_bfloat16_is_named_as_the_reason(found: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    found.add("openvino")
    monkeypatch.setattr(providers, "has_bfloat16", lambda: False)
    with pytest.raises(ProviderError, match="'openvino' cannot compute in bf16: this processor has no bfloat16"):
        find_providers("openvino", "bf16")
    assert find_providers("openvino", "fp32") == [PROVIDERS["openvino"]]
    found.add("tensorrt")  # which does not ask the processor
    assert find_providers("auto", "bf16") == [PROVIDERS["tensorrt"]]


def test_named_provider_is_the_only_choice_or_an_error(found: set[str]) -> None:
    found.add("cuda")
    assert find_providers("cpu", "fp32") == [PROVIDERS["cpu"]]
    with pytest.raises(ProviderError, match=r"'dml'.*not built in.*onnxruntime-directml"):
        find_providers("dml", "fp32")
    with pytest.raises(InputError, match="provider 'gpu' does not exist; expected auto, tensorrt, cuda"):
        find_providers("gpu", "fp32")


def test_cpu_is_always_available() -> None:
    assert not explain_absence(PROVIDERS["cpu"])
    assert not explain_unsupported(PROVIDERS["cpu"], "fp32")


def test_openvino_needs_one_of_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DISABLE_VARIABLE, raising=False)
    monkeypatch.setattr(providers, "openvino_devices", tuple)
    monkeypatch.setattr(providers, "has_package", lambda name: name == "onnxruntime_ep_openvino")
    assert "plug-in found no device" in explain_absence(PROVIDERS["openvino"])
    monkeypatch.setattr(providers, "has_package", lambda name: False)
    assert "neither openvino nor" in explain_absence(PROVIDERS["openvino"])


def test_disabled_provider_is_not_available_and_auto_takes_another(disable: Callable[..., None]) -> None:
    disable("openvino")
    with pytest.raises(ProviderError, match="TOPWORK_DISABLE"):
        find_providers("openvino", "fp32")
    assert "openvino" not in [provider.name for provider in find_providers("auto", "fp32")]
