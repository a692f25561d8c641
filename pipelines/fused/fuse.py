"""Backbone and head as one ONNX file: decoded images in, labels and probabilities (or values) out."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...atomic import write_file
from ...errors import ExportError, InputError, ParityError, reason
from ...extract.graphs.editing import select_columns
from ...extract.graphs.exported_graph import ExportedGraph
from ...extract.preprocess.decode import MAX_PIXELS
from ...extract.runtime.session import Session, open_session
from ...heads.auto_head import find_chosen
from ...heads.familiarity import Familiarity
from ...heads.registry import HEADS
from ...models.image_spec import ImageSpec
from ...models.input_spec import InputSpec
from .any_size import make_resizing_model, prepend_resizing
from .familiarity_graph import add_familiarity
from .graph_builder import GraphBuilder, Prediction
from .head_converters import find_converter, find_regressor_converter
from .item_parity import draw_images, require_item_parity, require_pixel_parity, require_resized_parity
from .labels import to_onnx_labels, with_positions
from .multilabel import add_label_matrix
from .parity import FittedPipeline, require_familiarity_parity, require_head_parity, require_parity
from .preparation import add_step, can_prepare
from .temperature import apply_temperature, split_calibrated

FUSIBLE = tuple(HEADS)
"""Names of heads that can be written as ONNX."""
CLASSIFIER_OUTPUTS = ("label", "probabilities")
MULTILABEL_OUTPUTS = ("labels", "probabilities")
REGRESSOR_OUTPUTS = ("value",)
FAMILIAR = "familiar"
"""Output of all files that know which items are like those of the training."""
ANY_SIZE = "any-size"
INPUT_FORMS = {
    "image": ("model-size", ANY_SIZE),
    "text": ("tokens",),
    "audio": ("samples",),
    "tensor": ("tensor",),
}
"""Forms of the input of a file by the kind of input, the default first."""
ABSTAIN_KEY = "topwork.abstain_below"
"""Metadata of a classifier that abstains; the graph outputs the most probable label all the same."""
CLASSES_KEY = "topwork.classes"
"""Metadata of a classifier: its classes in the order of the probabilities, as JSON."""
PREPROCESSING_KEY = "topwork.preprocessing"
"""Metadata of any file: what has to be done to an item, as JSON; ``input`` is the form of the input."""
IN_SERVING_FILES = ("files", "prompt")
"""Fields of an input specification that the files for other programs contain."""
LABELS_KEY = "topwork.labels"
"""Metadata of a classifier of several labels: their names in the order of the columns, as JSON."""
HEAD_PREFIX = "head/"
FIRST_STEPS_PREFIX = "first_steps/"
LAST_STEP_PREFIX = "last_step/"
OUTPUT_PREFIX = "output/"
FAMILIARITY_PREFIX = "familiarity/"
FEATURES = "features"
"""Name of the input of a head's graph."""
ML_OPSET = 3
"""Version of the operators of ONNX's domain ``ai.onnx.ml``."""


@dataclass(frozen=True)
class FusedFile:
    """An ONNX file that was written: its path, what its input is, its outputs, and how many given items agree."""

    path: Path
    input: str
    outputs: tuple[str, ...]
    n_items: int


def export_fused(
    pipeline: FittedPipeline,
    path: Path,
    input_form: str | None = None,
    *,
    items: Any = None,
    max_pixels: int = MAX_PIXELS,
) -> FusedFile:
    """Write a fitted pipeline as one ONNX file, and compare it with backbone and head run separately.

    The graph has the inputs of the extractor's: uint8 images ``(batch, height, width, 3)``, resized and cropped as the
    input specification in its metadata says; token ids and attention mask, for which the tokenizer is written beside
    the file, as in ``model.tokenizer.json``, and into its metadata; the samples of a window of sound; or tensors. With
    the form "any-size" the graph itself resizes images. It outputs ``label`` and, if the head has them,
    ``probabilities`` in the order of the classes; or ``labels``, zeros and ones for each of several labels, and their
    ``probabilities``; or ``value``; and ``familiar`` if that is known. Boolean labels become int64, the nearest type
    that ONNX has. Raise an ExportError if there is no ONNX converter for the head, or features are the mean over
    windows of sound, a ParityError if the graphs differ, and an InputError for a form that the backbone does not have.
    """
    spec = pipeline.graph.input_spec
    form = choose_input_form(spec, input_form)
    if spec.averages_windows:
        raise ExportError(
            "the features of a sound are the mean over its windows, and one graph takes one window: fit with "
            "long='windows' (--long windows), or save a bundle (`topwork fit --out`)"
        )
    # Convert the backbone and the head.
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [column.name for column in pipeline.columns]
    body, body_session = load_body(pipeline.graph, names)
    opset = find_opset(body)
    head = convert_and_compare_head(pipeline, body_session, opset)

    # Merge them.
    merged = merge_models(body, head, names=names, outputs=name_outputs(pipeline))
    if pipeline.familiarity is not None:
        require_familiarity_parity(pipeline.familiarity, open_familiarity(pipeline.familiarity, opset))
        append_familiarity(merged, HEAD_PREFIX + FEATURES, pipeline.familiarity)
    merged.metadata_props.extend(describe_pipeline(pipeline, form))
    fused = open_session(merged.SerializeToString(), "cpu")
    require_parity(pipeline, body_session, fused)

    # Compare real items.
    n_items = 0
    if form == ANY_SIZE:
        assert isinstance(spec, ImageSpec)
        images = draw_images(items, spec, max_pixels)
        n_items = len(images)
        prepend_and_compare_resizing(pipeline, merged, body_session, images=images)
    elif items is not None:
        n_items = require_item_parity(pipeline, body_session, fused, items, max_pixels)

    # Write the file, after the files that it needs.
    for name, text in spec.serving_files().items():
        write_file(path.with_name(f"{path.stem}.{name}"), text)
    write_file(path, merged.SerializeToString())
    outputs = tuple(output.name for output in merged.graph.output)
    return FusedFile(path, form, outputs=outputs, n_items=n_items)


def prepend_and_compare_resizing(
    pipeline: FittedPipeline, model: Any, body: Session, *, images: Sequence[NDArray[np.uint8]]
) -> None:
    """Let a fused model resize images, in place, and compare it on some; raise a ParityError if it differs."""
    spec = pipeline.graph.input_spec
    assert isinstance(spec, ImageSpec)
    resizing = make_resizing_model(spec, model)
    require_pixel_parity(open_session(resizing.SerializeToString(), "cpu"), spec, images)
    prepend_resizing(model, spec)
    require_resized_parity(pipeline, body, open_session(model.SerializeToString(), "cpu"), images)


def choose_input_form(spec: InputSpec, wanted: str | None) -> str:
    """Return the form of a graph's input, by default the first of its kind; an InputError if it has no such form."""
    forms = INPUT_FORMS[spec.kind]
    if wanted is None:
        return forms[0]
    if wanted not in forms:
        raise InputError(
            f"input={wanted!r}, but the backbone takes {spec.kind} input; expected {' or '.join(map(repr, forms))}"
        )
    return wanted


def describe_pipeline(pipeline: FittedPipeline, form: str) -> list[Any]:
    """Return entries of metadata: classes, preprocessing with the files that it needs, and when to abstain."""
    from onnx import StringStringEntryProto

    spec = pipeline.graph.input_spec
    preprocessing = {name: value for name, value in spec.to_json().items() if name not in IN_SERVING_FILES}
    entries = {PREPROCESSING_KEY: json.dumps({"input": form, **preprocessing})}
    for name, content in spec.serving_files().items():
        entries[f"topwork.{Path(name).stem}"] = content.decode()
    if pipeline.classes is not None:
        key = LABELS_KEY if pipeline.is_multilabel else CLASSES_KEY
        entries[key] = json.dumps(pipeline.classes.tolist())
    if pipeline.abstain_below is not None:
        entries[ABSTAIN_KEY] = str(pipeline.abstain_below)
    return [StringStringEntryProto(key=key, value=value) for key, value in entries.items()]


def append_familiarity(model: Any, features: str, known: Familiarity) -> None:
    """Give a model an output that tells whether the value `features` is familiar, in place."""
    graph = GraphBuilder(model.graph, FAMILIARITY_PREFIX)
    found = add_familiarity(graph, features, known)
    model.graph.node.append(make_identity(found, FAMILIAR))
    add_output(model, FAMILIAR, np.bool_, shape=[None])


def open_familiarity(known: Familiarity, opset: int) -> Session:
    """Return a graph that tells whether features are familiar."""
    model = make_unchanged(len(known.mean), opset)
    del model.graph.output[:]
    append_familiarity(model, FEATURES, known)
    return open_session(model.SerializeToString(), "cpu")


def make_identity(value: str, name: str) -> Any:
    """Return a node that gives a value another name."""
    from onnx import helper

    return helper.make_node("Identity", [value], [name])


def name_outputs(pipeline: FittedPipeline) -> tuple[str, ...]:
    """Return the names of the outputs of a fused graph."""
    if pipeline.classes is None:
        return REGRESSOR_OUTPUTS
    return MULTILABEL_OUTPUTS if pipeline.is_multilabel else CLASSIFIER_OUTPUTS


def load_body(graph: ExportedGraph, columns: Sequence[str]) -> tuple[Any, Session]:
    """Return the part of a graph that computes some columns, as an ONNX model and as a session.

    Raise an ExportError if it is too large for one file.
    """
    import onnx

    with tempfile.TemporaryDirectory(prefix="topwork-") as folder:
        part = select_columns(graph, columns, Path(folder) / "body.onnx")
        if part.weights_path is not None:
            raise ExportError(
                f"the backbone has weights of {part.weights_path.stat().st_size / 2**30:.1f} GiB, and one ONNX file "
                "holds at most 2 GiB with them; expected a smaller one. Save a bundle instead (`topwork fit --out`)."
            )
        return onnx.load(part.path), open_session(part.path, "cpu")


def find_opset(model: Any) -> int:
    """Return the version of the default operator set of a model."""
    versions = [int(opset.version) for opset in model.opset_import if opset.domain in ("", "ai.onnx")]
    return versions[0]


def convert_and_compare_head(pipeline: FittedPipeline, body: Session, opset: int) -> Any:
    """Convert the head of a pipeline, and compare it with scikit-learn's on features that `body` computes.

    Where rounding decides between classes, a matrix product of the same precision is the most likely to agree; if it
    does not, decisions are computed in float64. Raise an ExportError if the head cannot be written, and a ParityError
    if it differs.
    """
    try:
        return convert_head_in(pipeline, body, opset, in_double=False)
    except ParityError:
        return convert_head_in(pipeline, body, opset, in_double=True)


def convert_head_in(pipeline: FittedPipeline, body: Session, opset: int, *, in_double: bool) -> Any:
    """Convert the head of a pipeline in one precision of decisions, and compare it."""
    convert = convert_multilabel_head if pipeline.is_multilabel else convert_head
    model = convert(pipeline.head, pipeline.n_features, opset, in_double=in_double)
    base, _ = split_calibrated(pipeline.head)
    with naming_head(base):
        session = open_session(model.SerializeToString(), "cpu")
    require_head_parity(pipeline, session, body)
    return model


def convert_head(head: Any, n_features: int, opset: int, in_double: bool = False) -> Any:
    """Convert a fitted head to an ONNX model of a float32 matrix of features.

    Its outputs are labels and probabilities, labels only, or values. Raise an ExportError if the head or its labels
    cannot be written.
    """
    head = find_chosen(head)
    if not hasattr(head, "classes_"):
        return convert_regressor(head, n_features, opset)
    labels = to_onnx_labels(head.classes_)
    base, temperature = split_calibrated(head)
    with naming_head(base):
        model, prediction = convert_classifier(base, n_features, opset, in_double=in_double)
    del model.graph.output[:]
    graph = GraphBuilder(model.graph, OUTPUT_PREFIX)
    if temperature is not None:
        assert prediction.probabilities is not None
        prediction = apply_temperature(graph, prediction.probabilities, temperature)
    label = graph.add("Gather", graph.constant(labels), prediction.positions)
    add_output(model, label, labels.dtype, shape=[None])
    if prediction.probabilities is not None:
        probabilities = graph.cast(prediction.probabilities, np.float32)
        add_output(model, probabilities, np.float32, shape=[None, len(labels)])
    return model


def convert_multilabel_head(head: Any, n_features: int, opset: int, in_double: bool = False) -> Any:
    """Convert a fitted classifier of several labels; the outputs are zeros and ones, and probabilities if any."""
    head = find_chosen(head)
    with naming_head(head):
        model = convert_steps_before(head, n_features, opset)
        graph = GraphBuilder(model.graph, LAST_STEP_PREFIX, in_double=in_double)
        features = graph.widen(model.graph.output[0].name)
        prediction = add_label_matrix(graph, find_last_step(head), features, n_features)
    del model.graph.output[:]
    add_output(model, prediction.positions, np.int64, shape=[None, None])
    if prediction.probabilities is not None:
        add_output(model, graph.cast(prediction.probabilities, np.float32), np.float32, shape=[None, None])
    return model


def convert_classifier(head: Any, n_features: int, opset: int, *, in_double: bool) -> tuple[Any, Prediction]:
    """Convert a fitted classifier to an ONNX model, whose labels are positions of classes."""
    last = find_last_step(head)
    convert = find_converter(last)
    if convert is not None:
        model = convert_steps_before(head, n_features, opset)
        graph = GraphBuilder(model.graph, LAST_STEP_PREFIX, in_double=in_double)
        features = graph.widen(model.graph.output[0].name)
        return model, convert(graph, last, features)
    changed = with_positions(head)
    n_outputs = 1
    options = {}
    if hasattr(head, "predict_proba"):
        n_outputs = 2
        options = {id(find_last_step(changed)): {"zipmap": False}}
    model = run_skl2onnx(changed, n_features, opset=opset, options=options)
    names = [output.name for output in model.graph.output[:n_outputs]]
    graph = GraphBuilder(model.graph, LAST_STEP_PREFIX)
    names[0] = graph.add("Reshape", names[0], graph.constant(np.array([-1], np.int64)))  # some are (n_rows, 1)
    return model, Prediction(*names)


def convert_regressor(head: Any, n_features: int, opset: int) -> Any:
    """Convert a fitted regressor to an ONNX model, whose output are its values."""
    with naming_head(head):
        last = find_last_step(head)
        convert = find_regressor_converter(last)
        if convert is None:
            model = run_skl2onnx(head, n_features, opset=opset, options={})
            del model.graph.output[1:]
            return model
        model = convert_steps_before(head, n_features, opset)
        graph = GraphBuilder(model.graph, LAST_STEP_PREFIX)
        features = graph.widen(model.graph.output[0].name)
        values = graph.cast(convert(graph, last, features), np.float32)
        del model.graph.output[:]
        add_output(model, values, np.float32, shape=[None, None])
        return model


@contextmanager
def naming_head(head: Any) -> Iterator[None]:
    """Turn any error of a conversion into an ExportError that names the last step of the head."""
    try:
        yield
    except Exception as error:
        raise ExportError(
            f"the head {type(find_last_step(head)).__name__} cannot be written as ONNX: {reason(error)}. "
            f"Heads that can: {', '.join(FUSIBLE)}, and what skl2onnx supports."
        ) from error


def find_last_step(head: Any) -> Any:
    """Return the last step of a pipeline, or the head itself if it is none."""
    return head.steps[-1][1] if hasattr(head, "steps") else head


def convert_steps_before(head: Any, n_features: int, opset: int) -> Any:
    """Convert what a pipeline does before its last step; for any other head the features are unchanged."""
    steps = [step for _, step in getattr(head, "steps", [])[:-1]]
    if not all(map(can_prepare, steps)):
        return run_skl2onnx(head[:-1], n_features, opset=opset, options={})
    model = make_unchanged(n_features, opset)
    graph = GraphBuilder(model.graph, FIRST_STEPS_PREFIX)
    features = model.graph.output[0].name
    for step in steps:
        features = add_step(graph, step, features, n_features)
    del model.graph.output[:]
    add_output(model, features, np.float32, shape=[None, n_features])
    return model


def make_unchanged(n_features: int, opset: int) -> Any:
    """Return an ONNX model whose output are the features."""
    from onnx import TensorProto, helper

    features = helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, [None, n_features])
    unchanged = helper.make_tensor_value_info("unchanged", TensorProto.FLOAT, [None, n_features])
    node = helper.make_node("Identity", [FEATURES], ["unchanged"])
    graph = helper.make_graph([node], "head", [features], [unchanged])
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    return helper.make_model(graph, opset_imports=opsets)


def add_output(model: Any, name: str, dtype: Any, *, shape: list[int | None]) -> None:
    """Make a value of a model one of its outputs, in place."""
    from onnx import helper

    element_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    model.graph.output.append(helper.make_tensor_value_info(name, element_type, shape))


def run_skl2onnx(head: Any, n_features: int, *, opset: int, options: dict[int, Any]) -> Any:
    """Convert a head with skl2onnx, without its warnings; `options` are by the id of an estimator.

    Features are divided by a scale as scikit-learn divides them, not multiplied by its inverse.
    """
    import skl2onnx
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.preprocessing import StandardScaler

    for _, step in getattr(head, "steps", []):
        if type(step) is StandardScaler and step.scale_ is not None:
            options = {**options, id(step): {"div": "div"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return skl2onnx.to_onnx(
            head,
            initial_types=[(FEATURES, FloatTensorType([None, n_features]))],
            options=options,
            target_opset={"": opset, "ai.onnx.ml": ML_OPSET},
        )


def merge_models(body: Any, head: Any, names: Sequence[str], outputs: Sequence[str]) -> Any:
    """Join the graphs of a backbone and a head, whose input is the concatenation of the body's outputs `names`.

    The result has the metadata of `body`, whose IR version and operator sets are changed in place, and outputs called
    `outputs`.
    """
    import onnx
    from onnx import compose

    head = compose.add_prefix(head, HEAD_PREFIX)
    concatenate_inputs(head.graph, body.graph.output, names)
    align_versions(body, head)
    merged = compose.merge_models(body, head, io_map=[(name, name) for name in names])
    for output, name in zip(merged.graph.output, outputs, strict=False):
        merged.graph.node.append(make_identity(output.name, name))
        output.name = name
    del merged.metadata_props[:]
    merged.metadata_props.extend(body.metadata_props)
    onnx.checker.check_model(merged)
    return merged


def concatenate_inputs(graph: Any, inputs: Sequence[Any], names: Sequence[str]) -> None:
    """Replace the only input of a graph by the concatenation of several, in place."""
    from onnx import helper

    features = graph.input[0].name
    if len(names) > 1:
        join = helper.make_node("Concat", names, [features], axis=1)
    else:
        join = helper.make_node("Identity", names, [features])
    graph.node.insert(0, join)
    del graph.input[:]
    graph.input.extend(inputs)


def align_versions(body: Any, head: Any) -> None:
    """Give two models the same IR version and operator sets, in place; the body's versions win."""
    from onnx import helper

    ir_version = max(body.ir_version, head.ir_version)
    versions = {opset.domain: opset.version for opset in (*head.opset_import, *body.opset_import)}
    for model in (body, head):
        model.ir_version = ir_version
        del model.opset_import[:]
        model.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in versions.items())
