"""A certificate keeps all that it was given."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from topwork.extract.graphs.certificate import Certificate, Deviation, Port

from ...html_reading import HOSTILE, HOSTILE_DIRECTION, check_harmless


@pytest.fixture
def certificate() -> Certificate:
    deviations = (Deviation("a", "random", 1, 1e-7, 1e-6, 1.0), Deviation("b", "padded", 5, 2e-5, 1e-6, 0.9999))
    ports = (Port("image", "tensor(uint8)", ("batch", 32, 32, 3)),), (Port("a", "tensor(float)", ("batch", 7)),)
    return Certificate(1e-4, "cpu", "fp32", "dynamo", ("x: y",), {"onnx": "1"}, *ports, deviations, 1e-8)


def test_certificate_survives_its_text_form(certificate: Certificate) -> None:
    assert Certificate.from_json(json.loads(json.dumps(certificate.to_json()))) == certificate
    assert certificate.worst.output == "b"


def test_notebook_shows_the_largest_error(certificate: Certificate) -> None:
    shown = check_harmless(certificate._repr_html_()).texts
    assert shown[0] == "Certificate"
    assert "2.0e-05 (b, batch of 5, padded items); 1.0e-04 is allowed" in shown
    assert "x: y" in shown
    assert "onnx 1" in shown


def test_hostile_names_stay_text(certificate: Certificate) -> None:
    deviation = Deviation(HOSTILE, "random", 1, 1e-7, 1e-6, 1.0)
    hostile = replace(
        certificate, deviations=(deviation,), refused=(HOSTILE_DIRECTION,), versions={HOSTILE: HOSTILE}, route=HOSTILE
    )
    shown = check_harmless(hostile._repr_html_()).texts
    assert HOSTILE in shown
    assert f"{HOSTILE} {HOSTILE}" in shown
