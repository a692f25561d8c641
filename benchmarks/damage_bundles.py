"""Damaged or hostile bundles: any file of one, its digest made right again or not; reproducible by their seed."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import os
import random
import struct
import tempfile
import warnings
import zipfile
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
from damage import damaged
from damage_onnx import SIDE, damage_model, original_model

MANIFEST = "bundle.json"
HEADS = ("linear", "centroid", "logreg", "knn")
"""Two heads of topwork's own, and two of scikit-learn."""
ROWS = 24
VALUES = (None, True, 0, -1, 1, 2**31, 2**70, 1e308, float("nan"), float("inf"), "", "x", "../bait.png", "a\0b", [],
          {}, ["x"], {"x": 1}, {"tensor": "x"}, {"dict": [[[], 1]]}, {"tuple": 3}, {"list": 3}, {"array": [1],
          "dtype": "O"}, {"array": ["x"], "dtype": "<U9999999999"}, "os.system", "builtins",
          "eval", "float32")  # fmt: skip


def make_bundle(chance: random.Random) -> dict[str, bytes]:
    """Return the files of a bundle, one of which is damaged."""
    files = dict(original_bundle(chance.choice(HEADS)))
    name = chance.choice(list(files))
    files[name] = damage_file(chance, name, files[name])
    if name != MANIFEST and chance.random() < 0.9:
        manifest = json.loads(files[MANIFEST])
        manifest["files"][name] = hashlib.sha256(files[name]).hexdigest()
        files[MANIFEST] = json.dumps(manifest).encode()
    if chance.random() < 0.05:
        del files[chance.choice(list(files))]
    return files


@cache
def original_bundle(head: str) -> dict[str, bytes]:
    """Return the files of a bundle of the small model with a head, by their names below its folder."""
    import topwork

    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (ROWS, SIDE, SIDE, 3), dtype=np.uint8)
    pixels[::2] //= 3
    with tempfile.TemporaryDirectory() as name, patch.dict(os.environ, TOPWORK_CACHE=f"{name}/cache"):
        model = Path(name, "model.onnx")
        model.write_bytes(original_model())
        backbone = topwork.load_backbone(f"onnx:{model}", mean=(0, 0, 0), std=(1, 1, 1))
        options: dict[str, Any] = {"cv": 0, "provider": "cpu", "precision": "fp32"}
        classifier = topwork.TransferClassifier(backbone, layer="last", head=head, **options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            classifier.fit(list(pixels), ["dark", "light"] * (ROWS // 2)).save(f"{name}/bundle")
        folder = Path(name, "bundle")
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def damage_file(chance: random.Random, name: str, content: bytes) -> bytes:
    """Damage the content of a file in a way that its format allows, or its bytes."""
    if chance.random() < 0.25:
        return damaged(chance, content)
    if name.endswith(".json"):
        return edit_json(chance, content)
    if name.endswith(".onnx"):
        return damage_metadata(chance, content) if chance.random() < 0.4 else damage_model(chance, content)
    if name.endswith((".npz", ".skops")):
        return damage_zip(chance, content)
    if name.endswith(".safetensors"):
        return damage_tensors(chance, content)
    return damaged(chance, content)


def edit_json(chance: random.Random, content: bytes) -> bytes:
    """Replace, remove or repeat some values of a JSON document."""
    document = json.loads(content)
    if chance.random() < 0.03:
        return json.dumps(chance.choice(VALUES)).encode()
    if chance.random() < 0.03:
        return b"[" * 100_000
    for _ in range(chance.choice((1, 1, 2, 4))):
        edit_value(chance, document)
    return json.dumps(document).encode()


def edit_value(chance: random.Random, document: Any) -> None:
    """Change one value at any depth, in place."""
    node = document
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return
        key = chance.choice(keys)
        is_inner = isinstance(node[key], dict | list) and len(node[key]) > 0
        if not is_inner or chance.random() < 0.15:
            break
        node = node[key]
    change = chance.random()
    if change < 0.2:
        del node[key]
    elif change < 0.3 and isinstance(node, dict):
        node[chance.choice(("x", "../x", *keys))] = node[key]
    elif change < 0.4 and isinstance(node, list):
        node.append(copy.deepcopy(node[key]))
    else:
        node[key] = copy.deepcopy(chance.choice(VALUES))


def damage_metadata(chance: random.Random, content: bytes) -> bytes:
    """Change what topwork wrote into a graph about it."""
    model = onnx.ModelProto.FromString(content)
    entry = chance.choice(model.metadata_props)
    try:
        entry.value = edit_json(chance, entry.value.encode()).decode()
    except ValueError:
        entry.value = chance.choice(("", "x", "1", "[]"))
    result: bytes = model.SerializeToString()
    return result


def damage_zip(chance: random.Random, content: bytes) -> bytes:
    """Damage, leave out or add a member of a zip, whose checksum is right."""
    with zipfile.ZipFile(io.BytesIO(content)) as old:
        members = {name: old.read(name) for name in old.namelist()}
    name = chance.choice(list(members))
    if chance.random() < 0.2:
        members.pop(name)
    elif name.endswith(".json"):
        members[name] = edit_json(chance, members[name])
    else:
        members[name] = damage_array(chance, members[name])
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as new:
        for member, inner in members.items():
            new.writestr(member, inner)
    return stream.getvalue()


def damage_array(chance: random.Random, content: bytes) -> bytes:
    """Replace an array, or change its bytes or its header."""
    change = chance.random()
    if change < 0.4:
        return damaged(chance, content)
    stream = io.BytesIO()
    if change < 0.7:
        shape = [(), (0,), (1,), (3, 3), (10**5,), (2, 2, 2)]
        kind = chance.choice(("f4", "f8", "i8", "U3", "?", "c8", "M8[s]", "S2"))
        np.save(stream, np.zeros(chance.choice(shape), kind))
        return stream.getvalue()
    header = {"descr": chance.choice(("<f4", "|O", "<U999999999", "x")), "fortran_order": False}
    header["shape"] = chance.choice(((2**62,), (2**31, 4), (-1,), (2, 2**60), ("x",)))
    np.lib.format.write_array_header_1_0(stream, header)  # type: ignore[arg-type]
    return stream.getvalue() + bytes(64)


def damage_tensors(chance: random.Random, content: bytes) -> bytes:
    """Change the header of a file of safetensors: types, shapes and places of the tensors."""
    (length,) = struct.unpack("<Q", content[:8])
    header = edit_json(chance, content[8 : 8 + length])
    return struct.pack("<Q", len(header)) + header + content[8 + length :]
