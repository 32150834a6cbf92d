"""Old products go, whole, oldest first; those being made and those pinned stay."""

import datetime
import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
from filelock import FileLock

from crgen.batch.jobs.values import parse_size
from crgen.batch.products.collection import write_listing
from crgen.batch.products.listing import products_in
from crgen.batch.products.prune import prune
from crgen.batch.schedule.journal import Journal, journal_of
from crgen.errors import RequestError
from crgen.pipeline.verify import verify
from tests.batch.schedulers import in_process
from tests.products import ENDINGS

DAY = datetime.timedelta(days=1)


@pytest.fixture
def archive(make_product, tmp_path):
    """Four products, made 1, 10, 20 and 30 days ago, in the folders of two jobs."""
    made = {}
    for age in (1, 10, 20, 30):
        created = (datetime.datetime.now(datetime.UTC) - age * DAY).isoformat()
        made[age] = make_product(tmp_path / "maps" / ("beira" if age % 20 else "porto"), f"m{age}", created=created)
    return tmp_path / "maps", made


def standing(folder: Path) -> set[str]:
    """The products there, each of them whole."""
    products = products_in(folder)
    assert not any(checked.problems for product in products for checked in verify(product.paths.item))
    return {product.item["id"] for product in products}


def test_products_over_the_age_go_with_all_their_files(archive):
    folder, made = archive
    for beside in ("m30.tif.aux.xml", "m30.tif.ovr", "m30_quality.tif.aux.xml"):
        (made[30].folder / beside).write_text("what a viewer keeps")
    gone = prune(folder, older_than=15 * DAY)

    assert [pruned.paths for pruned in gone] == [made[30], made[20]]
    assert standing(folder) == {"m1", "m10"}
    files = {path.name for path in folder.rglob("*") if path.is_file()}
    assert files == {path.name for age in (1, 10) for path in made[age].all}


def test_products_over_the_size_go_oldest_first(archive):
    folder, made = archive
    size = sum(path.stat().st_size for path in made[1].all)
    prune(folder, max_size=int(2.5 * size))
    assert standing(folder) == {"m1", "m10"}


def test_a_dry_run_removes_nothing(archive):
    folder, made = archive
    would = prune(folder, older_than=5 * DAY, dry_run=True)
    assert [pruned.paths for pruned in would if not pruned.kept] == [made[30], made[20], made[10]]
    assert standing(folder) == {"m1", "m10", "m20", "m30"}
    assert not list(folder.rglob(".*"))


def test_what_is_pinned_or_being_made_stays(archive, unfinished):
    folder, made = archive
    made[30].reflectance.with_suffix(".pin").touch()
    unfinished(made[20])
    made[10].scratch.mkdir()
    with FileLock(made[10].scratch / "lock"):
        judged = prune(folder, max_size=0)
    assert [(p.paths.item.stem, p.kept) for p in judged] == [
        ("m30", "pinned"),
        ("m20", "being made"),
        ("m10", "being made"),
        ("m1", ""),
    ]
    assert standing(folder) == {"m10", "m20", "m30"}


def test_a_batch_applies_the_retention_of_its_file_at_the_end(archive, write, tmp_path):
    folder, made = archive
    made[30].reflectance.with_suffix(".pin").touch()
    path = write("[retention]\nolder_than = '15d'\n[[job]]\nname = 'a'\n", out="maps")
    assert in_process(path).counts == {"done": 1}
    [mine] = [product for product in standing(folder) if product.startswith("a_")]
    assert standing(folder) == {"m1", "m10", "m30", mine}
    assert "m20" not in (folder / "index.html").read_text()

    with Journal(journal_of(path)) as journal, journal.change():  # made, but not yet delivered
        values = {"status": "pending", "t1": "", "t2": "", "product": str(made[10].reflectance), "found_at": 0.0}
        journal.put("run", {"job": "porto", "identity": "x"}, values)
    path = write("[retention]\nmax_size = '1kB'\n[[job]]\nname = 'a'\n", out="maps")
    assert in_process(path).counts == {}, "what was taken away is not made again"
    assert standing(folder) == {"m10", "m30"}


def test_the_collection_and_the_page_follow(archive):
    folder, _ = archive
    write_listing(folder)
    prune(folder, older_than=15 * DAY)
    links = json.loads((folder / "collection.json").read_text())["links"]
    assert [link["title"] for link in links if link["rel"] == "item"] == ["m1", "m10"]
    assert "m30" not in (folder / "index.html").read_text()


CHANGES = len(ENDINGS) + 3
"""Of a product that goes: its Item is renamed, its files, its audit, what a run left and that name are removed."""


@pytest.mark.parametrize("calls", [0, 1, 2, CHANGES - 2, CHANGES - 1, CHANGES])
def test_a_killed_prune_lists_nothing_half_removed_and_the_next_one_finishes(archive, calls):
    folder, _ = archive

    def die_at_the_nth_change() -> None:
        left = calls

        def counted(change):
            def changing(*words, **options):
                nonlocal left
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1
                return change(*words, **options)

            return changing

        Path.replace = counted(Path.replace)
        Path.unlink = counted(Path.unlink)
        prune(folder, older_than=25 * DAY)

    process = multiprocessing.get_context("fork").Process(target=die_at_the_nth_change)
    process.start()
    process.join()
    assert process.exitcode == (-signal.SIGKILL if calls < CHANGES else 0)
    assert standing(folder) >= {"m1", "m10", "m20"}

    prune(folder, older_than=25 * DAY)
    assert standing(folder) == {"m1", "m10", "m20"}
    assert not [path for path in folder.rglob("*m30*")]


def test_a_product_made_anew_is_not_taken_for_the_rest_of_an_old_one(archive, make_product):
    folder, made = archive
    made[30].item.rename(made[30].item.with_name(".m30.json.pruned"))
    make_product(made[30].folder, "m30", created=datetime.datetime.now(datetime.UTC).isoformat())
    prune(folder, older_than=25 * DAY)
    assert "m30" in standing(folder)
    assert not list(folder.rglob("*.pruned"))


def test_sizes_are_read_as_people_write_them():
    assert (parse_size("500MB"), parse_size(" 1.5 TB")) == (500_000_000, 1_500_000_000_000)
    for nonsense in ("", "12", "-1GB", "1gb", "all"):
        with pytest.raises(ValueError, match="is no size"):
            parse_size(nonsense)


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(RequestError, match="is no folder"):
        prune(tmp_path / "nowhere", older_than=DAY)
