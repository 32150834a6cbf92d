"""`crgen show` on the command line."""

import webbrowser


def test_show_opens_the_page_by_any_of_its_products_names(crgen, fill, here, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or True)
    assert crgen(*fill, "--out", "map.tif").code == 0
    for name in ("map.tif", "map.json", "map.html"):
        assert crgen("show", name) == (0, "map.html\n", "")
    assert opened == [(here / "map.html").as_uri()] * 3
    monkeypatch.setattr(webbrowser, "open", lambda url: False)
    assert "there is no browser here" in crgen("show", "map.tif").err
    (here / "map.html").unlink()
    outcome = crgen("show", "map.tif")
    assert outcome.code == 6
    assert "map.html is not beside it: it was removed, or crgen 0.1 made the product; make it again" in outcome.err


def test_show_needs_a_product(refused, here):
    assert "give a product that crgen made" in refused(6, "show", "nothing.tif")
