"""Types that a saved head may contain: topwork's own by stable ids, scikit-learn's by their own names.

A file names topwork's types by their ids alone, so that a module can be moved without breaking saved heads.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class SavedType:
    """A type of head that is defined in topwork.

    `id` is its name in files, and never changes; `former_modules` are those by which format 1 named it. The attributes
    of a plain type are numbers, names and arrays, and nothing else.
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
    SavedType("auto_head", "topwork.heads.auto_head", "AutoHead", (), is_plain=False),
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
"""Types of scikit-learn that named heads contain, and that skops neither trusts nor refuses."""


def get_saved_type(head: Any) -> SavedType | None:
    """Return the saved type of a head, None if it is not defined in topwork."""
    head_type = type(head)
    path = f"{head_type.__module__}.{head_type.__qualname__}"
    for saved_type in SAVED_TYPES:
        if saved_type.path == path:
            return saved_type
    return None


def find_saved_type(name: str) -> SavedType | None:
    """Return the type that a file names by its id or, in format 1, by a module's path; None if it is not topwork's."""
    for saved_type in SAVED_TYPES:
        former_paths = [f"{module}.{saved_type.name}" for module in saved_type.former_modules]
        if name in (saved_type.id, *former_paths):
            return saved_type
    return None
