"""A product arrives whole or not at all, and nothing is sent twice."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pystac
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from crgen.batch.products.collection import write_listing
from crgen.batch.products.deliver import DeliveryError, deliver, deliver_listing
from crgen.pipeline.product.outputs import Paths
from crgen.pipeline.verify import verify
from tests.batch.conftest import serving
from tests.products import files_of


def whole(paths: Paths) -> bool:
    return not any(checked.problems for checked in verify(paths.item))


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


FILES = set(files_of("map"))


@pytest.fixture
def bucket(s3, request) -> tuple[str, Path]:
    """A place of the test's own in a bucket: its URL, and the folder in which the server keeps it."""
    return f"s3://maps/{request.node.name}/asia", s3.root / "maps" / request.node.name / "asia"


def test_a_folder_gets_the_product_whole(make_product, tmp_path):
    deliver(make_product(tmp_path / "made"), str(tmp_path / "share" / "asia"))
    assert names(tmp_path / "share" / "asia") == FILES
    assert whole(Paths(tmp_path / "share" / "asia" / "map.tif"))


def test_an_object_store_gets_the_product_whole(make_product, tmp_path, s3, bucket):
    url, folder = bucket
    deliver(make_product(tmp_path), url, s3.options)
    assert names(folder) == FILES
    assert whole(Paths(folder / "map.tif"))


def test_any_file_system_of_fsspec_will_do(make_product, tmp_path):
    deliver(make_product(tmp_path), "memory://maps")
    memory = MemoryFileSystem()
    assert {Path(name).name for name in memory.ls("/maps", detail=False)} == FILES
    memory.get("/maps", str(tmp_path / "back"), recursive=True)
    assert whole(Paths(tmp_path / "back" / "map.tif"))


def test_what_is_there_is_not_sent_again(make_product, tmp_path, s3, bucket):
    paths = make_product(tmp_path / "made")
    url, folder = bucket
    for destination, place, options in ((str(tmp_path / "share"), tmp_path / "share", None), (url, folder, s3.options)):
        deliver(paths, destination, options)
        written = times(place)
        deliver(paths, destination, options)
        assert times(place) == written


def test_only_what_is_missing_or_damaged_is_sent(make_product, tmp_path, s3, bucket):
    paths = make_product(tmp_path / "made")
    url, folder = bucket
    for destination, place, options in ((str(tmp_path / "share"), tmp_path / "share", None), (url, folder, s3.options)):
        deliver(paths, destination, options)
        written = times(place)
        (place / "map.json").unlink()
        damaged = bytearray((place / "map.png").read_bytes())
        damaged[100] ^= 1
        (place / "map.png").write_bytes(damaged)
        deliver(paths, destination, options)
        assert whole(Paths(place / "map.tif"))
        sent = {name for name, time in times(place).items() if time != written[name]}
        assert sent == {"map.png", "map.json"}


def test_the_list_of_products_comes_along(make_product, tmp_path, s3, bucket):
    url, folder = bucket
    paths = make_product(tmp_path / "made" / "beira")
    write_listing(tmp_path / "made")
    page = tmp_path / "made" / "index.html"
    for destination, place, options in ((str(tmp_path / "share"), tmp_path / "share", None), (url, folder, s3.options)):
        deliver(paths, f"{destination}/beira", options)
        deliver_listing(tmp_path / "made", destination, options)
        assert (place / "index.html").read_text() == page.read_text()
        (item,) = pystac.Collection.from_file(str(place / "collection.json")).get_items()
        assert Path(item.assets["reflectance"].get_absolute_href()).exists()


@contextmanager
def network(address: str, *, cut_after: int) -> Iterator[str]:
    """Stand between a client and a server; once so many bytes came from the client, every connection breaks."""
    left = cut_after
    stop = threading.Event()

    def pump(source: socket.socket, target: socket.socket, counted: bool) -> None:
        nonlocal left
        try:
            while left > 0 and (block := source.recv(4096)):
                if counted:
                    left -= len(block)
                target.sendall(block)
        except OSError:
            pass
        for end in (source, target):
            hang_up(end)

    def hang_up(end: socket.socket) -> None:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()

    def serve() -> None:
        while not stop.is_set():
            try:
                client, _ = listener.accept()
            except OSError:
                return
            host, port = address.rsplit(":", 1)
            server = socket.create_connection((host, int(port)))
            threading.Thread(target=pump, args=(client, server, True), daemon=True).start()
            threading.Thread(target=pump, args=(server, client, False), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        stop.set()
        hang_up(listener)


def test_a_broken_network_leaves_no_item_and_the_next_try_ends_it(make_product, tmp_path):
    paths = make_product(tmp_path / "made")
    folder = tmp_path / "s3" / "maps" / "asia"
    size = max(path.stat().st_size for path in paths.all)  # files that came whole are not sent again
    (tmp_path / "s3").mkdir()
    for share in (0.1, 0.5, 0.9):
        with (
            serving(tmp_path / "s3") as s3,
            network(s3.address, cut_after=int(share * size)) as address,
            pytest.raises(DeliveryError) as broken,
        ):
            deliver(paths, "s3://maps/asia", s3.options_at(address))
        assert broken.value.transient
        assert str(broken.value).startswith("cannot deliver map.tif to s3://maps/asia: ")
        assert "\n" not in str(broken.value)
        assert not (folder / "map.json").exists()
    with serving(tmp_path / "s3") as s3:
        deliver(paths, "s3://maps/asia", s3.options)
    assert whole(Paths(folder / "map.tif"))


def test_a_product_that_is_replaced_is_never_shown_in_part(make_product, tmp_path, monkeypatch):
    memory = MemoryFileSystem()
    deliver(make_product(tmp_path / "old"), "memory://replaced")
    memory.pipe_file("/replaced/map.png", b"another picture")
    new = make_product(tmp_path / "new", created="2021-07-23T12:00:00Z")

    def broken(*words: object) -> None:
        raise ConnectionResetError("the connection broke")

    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "put_file", broken)
        with pytest.raises(DeliveryError, match="the connection broke") as failed:
            deliver(new, "memory://replaced")
    assert failed.value.transient
    assert not memory.exists("/replaced/map.json")
    deliver(new, "memory://replaced")
    assert memory.cat_file("/replaced/map.json") == new.item.read_bytes()


def test_a_folder_without_room_keeps_nothing_half_and_is_worth_another_try(make_product, tmp_path, monkeypatch):
    import resource

    paths = make_product(tmp_path / "made")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (paths.quicklook.stat().st_size - 1, limit[1]))
    try:
        with pytest.raises(DeliveryError) as full:
            deliver(paths, str(tmp_path / "share"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert full.value.transient
    assert names(tmp_path / "share") == set()


def test_a_destination_that_cannot_work_is_a_permanent_failure(make_product, tmp_path, s3):
    paths = make_product(tmp_path / "made")
    (tmp_path / "file").touch()
    for destination, options, reason in (
        (str(tmp_path / "file"), None, "File exists"),
        ("s3://maps", s3.options | {"secret_access_key": "wrong"}, "403 Forbidden: [^<]+$"),
        ("s3://maps", s3.options | {"colour": "red"}, "colour"),
        ("nosuch://maps", None, "nosuch"),
    ):
        with pytest.raises(DeliveryError, match=reason) as hopeless:
            deliver(paths, destination, options)
        assert not hopeless.value.transient
        assert hopeless.value.exit_code == 6


def test_a_damaged_product_is_not_passed_on(make_product, tmp_path):
    paths = make_product(tmp_path / "made")
    paths.quality.write_bytes(paths.quality.read_bytes()[:-1])
    with pytest.raises(DeliveryError, match=r"map_quality.tif differs from what its item says") as damaged:
        deliver(paths, str(tmp_path / "share"))
    assert not damaged.value.transient
    assert not (tmp_path / "share").exists()


def test_no_secret_of_a_url_is_told(make_product, tmp_path):
    with pytest.raises(DeliveryError) as refused:
        deliver(make_product(tmp_path), "nosuch://me:hunter2@host/maps?signature=hunter3")
    assert "hunter" not in str(refused.value)
    assert "nosuch://***@host/maps?***" in str(refused.value)
