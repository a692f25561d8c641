"""Features that other tools computed: an array, or files as clip-retrieval and thingsvision leave them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ....errors import InputError, reason
from ...sources.table import TABLE_SUFFIXES, read_rows

if TYPE_CHECKING:
    import pyarrow
    from numpy.typing import NDArray

ID_COLUMNS = ("id", "path", "image_path", "key")
"""Of a table: the first of these that is there names the items."""
LAYOUTS = (
    "an array, a .npy, .txt or .mat, a folder of clip-retrieval (img_emb/img_emb_0.npy …, metadata/metadata_0.parquet "
    "…), or one of thingsvision (features.npy and file_names.txt)"
)
CONVERSIONS = {
    ".h5": "h5py: numpy.save('features.npy', h5py.File(FILE)['features'][:])",
    ".hdf5": "h5py: numpy.save('features.npy', h5py.File(FILE)['features'][:])",
    ".pt": "torch: numpy.save('features.npy', torch.load(FILE, weights_only=True).numpy())",
}
LONGEST_REASON = 200
"""Letters of an error that are repeated."""


@dataclass(frozen=True)
class ForeignFeatures:
    """Matrices as they were found.

    Parameters
    ----------
    layout : str
        Which tool, or "array".
    columns : dict
        For each column's name its matrices ``(n, n_features)``, one below the other; mapped where they are files.
    ids : sequence or None
        What the layout says the items are called.
    """

    layout: str
    columns: Mapping[str, Sequence[NDArray[Any]]]
    ids: Sequence[Any] | None = None


def read_foreign(source: NDArray[Any] | str | Path, name: str) -> ForeignFeatures:
    """Open foreign features; nothing is unpickled.

    Parameters
    ----------
    source : ndarray or path
        One of :data:`LAYOUTS`.
    name : str
        Of the column, where the layout has no names.

    Raises
    ------
    InputError
        If it is none of these, or cannot be read.
    """
    if isinstance(source, np.ndarray):
        return ForeignFeatures("array", {name: [_checked(source, "the array")]})
    if not isinstance(source, (str, Path)):
        raise InputError(f"source is a {type(source).__name__}; expected {LAYOUTS}")
    path = Path(source)
    if not path.exists():
        raise InputError(f"{path} does not exist; expected {LAYOUTS}")
    if not path.is_dir():
        return ForeignFeatures("array", {name: [_opened(path, None)]})
    embeddings = sorted(folder for folder in path.glob("*_emb") if folder.is_dir())
    return _clip_retrieval(path, embeddings) if embeddings else _thingsvision(path, name)


def _clip_retrieval(root: Path, embeddings: Sequence[Path]) -> ForeignFeatures:
    found = {folder.name: _numbered(folder, f"{folder.name}_*.npy") for folder in embeddings}
    columns = {name: {number: _opened(path, None) for number, path in files.items()} for name, files in found.items()}
    files = _numbered(root / "metadata", "metadata_*.parquet")
    metadata = {number: id_column(read_rows(path), path) for number, path in files.items()}
    lengths = {name: _lengths(pieces) for name, pieces in columns.items()}
    lengths |= {"metadata": _lengths(metadata)} if metadata else {}
    if any(counts != lengths[embeddings[0].name] for counts in lengths.values()):
        told = "; ".join(f"{name} has {counts}" for name, counts in lengths.items())
        raise InputError(f"files of the same number in {root} are not of the same items. Rows by number: {told}")
    ids = [item_id for piece in metadata.values() for item_id in piece] if metadata else None
    return ForeignFeatures("clip-retrieval", {name: list(pieces.values()) for name, pieces in columns.items()}, ids)


def _lengths(pieces: Mapping[int, Any]) -> dict[int, int]:
    return {number: len(piece) for number, piece in pieces.items()}


def _numbered(folder: Path, pattern: str) -> dict[int, Path]:
    """Return files by the number at the end of their names, in its order."""
    numbers = {path.stem.rpartition("_")[2]: path for path in folder.glob(pattern)}
    return dict(sorted((int(number), path) for number, path in numbers.items() if number.isdecimal()))


def _thingsvision(root: Path, name: str) -> ForeignFeatures:
    """Open ``features.*``, or several ``features_01.*``, which thingsvision writes when memory is short."""
    files = [*root.glob("features.*"), *_numbered(root, "features_*").values()]
    if not files:
        raise InputError(f"{root} has no features; expected {LAYOUTS}")
    if len({path.suffix for path in files}) > 1:
        raise InputError(f"{root} has {', '.join(path.name for path in files)}; expected one kind: remove the others")
    ids = read_ids(root / "file_names.txt") if (root / "file_names.txt").is_file() else None
    return ForeignFeatures("thingsvision", {name: [_opened(path, ids) for path in files]}, ids)


def _opened(path: Path, ids: Sequence[str] | None) -> NDArray[Any]:
    """Return the matrix of a file; a ``.npy`` is mapped into memory."""
    if path.suffix in CONVERSIONS:
        raise InputError(f"{path} is not read here; expected a .npy. Convert it with {CONVERSIONS[path.suffix]}")
    if path.suffix not in READERS:
        raise InputError(f"{path} is no file of features; expected {LAYOUTS}")
    try:
        matrix = READERS[path.suffix](path, ids)
    except Exception as error:  # a damaged header ends in errors of many kinds
        raise InputError(f"{path} cannot be read: {reason(error)[:LONGEST_REASON]}. Expected a matrix.") from error
    return _checked(matrix, str(path))


def _read_npy(path: Path, ids: Sequence[str] | None) -> NDArray[Any]:
    found: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return found


def _read_txt(path: Path, ids: Sequence[str] | None) -> NDArray[Any]:
    with open(path, encoding="utf-8") as stream, warnings.catch_warnings():
        warnings.simplefilter("error")  # of an empty file
        return np.loadtxt(stream, ndmin=2)


def _read_mat(path: Path, ids: Sequence[str] | None) -> NDArray[Any]:
    """Read ``features``, or a variable for each item, which thingsvision calls by the file's name without its end."""
    from scipy.io import loadmat  # type: ignore[import-untyped]

    content = {name: value for name, value in loadmat(path).items() if not name.startswith("__")}
    if "features" in content or ids is None:
        return np.asarray(content["features"])
    names = [item_id if item_id in content else str(Path(item_id).with_suffix("")) for item_id in ids]
    if len(content) != len(names):
        raise ValueError(f"it has {len(content)} variables for {len(names)} items")
    return np.concatenate([content[name] for name in names])


READERS = {".npy": _read_npy, ".txt": _read_txt, ".mat": _read_mat}


def _checked(matrix: NDArray[Any], what: str) -> NDArray[Any]:
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiu":
        raise InputError(
            f"{what} holds {matrix.dtype} of shape {matrix.shape}; expected numbers (n_items, n_features): a row each"
        )
    if not matrix.size:
        raise InputError(f"{what} has shape {matrix.shape}; expected at least one item and one feature")
    return matrix


def read_ids(ids: Sequence[Any] | str | Path) -> list[str]:
    """Return what items are called.

    Parameters
    ----------
    ids : sequence or path
        The ids; or a ``.txt`` with one in each line, a ``.npy``, or a table with a column of :data:`ID_COLUMNS`.

    Raises
    ------
    InputError
        If they cannot be read, one is missing, or comes twice.
    """
    values = _ids_of_file(Path(ids)) if isinstance(ids, (str, Path)) else ids
    texts = [_text(value) for value in values]
    missing = texts.index("") if "" in texts else None
    if missing is not None:
        raise InputError(f"id {missing} of {len(texts)} is empty; expected a name for each item")
    if len(set(texts)) < len(texts):
        seen: set[str] = set()
        twice = next(text for text in texts if text in seen or seen.add(text))  # type: ignore[func-returns-value]
        raise InputError(f"the id {twice!r} comes twice; expected another for each item")
    return texts


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return "" if value is None or value != value else str(value)


def _ids_of_file(path: Path) -> Sequence[Any]:
    if path.suffix in TABLE_SUFFIXES:
        return id_column(read_rows(path), path)
    try:
        if path.suffix == ".txt":
            return path.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")
        found = np.load(path, allow_pickle=False)
        if found.ndim != 1:
            raise ValueError(f"it holds an array of shape {found.shape}")
        ids: list[Any] = found.tolist()
        return ids
    except Exception as error:
        raise InputError(
            f"ids {path} cannot be read: {reason(error)[:LONGEST_REASON]}. Expected a .txt with one in each line, a "
            f".npy, or a table ({', '.join(TABLE_SUFFIXES)})."
        ) from error


def id_column(table: pyarrow.Table, path: Path) -> list[Any]:
    """Return the column of a table that names the items."""
    for name in ID_COLUMNS:
        if name in table.column_names:
            values: list[Any] = table[name].to_pylist()
            return values
    raise InputError(
        f"{path} has the columns {', '.join(table.column_names)}; expected one of {', '.join(ID_COLUMNS)}, or ids"
    )
