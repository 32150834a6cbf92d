"""The collection and the page list every product of a folder, whoever writes them, and nothing that is not whole."""

import json
import multiprocessing
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pystac
import pytest

from crgen.batch.products.collection import write_listing
from crgen.errors import OutputError
from crgen.pipeline.tiling.quality import LABELS
from tests.pipeline.picture.browser import chromium  # noqa: F401
from tests.products import ENDINGS


class Page(HTMLParser):
    """What a page shows and links to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.headings: list[str] = []
        self.text = ""
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data):
        self.text += data
        if self.tags[-1:] == ["h2"] and data.strip():
            self.headings.append(data)


def local(page: Page) -> list[str]:
    """The files that a page links to, from a disk without any network."""
    links = [urlsplit(link) for link in page.links if not link.startswith("geo:")]
    assert not any(link.scheme or link.netloc or link.query or link.fragment for link in links)
    return [unquote(link.path) for link in links]


@pytest.fixture
def folder(make_product, tmp_path):
    """Products of two jobs, beside files that are none."""
    make_product(tmp_path / "beira", "old", t2="2021-07-10")
    make_product(tmp_path / "beira", "new", t2="2021-08-03")
    make_product(tmp_path / "zhengzhou", "mid", t2="2021-07-22")
    (tmp_path / "beira" / "other.json").write_text('{"type": "FeatureCollection"}')
    (tmp_path / "beira" / "broken.json").write_text("{")
    hidden = make_product(tmp_path / ".trash", "gone")
    assert hidden.item.exists()
    return tmp_path


def test_the_collection_links_to_every_item(folder):
    write_listing(folder)
    collection = pystac.Collection.from_file(str(folder / "collection.json"))

    collection.validate()
    items = list(collection.get_items())
    assert [item.id for item in items] == ["new", "mid", "old"]
    for item in items:
        assert Path(item.assets["reflectance"].get_absolute_href()).exists()
    west, south, east, north = collection.extent.spatial.bboxes[0]
    assert west <= 113.5 < east <= 113.51
    assert south <= 34.7 < north <= 34.71
    start, end = collection.extent.temporal.intervals[0]
    assert (start.date().isoformat(), end.date().isoformat()) == ("2021-07-10", "2021-08-03")
    assert collection.summaries.to_dict()["crgen:weights"] == ["tiny"]


def test_the_page_shows_the_newest_first_and_links_to_what_is_there(folder):
    write_listing(folder)
    page = Page(folder / "index.html")

    assert page.headings == ["beira", "zhengzhou", "beira"]
    assert [page.text.index(name) for name in ("new", "mid", "old")] == sorted(
        page.text.index(name) for name in ("new", "mid", "old")
    )
    assert page.tags.count("rect") == 3, "on a map of products"
    assert re.search(r"Flooded \d\.\d\d km²", page.text)
    assert {"beira/new.html", "beira/new_thumbnail.webp"} <= set(local(page))
    assert not {"script", "link", "iframe"} & set(page.tags)
    files = local(page)
    styles = 5
    assert len(set(files)) == 1 + 3 * (len(ENDINGS) - styles)
    assert all((folder / file).is_file() for file in files)
    counts = json.loads((folder / "beira" / "new.json").read_text())["properties"]["crgen:counts"]
    made = sum(counts.values()) - counts["nodata"]
    present = [quality for quality in LABELS if quality.name != "NODATA" and counts.get(quality.name.lower())]
    assert present
    for quality in present:
        assert f"{LABELS[quality]} {100 * counts[quality.name.lower()] / made:.1f} %" in page.text


def test_in_a_browser_it_shows_every_map_asks_for_nothing_else_and_axe_finds_nothing(folder, chromium):  # noqa: F811
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    write_listing(folder)
    page, asked = chromium.new_page(), []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((folder / "index.html").as_uri())
    page.wait_for_load_state("networkidle")
    assert all(url.startswith("file:") for url in asked)
    pictures = page.locator("article img")
    for at in range(3):
        pictures.nth(at).scroll_into_view_if_needed()
        page.wait_for_function("at => document.querySelectorAll('article img')[at].naturalWidth > 0", arg=at)
    for width in (1200, 360):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        results = axe.run(page)
        assert results.violations_count == 0, results.generate_report()
    page.close()


def test_names_that_html_and_urls_would_misread_are_shown_as_they_are(make_product, tmp_path):
    make_product(tmp_path / "a&b #1", "<script>100% übel?")
    write_listing(tmp_path)
    page = Page(tmp_path / "index.html")
    assert page.headings == ["a&b #1"]
    assert "<script>100% übel?" in page.text
    assert "script" not in page.tags
    assert all((tmp_path / file).is_file() for file in local(page))


def test_a_product_of_the_version_before_is_listed_without_what_it_lacks(make_product, tmp_path):
    paths = make_product(tmp_path, "old")
    item = json.loads(paths.item.read_text())
    item["assets"] = {key: item["assets"][key] for key in ("reflectance", "quality", "quicklook")}
    for name in ("crgen:water", "crgen:self_check"):
        del item["properties"][name]
    paths.item.write_text(json.dumps(item))
    write_listing(tmp_path)
    page = Page(tmp_path / "index.html")
    assert page.headings == ["old"]
    assert "Flooded" not in page.text
    assert all((tmp_path / file).is_file() for file in local(page))


def test_a_map_that_is_worse_than_copying_says_so_before_its_water(make_product, tmp_path):
    paths = make_product(tmp_path, "map")
    item = json.loads(paths.item.read_text())
    good, bad = ({"RMSE": rmse, "PSNR": 30.0, "bias": {"B8": 0.01}} for rmse in (0.02, 0.05))
    for made, copied in ((good, bad), (bad, good)):
        check = {"checked": True, "blocks": 9, "generated": made, "copy of t1": copied}
        item["properties"]["crgen:self_check"] = check
        paths.item.write_text(json.dumps(item))
        write_listing(tmp_path)
        text = Page(tmp_path / "index.html").text
        assert ("WORSE THAN COPYING t1: 9 hidden blocks of t2: RMSE 0.050 (copy of t1 0.020)" in text) == (made is bad)
    assert text.index("WORSE THAN COPYING") < text.index("Flooded")


def test_a_product_across_180_degrees_stands_on_the_map_where_it_lies(make_product, tmp_path):
    paths = make_product(tmp_path, "fiji")
    item = json.loads(paths.item.read_text())
    item["bbox"] = [179.9, -17.0, -179.7, -16.8]
    paths.item.write_text(json.dumps(item))
    write_listing(tmp_path)
    page = Page(tmp_path / "index.html")
    assert "16.90° S, 179.90° W" in page.text
    assert "geo:-16.9000,-179.9000" in page.links
    assert "179.9°" in page.text
    assert "-179.8°" in page.text
    (width, height) = re.search(
        r'<rect [^>]*width="([\d.]+)" height="([\d.]+)"', (tmp_path / "index.html").read_text()
    ).groups()
    assert float(width) == pytest.approx(2 * float(height), rel=0.01)


def test_an_empty_folder_has_an_empty_page(tmp_path):
    write_listing(tmp_path / "new")
    pystac.Collection.from_file(str(tmp_path / "new" / "collection.json")).validate()
    assert "0 products" in Page(tmp_path / "new" / "index.html").text


def test_a_product_is_never_overwritten_by_the_collection(make_product, tmp_path):
    paths = make_product(tmp_path, "collection")
    content = paths.item.read_bytes()
    with pytest.raises(OutputError, match="is the item of a product; move that product elsewhere"):
        write_listing(tmp_path)
    assert paths.item.read_bytes() == content


def test_writers_at_once_lose_no_product(make_product, tmp_path):
    def finish_one_by_one(name: str) -> None:
        for n in range(3):
            (tmp_path / name / f"{n}.hidden").rename(tmp_path / name / f"{n}.json")
            write_listing(tmp_path)

    for name in ("a", "b", "c"):
        for n in range(3):
            item = make_product(tmp_path / name, str(n)).item
            item.rename(item.with_suffix(".hidden"))
    fork = multiprocessing.get_context("fork")
    writers = [fork.Process(target=finish_one_by_one, args=(name,)) for name in ("a", "b", "c")]
    for writer in writers:
        writer.start()
    for writer in writers:
        while writer.is_alive():
            writer.join(0.01)
            for file in ("collection.json", "index.html"):
                if (tmp_path / file).exists():
                    assert (tmp_path / file).read_text().rstrip().endswith(("}", "</html>"))
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    links = json.loads((tmp_path / "collection.json").read_text())["links"]
    assert sum(link["rel"] == "item" for link in links) == 9
    assert len(Page(tmp_path / "index.html").headings) == 9
    assert not list(tmp_path.glob(".*.partial"))
