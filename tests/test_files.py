"""Files of a product are made under hidden names and published together."""

import hashlib
import os
from pathlib import Path

import pytest

from crgen.errors import OutputError
from crgen.files import (
    check_writable,
    discard,
    file_sha256,
    publish,
    replacing,
    require_space,
    size_text,
    write_partial,
)


def test_a_file_appears_whole_only_when_published(tmp_path):
    target = tmp_path / "out" / "a.json"
    partial = write_partial(target, b"{}")
    assert not target.exists()
    publish([(partial, target)])
    assert target.read_bytes() == b"{}"
    assert [p.name for p in target.parent.iterdir()] == ["a.json"]


def test_nothing_is_published_when_one_target_cannot_be(tmp_path):
    first, second = write_partial(tmp_path / "a.tif", b"a"), write_partial(tmp_path / "b.tif", b"b")
    (tmp_path / "b.tif").mkdir()
    with pytest.raises(OutputError, match=r"b\.tif: a folder of that name is in the way"):
        publish([(first, tmp_path / "a.tif"), (second, tmp_path / "b.tif")])
    assert not (tmp_path / "a.tif").exists()


def test_discarding_removes_hidden_files_only(tmp_path):
    target = tmp_path / "a [1].tif"
    publish([(write_partial(target, b"old"), target)])
    write_partial(target, b"new")
    (tmp_path / ".a [1].tif.partial.ovr.tmp").write_bytes(b"")
    discard([target])
    assert [p.name for p in tmp_path.iterdir()] == ["a [1].tif"]


def test_a_full_disk_leaves_no_hidden_file(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"a\.json: No space left on device \(2 B needed, .* free\)"):
        write_partial(tmp_path / "a.json", b"{}")
    assert not list(tmp_path.iterdir())


def test_several_may_write_one_file_at_a_time_and_the_last_stands(tmp_path):
    path = tmp_path / "a.part"
    with replacing(path, shared=True) as first:
        with replacing(path, shared=True) as second:
            first.write_bytes(b"first")
            second.write_bytes(b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupt_while_a_file_is_written_leaves_no_hidden_file(tmp_path, monkeypatch):
    def interrupted(path):
        assert path.read_bytes() == b"{}"
        raise KeyboardInterrupt

    monkeypatch.setattr("crgen.files.sync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_partial(tmp_path / "a.json", b"{}")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_refused_in_one_line(tmp_path):
    check_writable(tmp_path / "made" / "later")
    assert not (tmp_path / "made").exists()
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/crgen")):
        with pytest.raises(OutputError, match="cannot write into") as caught:
            check_writable(folder)
        assert "\n" not in str(caught.value)


def test_too_little_space_is_said_with_both_sizes(tmp_path):
    with pytest.raises(OutputError, match=r"fill\.tif: the disk of .* is full \(100 TB more needed, .* free\)"):
        require_space(tmp_path / "later", 10**14, Path("fill.tif"))
    assert [size_text(n) for n in (0, 999, 25_300_000, 4.2e12)] == ["0 B", "999 B", "25.3 MB", "4.2 TB"]


def test_checksum_is_a_multihash(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(os.urandom(3_000_000))
    assert file_sha256(file) == "1220" + hashlib.sha256(file.read_bytes()).hexdigest()
