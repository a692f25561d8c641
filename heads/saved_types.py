"""Which types a saved head may hold: ours under ids that stay, scikit-learn's under their own names.

A file names a type of ours by its id alone, so that a module can be moved without breaking what is on disk.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class SavedType:
    """A head of ours, as files name it.

    Parameters
    ----------
    id : str
        Written to files; never changed.
    module : str
        Where the class is now.
    name : str
        Of the class.
    former_modules : tuple of str
        Where it was when files still named modules.
    is_plain : bool
        Whether its attributes are numbers, names and arrays, and nothing else.
    """

    id: str
    module: str
    name: str
    former_modules: tuple[str, ...]
    is_plain: bool = True

    @property
    def path(self) -> str:
        """Dotted path of the class."""
        return f"{self.module}.{self.name}"

    def load(self) -> Any:
        """Import the class."""
        return getattr(importlib.import_module(self.module), self.name)


SAVED_TYPES = (
    SavedType("linear_probe", "topwork.heads.linear.linear_probe", "LinearProbe", ("topwork.heads.linear_probe",)),
    SavedType("linear_probe_cv", "topwork.heads.linear.linear_probe", "LinearProbeCV", ("topwork.heads.linear_probe",)),
    SavedType("mlp_classifier", "topwork.heads.mlp.mlp_head", "MLPHead", ("topwork.heads.mlp",)),
    SavedType("mlp_regressor", "topwork.heads.mlp.mlp_regressor", "MLPHeadRegressor", ("topwork.heads.mlp_regressor",)),
    SavedType("centroid", "topwork.heads.centroid", "Centroid", ("topwork.heads.centroid",), is_plain=False),
    SavedType(
        "gp_classifier",
        "topwork.heads.gaussian_process",
        "SmallGaussianProcessClassifier",
        ("topwork.heads.gaussian_process",),
        is_plain=False,
    ),
    SavedType(
        "gp_regressor",
        "topwork.heads.gaussian_process",
        "SmallGaussianProcessRegressor",
        ("topwork.heads.gaussian_process",),
        is_plain=False,
    ),
)

SKLEARN_TYPES = (
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._TemperatureScaling",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
    "sklearn.gaussian_process.kernels.ConstantKernel",
    "sklearn.gaussian_process.kernels.Product",
    "sklearn.gaussian_process.kernels.RBF",
    "sklearn.gaussian_process.kernels.Sum",
    "sklearn.gaussian_process.kernels.WhiteKernel",
    "sklearn.multiclass._ConstantPredictor",
)
"""Types of scikit-learn's that skops has no opinion on, and heads with a name hold."""


def saved_type_of(head: Any) -> SavedType | None:
    """Return how files name the type of a head, None if it is not one of ours."""
    kind = type(head)
    path = f"{kind.__module__}.{kind.__qualname__}"
    return next((each for each in SAVED_TYPES if each.path == path), None)


def find_saved_type(name: str) -> SavedType | None:
    """Return the type that a file names by its id or, in format 1, by a module's path; None if it is not ours."""
    for each in SAVED_TYPES:
        former_paths = [f"{module}.{each.name}" for module in each.former_modules]
        if name in (each.id, *former_paths):
            return each
    return None
