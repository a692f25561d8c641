"""``topwork explain``: what each place of an image contributes to its prediction."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...atomic import new_file
from ...errors import InputError
from .arguments import load_bundle
from .options import BundleArgument, JsonOption, TrustOption
from .output import echo, print_json

if TYPE_CHECKING:
    from ..estimators.explanation import Explanation

MAX_COLUMNS = 36
"""Wider maps would not fit into 80 columns."""
PICTURE_SUFFIXES = (".png", ".svg", ".pdf", ".jpg")
SIGNS = ((0.5, "#"), (0.25, "+"), (-0.25, "."), (-0.5, "-"))
"""Signs of contributions, by the share of the largest one that they are at least."""
LOWEST_SIGN = "="


def explain(
    bundle: BundleArgument,
    photo: Annotated[str, typer.Argument(help="One image.")],
    label: Annotated[str | None, typer.Option(help="Explain this label; by default the one that is predicted.")] = None,
    out: Annotated[Path | None, typer.Option(help="Draw it over the image: a .png, .svg, .pdf or .jpg file.")] = None,
    trust: TrustOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what each place of an image contributes to the score of a label; for a linear head on a mean of a map."""
    from ..estimators.result_files import check_suffix, require_file_place

    if out is not None:
        check_suffix(out, PICTURE_SUFFIXES)
        require_file_place(out)
    if not Path(photo).is_file():
        raise InputError(f"{photo} does not exist, or is no file; expected one image")
    estimator = load_bundle(bundle, trust)
    explanation = estimator.explain(photo, find_label(estimator, label))
    if out is not None:
        save_picture(explanation, out)
    if as_json:
        print_json({"id": photo, **explanation.to_dict()})
    else:
        print_explanation(explanation, out)


def find_label(estimator: object, label: str | None) -> object:
    """Return the class that is written like a label; the label itself if there is none."""
    if label is None or not hasattr(estimator, "classes_"):
        return label
    return next((name for name in estimator.classes_.tolist() if str(name) == label), label)


def save_picture(explanation: Explanation, out: Path) -> None:
    """Draw an explanation into a file, atomically."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with new_file(out, replace=True) as temporary:
        explanation.plot().figure.savefig(temporary, format=out.suffix[1:])


def print_explanation(explanation: Explanation, out: Path | None) -> None:
    """Print the score, where it comes from, and the map in signs."""
    name = "value" if explanation.label is None else str(explanation.label)
    from_places = explanation.map.mean()
    echo(f"{name}: score {explanation.score:.3f} = {from_places:.3f} from its places + {explanation.intercept:.3f}")
    height, width = explanation.map.shape
    if width <= MAX_COLUMNS:
        largest = float(abs(explanation.map).max()) or 1.0
        for line in explanation.map.tolist():
            echo("  " + " ".join(choose_sign(value / largest) for value in line))
        echo(f"{height} x {width} places; # + for, - = against, by their share of the largest contribution")
    if out is not None:
        echo(f"wrote {out}")


def choose_sign(share: float) -> str:
    """Return the sign of a contribution, given as share of the largest one."""
    return next((sign for lowest, sign in SIGNS if share >= lowest), LOWEST_SIGN)
