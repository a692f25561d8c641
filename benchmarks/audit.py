"""What an audit finds of planted label errors, copies and leakage, and how long it takes for 50,000 rows.

cleanlab is compared where it can be imported; it is in no list of dependencies, as it is needed here only:
``pip install --target DIR --no-deps cleanlab termcolor`` and ``--cleanlab DIR``. ``RssAnon`` is sampled from ``/proc``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import topwork
from contest import arguments, use_work_folder
from data_sets import unpacked
from feature_sets import banking77_minilm, cifar10_resnet20, synthetic
from page import table, write_section
from PIL import Image
from sklearn.metrics import average_precision_score, precision_recall_curve
from topwork.heads.folds import make_folds
from topwork.heads.label_quality import calibrate, judge_labels, predict_out_of_fold
from topwork.pipelines.selection.audit import NEAR_LIMIT
from topwork.pipelines.selection.copy_findings import CERTAIN_LIMIT
from topwork.pipelines.selection.label_findings import MIN_ERROR_PROBABILITY, N_FOLDS
from trained_cases import cifar_network

ERROR_SHARE = 0.05
SEEDS = 3
COPIES = 500
COPY_SEED = 1
"""The copies by which the limit was chosen were of other images (seed 0)."""
LEAKED = 100
SCALE = (50_000, 384, 60)
"""Rows, features and classes of the timed audit."""
SAMPLING_INTERVAL_SECONDS = 0.05
JPEG_QUALITY = 60
CROPPED_SHARE = 0.95
NEAR_KINDS = (f"JPEG {JPEG_QUALITY}", f"crop {CROPPED_SHARE:.0%}")
"""What near copies are: compressed again, or cropped and scaled up."""
SAME_PICTURES = {
    ("airplane/0164", "airplane/0505"),
    ("airplane/0511", "airplane/0955"),
    ("airplane/0782", "airplane/0840"),
    ("automobile/0293", "automobile/0598"),
    ("automobile/0529", "automobile/0759"),
    ("dog/0296", "dog/0415"),
    ("dog/0317", "dog/0698"),
    ("frog/0161", "frog/0781"),
    ("horse/0236", "horse/0547"),
}
"""Pairs of test images that show the same picture, as seen by eye."""
Scores = dict[str, np.ndarray]
"""How suspicious each label is, by the name of what says so."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--cleanlab", type=Path, help="folder that cleanlab is installed in")
    parser.add_argument("--sheet", type=Path, help="write the near copies that were not planted as an image")
    parser.add_argument("--only", default="labels,copies,time", help="parts to run: labels, copies, time")
    options = parser.parse_args()
    use_work_folder(options.work)
    if options.cleanlab:
        sys.path.append(str(options.cleanlab))
    parts = {"labels": judge_all_labels, "copies": judge_copies, "time": time_audit}
    texts = [run(options) for name, run in parts.items() if name in options.only.split(",")]
    write_section("Audits", "\n\n".join(texts), options.page, ("scikit-learn", "cleanlab"))


# Label errors.


def judge_all_labels(options: argparse.Namespace) -> str:
    """Return a table of how well changed labels are found."""
    questions = banking77_minilm(options.data, options.work)
    images = cifar10_resnet20(options.data, options.work)
    sets = [
        ("Banking77, MiniLM, at random", questions.X, questions.y, change_at_random),
        ("CIFAR-10 train, ResNet-20, most confused", images.X, images.y, change_to_most_confused),
        ("CIFAR-10 test, ResNet-20, most confused", images.X_test, images.y_test, change_to_most_confused),
    ]
    rows: list[list[str]] = []
    for name, X, y, change in sets:
        rows += judge_set(name, X, np.unique(y, return_inverse=True)[1], change)
    columns = [
        "changed labels",
        "ranked by",
        "average precision",
        "precision at recall 0.5",
        "listed",
        "of them changed",
    ]
    return LABELS_TEMPLATE.format(
        share=ERROR_SHARE, seeds=SEEDS, limit=MIN_ERROR_PROBABILITY, rows=table([*columns, "recall"], rows)
    )


def judge_set(name: str, X: np.ndarray, y: np.ndarray, change: Callable[..., np.ndarray]) -> Iterator[list[str]]:
    """Yield a row of the table for each ranking, with means over the seeds."""
    measured: dict[str, list[list[float]]] = {}
    for seed in range(SEEDS):
        generator = np.random.default_rng(seed)
        # In the order of the true classes, the errors of a kind would all be in one fold.
        order = generator.permutation(len(y))
        X, y = X[order], y[order]
        is_changed = generator.random(len(y)) < ERROR_SHARE
        labels = np.where(is_changed, change(X, y, generator), y)
        probabilities = predict_out_of_fold(X, labels, y.max() + 1, make_folds(labels, None, N_FOLDS))
        for method, scores in rank_labels(probabilities, labels).items():
            measured.setdefault(method, []).append(measure_ranking(is_changed, scores))
        wrong = judge_labels(calibrate(probabilities, labels), labels).wrong
        listed = wrong >= MIN_ERROR_PROBABILITY
        measured["topwork"][-1] += count_listed(is_changed, listed)
        for method, chosen in list_by_cleanlab(probabilities, labels).items():
            measured[method][-1] += count_listed(is_changed, chosen)
    for method, values in measured.items():
        means = np.mean(values, axis=0)
        cells = [f"{means[0]:.3f}", f"{means[1]:.3f}"]
        if len(means) > 2:
            cells += [f"{means[2]:.0f}", f"{means[3]:.2f}", f"{means[4]:.2f}"]
        yield [name, method, *cells]


def change_at_random(X: np.ndarray, y: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return another class for each row, any of them."""
    n_classes = y.max() + 1
    return (y + generator.integers(1, n_classes, len(y))) % n_classes


def change_to_most_confused(X: np.ndarray, y: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return for each row the class that rows of its class are most often taken for."""
    n_classes = y.max() + 1
    predicted = predict_out_of_fold(X, y, n_classes, make_folds(y, None, N_FOLDS)).argmax(axis=1)
    confusion = np.zeros((n_classes, n_classes))
    np.add.at(confusion, (y, predicted), 1)
    np.fill_diagonal(confusion, 0)
    return confusion.argmax(axis=1)[y]


def rank_labels(probabilities: np.ndarray, labels: np.ndarray) -> Scores:
    """Return how suspicious labels are: to topwork, and to cleanlab's two scores for the same probabilities."""
    scores = {"topwork": judge_labels(calibrate(probabilities, labels), labels).wrong}
    with contextlib.suppress(ImportError):
        from cleanlab.rank import get_label_quality_scores

        for method in ("self_confidence", "normalized_margin"):
            scores[f"cleanlab, {method}"] = -get_label_quality_scores(labels, probabilities, method=method)
    return scores


def list_by_cleanlab(probabilities: np.ndarray, labels: np.ndarray) -> Scores:
    """Return which labels cleanlab lists."""
    try:
        from cleanlab.filter import find_label_issues
    except ImportError:
        return {}
    with contextlib.redirect_stdout(io.StringIO()):
        listed = find_label_issues(labels, probabilities.astype(np.float64), n_jobs=1)
    return {f"cleanlab, {method}": listed for method in ("self_confidence", "normalized_margin")}


def measure_ranking(is_changed: np.ndarray, scores: np.ndarray) -> list[float]:
    """Return the average precision, and the precision where half of the changed labels are found."""
    precision, recall, _ = precision_recall_curve(is_changed, scores)
    return [average_precision_score(is_changed, scores), precision[np.abs(recall - 0.5).argmin()]]


def count_listed(is_changed: np.ndarray, listed: np.ndarray) -> list[float]:
    """Return how many labels are listed, and the precision and recall of the list."""
    n_right = (is_changed & listed).sum()
    return [listed.sum(), n_right / max(listed.sum(), 1), n_right / is_changed.sum()]


# Copies and leakage.


@dataclass(frozen=True)
class Planted:
    """Images with planted copies: files by id, and pairs of the ids of a copy and its original, by kind."""

    files: dict[str, Path]
    pairs: dict[str, set[tuple[str, str]]]


def judge_copies(options: argparse.Namespace) -> str:
    """Return what is found of planted copies among the test images of CIFAR-10."""
    planted = plant_copies(options)
    extractor = topwork.Extractor(cifar_network(options.data, "exact"), ["layer1", "layer2"], "avg2x2")
    folder = options.work / "audit-copies-store"
    shutil.rmtree(folder, ignore_errors=True)
    store = topwork.FeatureStore.open_or_create(folder, extractor)
    topwork.extract_features(list(planted.files.values()), store, ids=list(planted.files))
    store.set_labels({name: path.parent.name for name, path in planted.files.items()})
    store.set_labels({name: "train" if name.startswith("leaked/") else "test" for name in planted.files}, "split")
    findings = topwork.audit(store)
    found = {
        frozenset((finding.id, str(finding.related))): finding for finding in findings if finding.related is not None
    }
    rows = []
    n_near = 0
    for kind, pairs in planted.pairs.items():
        of_kind = [found[frozenset(pair)] for pair in pairs if frozenset(pair) in found]
        n_certain = sum(finding.score < CERTAIN_LIMIT for finding in of_kind)
        rows.append([kind, str(len(pairs)), f"{len(of_kind) / len(pairs):.3f}", str(n_certain)])
        if kind in NEAR_KINDS:
            n_near += len(of_kind)
    others = list_others(found, planted)
    if options.sheet:
        draw_pairs([sorted(pair) for pair in others], planted.files, options.sheet)
    n_same = sum(map(shows_same_picture, others))
    lines = []
    for pair in others:
        note = "the same picture" if shows_same_picture(pair) else "another picture"
        lines.append(f"- {' and '.join(sorted(pair))}: {found[pair].score:.2f}, {note}")
    return COPIES_TEMPLATE.format(
        near=NEAR_LIMIT,
        certain=CERTAIN_LIMIT,
        rows=table(["planted", "number", "recall", f"below {CERTAIN_LIMIT}"], rows),
        recall=n_near / COPIES,
        others=len(others),
        same=n_same,
        precision_before=n_near / (n_near + len(others)),
        precision=n_near / (n_near + len(others) - n_same),
        pairs="\n".join(lines),
    )


def list_others(found: dict[frozenset[str], topwork.Finding], planted: Planted) -> list[frozenset[str]]:
    """Return the near copies that were not planted, the nearest first."""
    known = {frozenset(pair) for pairs in planted.pairs.values() for pair in pairs}
    others = [pair for pair, finding in found.items() if finding.kind.startswith("near") and pair not in known]
    return sorted(others, key=lambda pair: found[pair].score)


def shows_same_picture(pair: frozenset[str]) -> bool:
    """Return whether two images, or those that they are copies of, show the same picture."""
    names = sorted({"/".join(name.split("/")[-2:]).partition(".")[0] for name in pair})
    return len(names) == 1 or tuple(names) in SAME_PICTURES


def plant_copies(options: argparse.Namespace) -> Planted:
    """Write copies of images of CIFAR-10: half compressed again, half cropped; mirrored ones; and some unchanged."""
    folder = unpacked(options.data / "cifar10-test.tar.gz", options.work) / "test"
    originals = sorted(folder.rglob("*.jpg"))
    files = {f"original/{path.parent.name}/{path.name}": path for path in originals}
    chosen = np.random.default_rng(COPY_SEED).choice(len(originals), COPIES + LEAKED, replace=False)
    pairs: dict[str, set[tuple[str, str]]] = {kind: set() for kind in (*NEAR_KINDS, "mirrored", "equal content")}
    target = options.work / "audit-copies"
    shutil.rmtree(target, ignore_errors=True)
    for place, number in enumerate(chosen.tolist()):
        path = originals[number]
        if place >= COPIES:
            made = [("equal content", "leaked", path.read_bytes(), ".jpg")]
        else:
            kind = NEAR_KINDS[place % 2]
            copy, suffix = make_copy(path, kind)
            mirrored = write_png(Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT))
            made = [(kind, "copy", copy, suffix), ("mirrored", "mirrored", mirrored, ".png")]
        for kind, prefix, content, suffix in made:
            file = target / prefix / path.parent.name / f"{path.stem}{suffix}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            name = f"{prefix}/{path.parent.name}/{file.name}"
            files[name] = file
            pairs[kind].add((name, f"original/{path.parent.name}/{path.name}"))
    return Planted(files, pairs)


def make_copy(path: Path, kind: str) -> tuple[bytes, str]:
    """Return an image file compressed again, or cropped and scaled to its size, and the ending of its name."""
    image = Image.open(path).convert("RGB")
    if kind == NEAR_KINDS[0]:
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=JPEG_QUALITY)
        return stream.getvalue(), ".jpg"
    margin = (1 - CROPPED_SHARE) / 2 * image.width
    box = (margin, margin, image.width - margin, image.height - margin)
    return write_png(image.resize(image.size, Image.Resampling.BICUBIC, box=box)), ".png"


def write_png(image: Image.Image) -> bytes:
    """Return an image as the content of a PNG file."""
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def draw_pairs(pairs: list[list[str]], files: dict[str, Path], path: Path, each: int = 96, per_row: int = 6) -> None:
    """Draw pairs of images side by side, in rows."""
    n_rows = -(-len(pairs) // per_row)
    sheet = Image.new("RGB", (per_row * (2 * each + 12), max(1, n_rows) * (each + 8)), "white")
    for number, pair in enumerate(pairs):
        row, column = divmod(number, per_row)
        for side, name in enumerate(pair):
            image = Image.open(files[name]).convert("RGB").resize((each, each), Image.Resampling.NEAREST)
            sheet.paste(image, (column * (2 * each + 12) + side * each, row * (each + 8)))
    sheet.save(path)


# Time and memory.


def time_audit(options: argparse.Namespace) -> str:
    """Return how long an audit of many rows takes, and the memory that it needs beyond what was there before."""
    n_rows, n_features, n_classes = SCALE
    folder = options.work / "audit-synthetic-store"
    if not folder.is_dir():
        features = synthetic(n_rows, n_features, n_classes, n_test=1)
        topwork.FeatureStore.import_features(folder, features.X, labels=[f"class {code}" for code in features.y])
    store = topwork.FeatureStore.open(folder)
    before = read_rss_anon()
    peaks = [before]
    stopped = threading.Event()

    def sample() -> None:
        while not stopped.wait(SAMPLING_INTERVAL_SECONDS):
            peaks.append(read_rss_anon())

    sampler = threading.Thread(target=sample)
    sampler.start()
    started, cpu_started = time.monotonic(), time.process_time()
    findings = topwork.audit(store)
    seconds, cpu_seconds = time.monotonic() - started, time.process_time() - cpu_started
    stopped.set()
    sampler.join()
    megabytes = n_rows * n_features * 4 / 1e6
    return TIME_TEMPLATE.format(
        rows=n_rows,
        features=n_features,
        classes=n_classes,
        seconds=seconds,
        cpu=cpu_seconds,
        memory=(max(peaks) - before) / 1e6,
        features_memory=megabytes,
        findings=len(findings),
    )


def read_rss_anon() -> int:
    """Return the anonymous memory of this process in bytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


LABELS_TEMPLATE = """`audit.py`: {share:.0%} of the labels were changed, at random, or to the class that the true one
is most often taken for; means of {seeds} draws. All rankings judge the same out-of-fold probabilities. Listed are the
labels that topwork gives a probability of an error of at least {limit:g}, and those that cleanlab's
`find_label_issues` lists, whatever its ranking. Labels that were wrong before count as mistakes of the audit.
ResNet-20 was trained on the `train` images. The penalty of the classifier,
the ranking and its prior were chosen by draws on the same sets and on scikit-learn's digits, so that the figures
are not fully independent of that choice.

{rows}"""

COPIES_TEMPLATE = """Copies of 500 of the 10,000 test images of CIFAR-10, half compressed again as JPEG 60, half
cropped to 95 % and scaled up again; the same 500 mirrored; and 100 other files, unchanged, in another split. Features
of ResNet-20: layers 1 and 2, 2x2-pooled. Near copies have less than {near:g} of the usual distance; this limit was
chosen with copies of other images of the same set.

{rows}

Recall of the 500 near copies: {recall:.3f}. {others} other pairs were found, so that the precision is
{precision_before:.3f}; {same} of them show the same picture, as seen by eye; without these it is {precision:.3f}:

{pairs}"""

TIME_TEMPLATE = """An audit of {rows:,} x {features} features with {classes} classes took {seconds:.0f} s ({cpu:.0f} s
of processor time) and {memory:.0f} MB of anonymous memory beyond what was there before; the features are
{features_memory:.0f} MB on disk."""


if __name__ == "__main__":
    main()
