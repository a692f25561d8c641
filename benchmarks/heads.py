"""Sweeps over penalties with cross-validation, compared with scikit-learn; training from a file larger than memory.

The peer is scikit-learn's LogisticRegressionCV on standardised features, with as many jobs as there are cores, the
same ten penalties, the same five folds and the same criterion (log loss); the second row has features of length one
as they are, and scikit-learn's own grid (1e-4 to 1e4): with the four weakest penalties scikit-learn stops where it
starts, at its default tolerance. Accuracy is that of the chosen penalty on test rows, and the loss that of held-out
rows for the best penalty, each at its own tolerance; single fits at a tight one are compared below.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from contest import arguments, contest, report_of, use_work_folder
from page import table, write_section

HERE = Path(__file__).resolve().parent
SETS = {
    "banking77": "Banking77, MiniLM: 10,003 x 384, 77 classes",
    "banking77-plain": "the same, not standardised",
    "cifar10": "CIFAR-10, ResNet-20: 50,000 x 64, 10 classes",
    "synthetic-50000x768x100": "synthetic: 50,000 x 768, 100 classes",
}
SIZES = {
    "digits-5": "digits, pixels",
    "digits-20": "digits, pixels",
    "hymenoptera": "ants and bees, MobileNetV2",
    "banking77-8": "Banking77, MiniLM",
    "digits": "digits, pixels",
    "cifar10-500": "CIFAR-10, ResNet-20",
    "banking77": "Banking77, MiniLM",
    "synthetic-20000x384x60": "synthetic",
    "cifar10": "CIFAR-10, ResNet-20",
    "synthetic-100000x64x10": "synthetic",
}
REFERENCES = {
    "banking77": ("Banking77, MiniLM", 0.925),
    "cifar10": ("CIFAR-10, ResNet-20", 0.835),
    "hymenoptera": ("hymenoptera, MobileNetV2 0.35", 0.90),
}
"""What the default head has to reach."""
EXACT = {"banking77": (1e-3, 0.2), "banking77-plain": (20, 1e4), "cifar10": (1e-3, 0.05)}
"""Penalties, the second near the chosen one, at which single fits are held against scikit-learn's exact ones."""
SCALES = ("synthetic-20000x768x250", "synthetic-40000x768x250", "synthetic-20000x768x500")
IMAGENET = (1_281_167, 768, 1000)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=8_000_000, help="rows of the file that is streamed")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what is measured anew")
    parser.add_argument("--anew", action="store_true", help="measure the rows of sizes that are kept, too")
    options = parser.parse_args()
    use_work_folder(options.work)
    kept = {name: options.work / f"heads-{name}.md" for name in PARTS}
    for name in options.parts:
        kept[name].write_text(PARTS[name](options), "utf-8")
    found = [path.read_text("utf-8") for path in kept.values() if path.is_file()]
    write_section("Heads", "\n\n".join(found), options.page, ("scikit-learn", "scipy"))


def sweeps(options) -> str:
    rows = []
    for name, title in SETS.items():
        commands = {
            who: [HERE / "contender_heads.py", who, name, options.data, options.work, "--scoring", "neg_log_loss"]
            for who in ("topwork", "sklearn")
        }
        outcomes = contest(commands, options.repeats)
        ours, peer = outcomes["topwork"], outcomes["sklearn"]
        rows.append(
            [
                title,
                f"{ours['seconds']:.1f} s",
                f"{peer['seconds']:.1f} s",
                f"{peer['seconds'] / ours['seconds']:.1f}",
                f"{ours['accuracy']:.4f} / {peer['accuracy']:.4f}",
                f"{ours['C']:.2g} / {peer['C']:.2g}",
                f"{abs(min(ours['losses']) - min(peer['losses'])):.1e}",
            ]
        )
    columns = ("features", "topwork", "scikit-learn", "times as fast", "accuracy", "C", "loss off by")
    return f"{__doc__.partition(chr(10) * 2)[2].strip()}\n\n{table(columns, rows)}"


def sizes(options) -> str:
    """Compare sweeps at ten sizes, chosen by accuracy; a row that was measured is kept in the work folder."""
    rows = []
    for name, title in SIZES.items():
        kept = options.work / f"heads-size-{name}.json"
        if options.anew or not kept.is_file():
            commands = {
                who: [HERE / "contender_heads.py", who, name, options.data, options.work]
                for who in ("topwork", "sklearn")
            }
            outcomes = contest(commands, options.repeats)
            kept.write_text(json.dumps({who: outcome.runs for who, outcome in outcomes.items()}), "utf-8")
        runs = json.loads(kept.read_text("utf-8"))
        rows.append(size_row(title, runs["topwork"], runs["sklearn"]))
    columns = ("features", "topwork", "scikit-learn", "times as fast", "least to most", "accuracy", "C")
    return (
        "The same ten penalties and five folds with scikit-learn's own criterion, accuracy, from 50 to 100,000 rows; "
        "libraries are loaded, sweeps under three seconds are the median of up to five, and scikit-learn uses all "
        f"cores from 2,000 rows on (with fewer it is faster on one).\n\n{table(columns, rows)}"
    )


def size_row(title: str, ours: list, peer: list) -> list[str]:
    """Return a row of the table of sizes, from the runs of both, which took turns."""
    ratios = [theirs["seconds"] / own["seconds"] for own, theirs in zip(ours, peer, strict=True)]
    own, theirs = (float(np.median([run["seconds"] for run in runs])) for runs in (ours, peer))
    return [
        f"{title}: {ours[0]['shape']}",
        f"{own:.2f} s",
        f"{theirs:.2f} s",
        f"{np.median(ratios):.1f}",
        f"{min(ratios):.1f} to {max(ratios):.1f}",
        f"{ours[0]['accuracy']:.4f} / {peer[0]['accuracy']:.4f}",
        f"{ours[0]['C']:.2g} / {peer[0]['C']:.2g}",
    ]


def references(options) -> str:
    """Say what the default head reaches; less than what other software found is an error."""
    rows = []
    for name, (title, needed) in REFERENCES.items():
        found = report_of([HERE / "contender_heads.py", "default", name, options.data, options.work])
        rows.append([title, f"{found['accuracy']:.4f}", needed])
        if found["accuracy"] < needed:
            sys.exit(f"{title}: accuracy {found['accuracy']:.4f}; expected at least {needed}")
    return f"`linear`, the default head, on test items:\n\n{table(('features', 'accuracy', 'expected'), rows)}"


def exact(options) -> str:
    """Compare single fits with those of scikit-learn at a tight tolerance."""
    rows = []
    for name, Cs in EXACT.items():
        for C in Cs:
            found = report_of([HERE / "contender_exact.py", name, options.data, options.work, C])
            told = (f"{found[what]:.1e}" for what in ("objective", "coefficients", "held_out"))
            rows.append([SETS[name], f"{C:g}", *told])
    return (
        "Single fits of all rows beside those of scikit-learn in float64 at a tolerance of 1e-8: by how much our "
        "objective, evaluated in float64, is higher, and the distance of the coefficients, both as shares of "
        "scikit-learn's; and by how much the mean loss of held-out rows is higher than that of its fits to the other "
        f"folds.\n\n{table(('features', 'C', 'objective', 'coefficients', 'loss held out'), rows)}"
    )


def scaling(options) -> str:
    """Measure three sizes, and say what ImageNet would cost if the time grows as between them."""
    seconds = [
        report_of([HERE / "contender_heads.py", "topwork", name, options.data, options.work])["seconds"]
        for name in SCALES
    ]
    by_rows, by_classes = (float(np.log2(each / seconds[0])) for each in seconds[1:])
    rows, _, classes = IMAGENET
    hours = seconds[0] * (rows / 20_000) ** by_rows * (classes / 250) ** by_classes / 3600
    told = ", ".join(f"{name.partition('-')[2]} {each:.0f} s" for name, each in zip(SCALES, seconds, strict=True))
    return (
        f"Ten penalties and five folds of ImageNet's size ({rows:,} x 768, {classes:,} classes), extrapolated: "
        f"{hours:.1f} hours on this machine. Measured (rows x features x classes): {told}; the time grows with rows to "
        f"the power of {by_rows:.2f}, with classes to the power of {by_classes:.2f}."
    )


def streaming(options) -> str:
    found = report_of([HERE / "contender_streaming.py", options.work, options.rows])
    return (
        f"A `LinearProbe` from a memory map of {options.rows:,} x 512 in float16 ({found['gigabytes']:.1f} GB, 10 "
        f"classes): {found['seconds']:.0f} s, {found['passes']} passes; at most {found['anonymous'] / 2**20:.0f} MiB "
        f"of anonymous memory, of which the interpreter and the labels had {found['before'] / 2**20:.0f} MiB before "
        f"(sampled `RssAnon`; more than 1 GiB is an error). Accuracy on its rows {found['accuracy']:.4f}."
    )


PARTS = {
    "sizes": sizes,
    "sweeps": sweeps,
    "exact": exact,
    "references": references,
    "scaling": scaling,
    "streaming": streaming,
}

if __name__ == "__main__":
    sys.exit(main())
