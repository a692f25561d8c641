"""Read features that other tools computed: an array, or the files of clip-retrieval and thingsvision."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ....errors import InputError, reason
from ...sources.table_file import TABLE_SUFFIXES, is_datasets_folder, read_rows
from ..labels import find_duplicate

if TYPE_CHECKING:
    import pyarrow
    from numpy.typing import NDArray

FOREIGN_ID_COLUMNS = ("id", "path", "image_path", "key")
"""Columns of a table that can name the items; the first one that the table has is used."""
SUPPORTED_LAYOUTS = (
    "an array, a .npy, .txt or .mat, a .parquet, .arrow or folder of `topwork store export`, "
    "a folder of clip-retrieval (img_emb/img_emb_0.npy …, metadata/metadata_0.parquet "
    "…), or one of thingsvision (features.npy and file_names.txt)"
)
TABULAR_SUFFIXES = (".parquet", ".arrow")
EXPORTED_FIELDS = ("digest", "group", "status", "duplicate_of")
"""Columns of ``topwork store export`` that are neither labels nor features."""
MATRIX_SUFFIXES = (".npy", ".txt", ".mat")
CONVERSION_HINTS = {
    ".h5": "h5py: numpy.save('features.npy', h5py.File(FILE)['features'][:])",
    ".hdf5": "h5py: numpy.save('features.npy', h5py.File(FILE)['features'][:])",
    ".pt": "torch: numpy.save('features.npy', torch.load(FILE, weights_only=True).numpy())",
}
MAX_REASON_LENGTH = 200
"""Characters of another library's error that are quoted."""


@dataclass(frozen=True)
class ForeignFeatures:
    """Matrices of another tool.

    `layout` is the tool, or "array". Each column has matrices ``(n, n_features)``, one below the other; files are
    mapped into memory. `ids` are those of the items, and `labels` a table of ids and labels, if the layout has some.
    """

    layout: str
    columns: Mapping[str, Sequence[NDArray[Any]]]
    ids: Sequence[Any] | None = None
    labels: pyarrow.Table | None = None


def read_foreign(source: NDArray[Any] | str | Path, name: str) -> ForeignFeatures:
    """Open foreign features in one of :data:`SUPPORTED_LAYOUTS`; nothing is unpickled.

    A layout without names of columns has one column, `name`.
    """
    if isinstance(source, np.ndarray):
        check_matrix(source, "the array")
        return ForeignFeatures("array", {name: [source]})
    if not isinstance(source, (str, Path)):
        raise InputError(f"source is a {type(source).__name__}; expected {SUPPORTED_LAYOUTS}")
    path = Path(source)
    if not path.exists():
        raise InputError(f"{path} does not exist; expected {SUPPORTED_LAYOUTS}")
    if is_datasets_folder(path) or path.suffix in TABULAR_SUFFIXES:
        return read_exported(path)
    if not path.is_dir():
        return ForeignFeatures("array", {name: [open_foreign_matrix(path)]})
    embedding_folders = sorted(folder for folder in path.glob("*_emb") if folder.is_dir())
    if embedding_folders:
        return read_clip_retrieval(path, embedding_folders)
    return read_thingsvision(path, name)


def read_exported(path: Path) -> ForeignFeatures:
    """Read rows with a list of numbers for each column of features, as ``topwork store export`` writes them."""
    try:
        table = read_rows(path)
    except Exception as error:
        cause = reason(error)[:MAX_REASON_LENGTH]
        raise InputError(f"{path} cannot be read: {cause}. Expected rows with lists of numbers.") from error
    names = [field.name for field in table.schema if holds_vectors(field.type)]
    if not names or not len(table):
        raise InputError(f"{path} has the columns {', '.join(table.column_names)}; expected one of lists of numbers")
    columns = {name: [lists_to_matrix(table[name], f"{path}, column {name!r}")] for name in names}
    ids = read_id_column(table, path)
    not_labels = {*names, *FOREIGN_ID_COLUMNS, *EXPORTED_FIELDS}
    label_names = [
        name for name in table.column_names if name not in not_labels and table[name].null_count < len(table)
    ]
    labels = None
    if label_names:
        labels = table.select(label_names).add_column(0, "id", [[format_id(value) for value in ids]])
    return ForeignFeatures("exported", columns, ids=ids, labels=labels)


def holds_vectors(kind: pyarrow.DataType) -> bool:
    """Return whether a column of a type holds lists of numbers."""
    from pyarrow import types

    is_list = types.is_fixed_size_list(kind) or types.is_list(kind) or types.is_large_list(kind)
    return bool(is_list and (types.is_floating(kind.value_type) or types.is_integer(kind.value_type)))


def lists_to_matrix(column: pyarrow.ChunkedArray, name: str) -> NDArray[Any]:
    """Return lists of equally many numbers as a matrix."""
    from pyarrow import compute

    lengths = compute.unique(compute.list_value_length(column)).to_pylist()
    if len(lengths) != 1 or not lengths[0]:
        raise InputError(f"{name} has lists of {', '.join(map(str, lengths))} numbers; expected equally many")
    values = compute.list_flatten(column).to_numpy()
    matrix: NDArray[Any] = values.reshape(len(column), lengths[0])
    check_matrix(matrix, name)
    return matrix


def read_clip_retrieval(root: Path, embedding_folders: Sequence[Path]) -> ForeignFeatures:
    """Open the folder of clip-retrieval: embeddings in numbered files, with metadata in files of the same numbers.

    Each folder of embeddings is a column.
    """
    columns = {folder.name: open_embeddings(folder) for folder in embedding_folders}
    ids_by_number = read_metadata_ids(root / "metadata")
    row_counts = {name: count_rows(matrices) for name, matrices in columns.items()}
    if ids_by_number:
        row_counts["metadata"] = count_rows(ids_by_number)
    check_row_counts(root, row_counts)
    return ForeignFeatures(
        "clip-retrieval",
        columns={name: list(matrices.values()) for name, matrices in columns.items()},
        ids=list(chain.from_iterable(ids_by_number.values())) or None,
    )


def open_embeddings(folder: Path) -> dict[int, NDArray[Any]]:
    """Open the matrices of a column of clip-retrieval, by the numbers of their files."""
    files = find_numbered_files(folder, f"{folder.name}_*.npy")
    return {number: open_foreign_matrix(path) for number, path in files.items()}


def read_metadata_ids(folder: Path) -> dict[int, list[Any]]:
    """Read the ids in the metadata of clip-retrieval, by the numbers of their files; empty if there are none."""
    files = find_numbered_files(folder, "metadata_*.parquet")
    return {number: read_id_column(read_rows(path), path) for number, path in files.items()}


def count_rows(pieces: Mapping[int, Sized]) -> dict[int, int]:
    """Return the number of rows in each numbered file."""
    return {number: len(piece) for number, piece in pieces.items()}


def check_row_counts(root: Path, row_counts: Mapping[str, Mapping[int, int]]) -> None:
    """Raise an error unless files of the same number have the same number of rows under each name."""
    expected = next(iter(row_counts.values()))
    if any(counts != expected for counts in row_counts.values()):
        found = "; ".join(f"{name} has {counts}" for name, counts in row_counts.items())
        raise InputError(f"files of the same number in {root} are not of the same items. Rows by number: {found}")


def find_numbered_files(folder: Path, pattern: str) -> dict[int, Path]:
    """Return files by the number at the end of their names, in its order."""
    found = {}
    for path in folder.glob(pattern):
        number = path.stem.rpartition("_")[2]
        if number.isdecimal():
            found[int(number)] = path
    return dict(sorted(found.items()))


def read_thingsvision(root: Path, name: str) -> ForeignFeatures:
    """Open the folder of thingsvision: ``features.*``, or ``features_01.*`` and so on, written when memory is short."""
    files = [*root.glob("features.*"), *find_numbered_files(root, "features_*").values()]
    if not files:
        raise InputError(f"{root} has no features; expected {SUPPORTED_LAYOUTS}")
    if len({path.suffix for path in files}) > 1:
        names = ", ".join(path.name for path in files)
        raise InputError(f"{root} has {names}; expected files of one kind: remove the others")
    ids_file = root / "file_names.txt"
    ids = read_ids(ids_file) if ids_file.is_file() else None
    return ForeignFeatures("thingsvision", {name: [open_foreign_matrix(path, ids) for path in files]}, ids)


def open_foreign_matrix(path: Path, ids: Sequence[str] | None = None) -> NDArray[Any]:
    """Return the matrix in a file; a ``.npy`` is mapped into memory.

    `ids` are the items, for a ``.mat`` with a variable for each of them.
    """
    if path.suffix in CONVERSION_HINTS:
        hint = CONVERSION_HINTS[path.suffix]
        raise InputError(f"{path} cannot be imported directly; expected a .npy. Convert it with {hint}")
    if path.suffix not in MATRIX_SUFFIXES:
        raise InputError(f"{path} is not a file of features; expected {SUPPORTED_LAYOUTS}")
    try:
        if path.suffix == ".npy":
            matrix: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        elif path.suffix == ".txt":
            matrix = read_txt(path)
        else:
            matrix = read_mat(path, ids)
    except Exception as error:  # damaged headers raise errors of many kinds
        cause = reason(error)[:MAX_REASON_LENGTH]
        raise InputError(f"{path} cannot be read: {cause}. Expected a matrix.") from error
    check_matrix(matrix, str(path))
    return matrix


def read_txt(path: Path) -> NDArray[Any]:
    """Read a matrix from a text file."""
    with open(path, encoding="utf-8") as stream, warnings.catch_warnings():
        warnings.simplefilter("error")  # numpy only warns of an empty file
        return np.loadtxt(stream, ndmin=2)


def read_mat(path: Path, ids: Sequence[str] | None) -> NDArray[Any]:
    """Read ``features``, or a variable for each item, which thingsvision names by the file without its suffix."""
    from scipy.io import loadmat  # type: ignore[import-untyped]

    variables = {name: value for name, value in loadmat(path).items() if not name.startswith("__")}
    if "features" in variables or ids is None:
        return np.asarray(variables["features"])
    if len(variables) != len(ids):
        raise ValueError(f"it has {len(variables)} variables for {len(ids)} items")
    matrices = []
    for item_id in ids:
        name = item_id if item_id in variables else str(Path(item_id).with_suffix(""))
        matrices.append(variables[name])
    return np.concatenate(matrices)


def check_matrix(matrix: NDArray[Any], name: str) -> None:
    """Raise an error unless an array is a matrix of numbers with at least one row and column."""
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiu":
        raise InputError(
            f"{name} holds {matrix.dtype} of shape {matrix.shape}; expected numbers (n_items, n_features): a row each"
        )
    if not matrix.size:
        raise InputError(f"{name} has shape {matrix.shape}; expected at least one item and one feature")


def read_ids(ids: Sequence[Any] | str | Path) -> list[str]:
    """Return the ids of items as text, after checking that each is named, and once.

    They are a sequence; or a ``.txt`` with one in each line, a ``.npy``, or a table with a column of
    :data:`FOREIGN_ID_COLUMNS`.
    """
    values = read_id_file(Path(ids)) if isinstance(ids, (str, Path)) else ids
    texts = [format_id(value) for value in values]
    if "" in texts:
        raise InputError(f"id {texts.index('')} of {len(texts)} is empty; expected an id for each item")
    duplicate = find_duplicate(texts)
    if duplicate is not None:
        raise InputError(f"the id {duplicate!r} occurs twice; expected a different one for each item")
    return texts


def format_id(value: Any) -> str:
    """Return an id as text; "" if it is None or NaN."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    is_nan = value != value
    if value is None or is_nan:
        return ""
    return str(value)


def read_id_file(path: Path) -> Sequence[Any]:
    """Read ids from a table, a text file or a vector in an .npy file."""
    if path.suffix in TABLE_SUFFIXES:
        return read_id_column(read_rows(path), path)
    try:
        if path.suffix == ".txt":
            return path.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")
        array = np.load(path, allow_pickle=False)
        if array.ndim != 1:
            raise ValueError(f"it holds an array of shape {array.shape}")
        ids: list[Any] = array.tolist()
        return ids
    except Exception as error:
        cause = reason(error)[:MAX_REASON_LENGTH]
        raise InputError(
            f"ids {path} cannot be read: {cause}. Expected a .txt with one in each line, a .npy, or a table "
            f"({', '.join(TABLE_SUFFIXES)})."
        ) from error


def read_id_column(table: pyarrow.Table, path: Path) -> list[Any]:
    """Return the column of a table that names the items."""
    for name in FOREIGN_ID_COLUMNS:
        if name in table.column_names:
            values: list[Any] = table[name].to_pylist()
            return values
    raise InputError(
        f"{path} has the columns {', '.join(table.column_names)}; expected one of {', '.join(FOREIGN_ID_COLUMNS)}, or "
        "pass ids"
    )
