"""Reports in a real browser: nothing is loaded, nothing hostile runs, and what is to be pointed at and chosen works."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import topwork
from PIL import Image
from topwork.pipelines.report import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDTHS = (390, 1400)
HOSTILE_FILE = "<img src=x onerror=alert(1)>.jpg"
HOSTILE_LABELS = ("<script>alert(2)</script>", '"><svg onload=alert(3)>\u202e')
TOPICS = {"animals": ["cat", "dog", "horse", "cow", "sheep"], "weather": ["rain", "snow", "wind", "storm", "cloud"]}


class Browser:
    """A browser, which keeps what pages say on the console, ask for and open."""

    def __init__(self, chromium: Any) -> None:
        self.chromium = chromium
        self.complaints: list[str] = []

    def open(self, path: Path, width: int, scheme: str = "light") -> Any:
        """Open a page, after which any message, dialog, or request for anything else is a complaint."""
        page = self.chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: self.note_request(request.url, path))
        page.goto(path.as_uri())
        return page

    def note_request(self, url: str, path: Path) -> None:
        if url.partition("#")[0] != path.as_uri() and not url.startswith("data:"):
            self.complaints.append(url)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    driver = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    if CHROMIUM is None:
        pytest.skip("no browser: install Debian's package chromium")
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def browser(chromium: Any) -> Iterator[Browser]:
    opened = Browser(chromium)
    yield opened
    assert opened.complaints == []


def save_images(folder: Path, names: tuple[str, str], n_images: int, seed: int) -> None:
    """Write light and dark noise, a folder for each."""
    generator = np.random.default_rng(seed)
    for number in range(n_images):
        place = folder / names[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        level = (60, 150)[number % 2] + generator.normal(0, 25)
        pixels = generator.normal(level, 20, (40, 40, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(place / f"{number}.png")


@pytest.fixture(scope="module")
def image_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    save_images(folder / "train", ("dark", "light"), 60, seed=0)
    save_images(folder / "new", ("dark", "light"), 40, seed=1)
    classifier = topwork.TransferClassifier("topwork:tiny", layer="layer1", cv=0).fit(folder / "train")
    classifier.save(folder / "bundle")
    write_report(folder / "bundle", folder / "report.html", folder / "new")
    return folder / "report.html"


@pytest.fixture(scope="module")
def regression_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("values")
    generator = np.random.default_rng(0)
    levels = generator.uniform(40, 200, 60)
    images = generator.normal(levels[:, None, None, None], 10, (60, 40, 40, 3)).clip(0, 255).astype(np.uint8)
    np.savez(folder / "images.npz", X=images, y=levels)
    topwork.TransferRegressor("topwork:tiny", layer="layer1", cv=0).fit(folder / "images.npz").save(folder / "bundle")
    write_report(folder / "bundle", folder / "report.html", folder / "images.npz")
    return folder / "report.html"


@pytest.fixture(scope="module")
def text_report(text_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("words")
    lines = [f"{word} the {word},{label}" for label, words in TOPICS.items() for word in words]
    (folder / "texts.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    table = topwork.Table(folder / "texts.csv", text="text", label="label")
    topwork.TransferClassifier(f"hf:{text_folder}", cv=0).fit(table).save(folder / "bundle")
    write_report(folder / "bundle", folder / "report.html", table)
    return folder / "report.html"


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", ["image_report", "regression_report", "text_report"])
def test_report_fits_the_window_and_says_nothing(
    kind: str, width: int, browser: Browser, request: pytest.FixtureRequest
) -> None:
    page = browser.open(request.getfixturevalue(kind), width)
    assert page.evaluate("document.scrollingElement.scrollWidth <= window.innerWidth")
    assert page.title().startswith("Report on")
    backgrounds = {page.evaluate("getComputedStyle(document.body).backgroundColor")}
    page.emulate_media(color_scheme="dark")
    backgrounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(backgrounds) == 2
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()


def test_point_of_the_map_shows_its_item(image_report: Path, browser: Browser) -> None:
    page = browser.open(image_report, 1400)
    tip = page.locator("#tip")
    assert not tip.is_visible()
    point = page.locator(".points circle[data-thumbnail]").first
    point.scroll_into_view_if_needed()
    point.hover(force=True)
    assert tip.is_visible()
    assert ".png" in tip.inner_text()
    assert tip.locator("svg").is_visible()


def test_cell_of_the_confusion_matrix_lists_its_items(image_report: Path, browser: Browser) -> None:
    page = browser.open(image_report, 390)
    cell = page.locator("table.matrix tbody a").first
    count = int(cell.inner_text())
    cell.focus()  # as with the tabulator
    page.keyboard.press("Enter")
    listed = page.locator(".cell:target")
    assert listed.is_visible()
    assert listed.locator("li").count() == count


def test_hostile_names_are_shown_and_do_nothing(browser: Browser, tmp_path: Path) -> None:
    save_images(tmp_path / "train", ("a", "b"), 60, seed=0)
    paths = sorted((tmp_path / "train").rglob("*.png"))
    labels = [HOSTILE_LABELS[path.parent.name == "b"] for path in paths]
    classifier = topwork.TransferClassifier("topwork:tiny", layer="layer1", cv=0)
    classifier.fit([str(path) for path in paths], labels).save(tmp_path / "bundle")
    new = tmp_path / "new"
    new.mkdir()
    lines = ["path,label"]
    for number, (path, label) in enumerate(zip(paths, labels, strict=True)):
        name = f"{number}{HOSTILE_FILE}"
        Image.open(path).convert("RGB").save(new / name)
        lines.append(f'"{name}","{label.replace(chr(34), chr(34) * 2)}"')
    (new / "table.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    table = topwork.Table(new / "table.csv", label="label")
    write_report(tmp_path / "bundle", tmp_path / "report.html", table)

    store = topwork.FeatureStore.create(tmp_path / "store", classifier.extractor_)
    topwork.extract_features(table, store)
    pieces = [part._repr_html_() for part in (store, classifier)]
    (tmp_path / "notebook.html").write_text(f"<meta charset=utf-8>{''.join(pieces)}", encoding="utf-8")
    for name in ("report.html", "notebook.html"):
        page = browser.open(tmp_path / name, 1400)
        assert page.locator("img[src=x], [onerror], [onload]").count() == 0
        assert "\u202e" not in page.locator("body").inner_text()
    assert "<script>alert(2)</script>" in browser.open(tmp_path / "report.html", 1400).locator("body").inner_text()


def test_score_of_items_that_were_trained_on_is_marked(regression_report: Path, image_report: Path) -> None:
    page = regression_report.read_text(encoding="utf-8")
    assert "60 of 60 items equal items that the head was trained on" in page
    assert "Give items that the head has not seen to see how good it is: it was trained on 60 of these." in page
    assert "equal items that the head was trained on" not in image_report.read_text(encoding="utf-8")
