"""Heads by name, each a scikit-learn estimator for cached features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import InputError, name_similar

CLASSIFICATION = "classification"
MULTILABEL = "multilabel"
REGRESSION = "regression"
TASKS = (CLASSIFICATION, MULTILABEL, REGRESSION)
"""One class for each row, several labels for each row, values."""

DEFAULT = "linear"


@dataclass(frozen=True)
class NamedHead:
    """A head that can be asked for by name; a few words say what it is good for.

    Without `make_regressor` it is for labels only. One that does not learn labels together is fitted to each label
    apart.
    """

    name: str
    good_for: str
    make_classifier: Callable[[], Any]
    make_regressor: Callable[[], Any] | None = None
    learns_labels_together: bool = False

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that the head can be made for, of :data:`TASKS`."""
        if self.make_regressor is None:
            return (CLASSIFICATION, MULTILABEL)
        return TASKS

    def make(self, task: str) -> Any:
        """Return a new, unfitted estimator for one of the head's tasks."""
        from sklearn.multiclass import OneVsRestClassifier

        if task == REGRESSION:
            assert self.make_regressor is not None
            return self.make_regressor()
        classifier = self.make_classifier()
        if task == MULTILABEL and not self.learns_labels_together:
            return OneVsRestClassifier(classifier)
        return classifier


def add_scaling(estimator: Any) -> Any:
    """Return a pipeline that standardises features."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), estimator)


def add_normalisation(estimator: Any) -> Any:
    """Return a pipeline that divides rows by their length, so that distances are those of directions."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer

    return make_pipeline(Normalizer(), estimator)


def make_linear_probe() -> Any:
    """Return a linear probe that chooses its penalty by cross-validation."""
    from .linear.linear_probe import LinearProbeCV

    return LinearProbeCV()


def make_logistic_regression() -> Any:
    """Return scikit-learn's logistic regression."""
    from sklearn.linear_model import LogisticRegression

    return add_scaling(LogisticRegression(C=0.1, max_iter=1000))


def make_ridge_classifier() -> Any:
    """Return a ridge classifier that chooses its penalty by leave-one-out."""
    from numpy import logspace
    from sklearn.linear_model import RidgeClassifierCV

    return add_scaling(RidgeClassifierCV(alphas=logspace(-1, 5, 13)))


def make_ridge_regressor() -> Any:
    """Return a ridge regression that chooses its penalty by leave-one-out."""
    from numpy import logspace
    from sklearn.linear_model import RidgeCV

    return add_scaling(RidgeCV(alphas=logspace(-1, 5, 13)))


def make_discriminant_analysis() -> Any:
    """Return a linear discriminant analysis with a Ledoit-Wolf covariance."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    return add_scaling(LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"))


def make_neighbors_classifier() -> Any:
    """Return a nearest neighbours classifier by cosine."""
    from sklearn.neighbors import KNeighborsClassifier

    return add_normalisation(KNeighborsClassifier(n_neighbors=5, algorithm="brute"))


def make_neighbors_regressor() -> Any:
    """Return a nearest neighbours regressor by cosine."""
    from sklearn.neighbors import KNeighborsRegressor

    return add_normalisation(KNeighborsRegressor(n_neighbors=5, algorithm="brute"))


def make_centroid_classifier() -> Any:
    """Return a nearest centroid classifier."""
    from .centroid import Centroid

    return add_scaling(Centroid())


def make_support_vector_classifier() -> Any:
    """Return a support vector classifier with a Gaussian kernel."""
    from sklearn.svm import SVC

    return add_scaling(SVC())


def make_support_vector_regressor() -> Any:
    """Return a support vector regressor, whose parameters suit standardised targets."""
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVR

    return add_scaling(TransformedTargetRegressor(SVR(), transformer=StandardScaler()))


def make_gaussian_process_classifier() -> Any:
    """Return a Gaussian process classifier for few rows."""
    from sklearn.gaussian_process.kernels import RBF

    from .gaussian_process import SmallGaussianProcessClassifier

    return add_normalisation(SmallGaussianProcessClassifier(1.0 * RBF(), random_state=0))


def make_gaussian_process_regressor() -> Any:
    """Return a Gaussian process regressor for few rows."""
    from sklearn.gaussian_process.kernels import RBF, WhiteKernel

    from .gaussian_process import SmallGaussianProcessRegressor

    kernel = 1.0 * RBF() + WhiteKernel()
    return add_normalisation(SmallGaussianProcessRegressor(kernel, normalize_y=True, random_state=0))


def make_boosting_classifier() -> Any:
    """Return a classifier of boosted trees."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(min_samples_leaf=5, random_state=0)


def make_boosting_regressor() -> Any:
    """Return a regressor of boosted trees."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(min_samples_leaf=5, random_state=0)


def make_mlp_classifier() -> Any:
    """Return a multilayer perceptron for labels."""
    from .mlp.mlp_head import MLPHead

    return MLPHead(random_state=0)


def make_mlp_regressor() -> Any:
    """Return a multilayer perceptron for values."""
    from .mlp.mlp_regressor import MLPHeadRegressor

    return MLPHeadRegressor(random_state=0)


def make_auto_classifier() -> Any:
    """Return a head that chooses itself."""
    from .auto_head import AutoHead

    return AutoHead()


NAMED_HEADS = (
    NamedHead(
        "linear",
        "the default: its penalty is cross-validated",
        make_linear_probe,
        make_regressor=make_ridge_regressor,
        learns_labels_together=True,
    ),
    NamedHead(
        "auto",
        "compares linear, lda, centroid, ridge and knn",
        make_auto_classifier,
        make_regressor=make_ridge_regressor,
        learns_labels_together=True,
    ),
    NamedHead("logreg", "a plain logistic regression, C=0.1", make_logistic_regression),
    NamedHead(
        "ridge",
        "very fast; leave-one-out; no probabilities",
        make_ridge_classifier,
        make_regressor=make_ridge_regressor,
        learns_labels_together=True,
    ),
    NamedHead("lda", "few labels a class; Ledoit-Wolf covariance", make_discriminant_analysis),
    NamedHead(
        "knn",
        "no training; the five nearest by cosine",
        make_neighbors_classifier,
        make_regressor=make_neighbors_regressor,
        learns_labels_together=True,
    ),
    NamedHead("centroid", "one or two labels for each class", make_centroid_classifier),
    NamedHead(
        "svm",
        "curved borders, some 10,000 rows at most",
        make_support_vector_classifier,
        make_regressor=make_support_vector_regressor,
    ),
    NamedHead(
        "gp",
        "up to 1,000 rows; knows what it cannot know",
        make_gaussian_process_classifier,
        make_regressor=make_gaussian_process_regressor,
    ),
    NamedHead(
        "hgb",
        "features of mixed kinds; boosted trees",
        make_boosting_classifier,
        make_regressor=make_boosting_regressor,
    ),
    NamedHead(
        "mlp",
        "tens of thousands of rows; a hidden layer",
        make_mlp_classifier,
        make_regressor=make_mlp_regressor,
        learns_labels_together=True,
    ),
)

HEADS = {head.name: head for head in NAMED_HEADS}


def within_rows(head: Any, n_rows: int) -> Any:
    """Return an unfitted head that asks for no more neighbours than there are rows."""
    changes = {}
    for name, value in head.get_params().items():
        is_count = name.rpartition("__")[2] == "n_neighbors" and isinstance(value, int)
        if is_count and value > n_rows > 0:
            changes[name] = n_rows
    return head.set_params(**changes)


def resolve_head(head: Any, task: str = CLASSIFICATION) -> Any:
    """Return an unfitted estimator for a head's name, or a clone of the caller's own estimator.

    Parameters
    ----------
    head : str or estimator
        A name from :data:`HEADS`, or any scikit-learn classifier or regressor.
    task : {"classification", "multilabel", "regression"}

    Raises
    ------
    InputError
        If the name is unknown or not made for the task, or the object is not an estimator.

    Examples
    --------
    >>> resolve_head("logreg").steps[-1]
    ('logisticregression', LogisticRegression(C=0.1, max_iter=1000))
    """
    from sklearn.base import clone

    if isinstance(head, str):
        return find_named_head(head, task).make(task)
    is_estimator = all(hasattr(head, method) for method in ("fit", "predict", "get_params"))
    if isinstance(head, type) or not is_estimator:
        names = list_names(task)
        raise InputError(f"head is a {type(head).__name__}; expected one of {names}, or a scikit-learn estimator")
    return clone(head)


def set_head_parameters(head: Any, parameters: Mapping[str, Any]) -> Any:
    """Set parameters of an unfitted head; in a pipeline those of its steps, by their own names (``C``).

    Raise an InputError if the head has no such parameter, or several, or a value is not allowed.
    """
    from sklearn.utils._param_validation import InvalidParameterError

    if not parameters:
        return head
    full_names = {name: find_parameter(head, name) for name in parameters}
    head.set_params(**{full_names[name]: value for name, value in parameters.items()})
    for estimator in list_estimators(head):
        try:
            estimator._validate_params()
        except InvalidParameterError as error:
            raise InputError(f"parameters of the head: {error}") from error
    return head


def find_parameter(head: Any, name: str) -> str:
    """Return the full name of a parameter of a head, or of the estimators in it, by its own or its full name."""
    known = head.get_params()
    if name in known:
        return name
    matches = [str(full) for full in known if full.rpartition("__")[2] == name]
    if not matches:
        own = sorted({full.rpartition("__")[2] for full, value in known.items() if not hasattr(value, "get_params")})
        raise InputError(f"the head has no parameter {name!r}; expected one of {', '.join(own)}")
    depths = [full.count("__") for full in matches]
    shallowest = [full for full, depth in zip(matches, depths, strict=True) if depth == min(depths)]
    if len(shallowest) > 1:
        raise InputError(f"the head has several parameters {name!r}; expected one of {', '.join(shallowest)}")
    return shallowest[0]


def list_estimators(head: Any) -> list[Any]:
    """Return an estimator and those in it that can check their parameters."""
    inner = [value for value in head.get_params().values() if hasattr(value, "_validate_params")]
    return [estimator for estimator in [head, *inner] if hasattr(estimator, "_validate_params")]


def set_class_weight(head: Any, class_weight: Any) -> Any:
    """Set the weights of classes of an unfitted head; raise an InputError if it has no such parameter."""
    if class_weight is None:
        return head
    names = [name for name in head.get_params() if name.rpartition("__")[2] == "class_weight"]
    if not names:
        able = [named.name for named in NAMED_HEADS if has_class_weight(named)]
        raise InputError(
            f"class_weight={class_weight!r} for a head that has no such parameter; expected one of {', '.join(able)}, "
            "or sample_weight"
        )
    return head.set_params(**dict.fromkeys(names, class_weight))


def has_class_weight(named: NamedHead) -> bool:
    """Return whether a named head weighs classes."""
    parameters = named.make(CLASSIFICATION).get_params()
    return any(name.rpartition("__")[2] == "class_weight" for name in parameters)


def learn_several_values(head: Any) -> Any:
    """Return an unfitted regressor that learns several values for each row, each apart if it does not learn them so."""
    from sklearn.multioutput import MultiOutputRegressor
    from sklearn.pipeline import Pipeline
    from sklearn.utils import get_tags

    if get_tags(head).target_tags.multi_output:
        return head
    if not isinstance(head, Pipeline):
        return MultiOutputRegressor(head)
    name, last = head.steps[-1]
    return head.set_params(**{name: MultiOutputRegressor(last)})


def find_named_head(name: str, task: str) -> NamedHead:
    """Return the head of a name, if it is made for a task."""
    if name not in HEADS:
        similar = name_similar(name, HEADS)
        raise InputError(
            f"head {name!r} does not exist; {similar}known: {list_names(task)}, or any scikit-learn estimator"
        )
    if task not in HEADS[name].tasks:
        raise InputError(
            f"head {name!r} is not made for {task}; known: {list_names(task)}, or any scikit-learn estimator"
        )
    return HEADS[name]


def list_names(task: str) -> str:
    """Return the names of the heads that are made for a task, as one text."""
    return ", ".join(head.name for head in NAMED_HEADS if task in head.tasks)
