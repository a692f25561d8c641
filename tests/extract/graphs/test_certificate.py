"""A certificate keeps all that it was given."""

from __future__ import annotations

import json

from topwork.extract.graphs.certificate import Certificate, Deviation, Port


def test_certificate_survives_its_text_form() -> None:
    deviations = (Deviation("a", "random", 1, 1e-7, 1e-6, 1.0), Deviation("b", "padded", 5, 2e-5, 1e-6, 0.9999))
    ports = (Port("image", "tensor(uint8)", ("batch", 32, 32, 3)),), (Port("a", "tensor(float)", ("batch", 7)),)
    certificate = Certificate(1e-4, "cpu", "fp32", "dynamo", ("x: y",), {"onnx": "1"}, *ports, deviations, 1e-8)
    assert Certificate.from_json(json.loads(json.dumps(certificate.to_json()))) == certificate
    assert certificate.worst.output == "b"
