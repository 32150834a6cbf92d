"""A jobs file that is wrong is refused with the line and the key of everything that is wrong in it."""

import datetime
from pathlib import Path

import pytest

from crgen.batch.jobs.jobs_file import JobsError, Lines, read_jobs
from crgen.batch.jobs.values import DaysBefore, parse_duration
from crgen.errors import RequestError

GOOD = """
[defaults]
source = "demo"
aoi = "113.50,34.70,113.503,34.703"

[limits]
total = 2

[[job]]
name = "flood"
t1 = "before event"
event = 2021-07-20
t2 = 2021-07-22

[[job]]
name = "watch"
source = "gee"
t1 = "-12d"
t2 = "latest"
priority = 3
deadline = "36h"
"""


def jobs_file(folder: Path, text: str) -> Path:
    path = folder / "jobs.toml"
    path.write_text(text)
    return path


def test_options_of_a_fill_are_written_as_its_own_and_reach_it(tmp_path):
    text = "[[job]]\nname = 'own'\nsource = '.'\ns2_scale = 1e-4\ns2_offset = -0.1\nbands = ['B3', 'B11', 'B8']\n"
    [job] = read_jobs(jobs_file(tmp_path, text)).job
    request = job.request(None, None, None)
    assert (request.s2_scale, request.s2_offset) == (1e-4, -0.1)
    assert request.bands == ("B3", "B11", "B8")


def test_jobs_take_defaults_and_rules(tmp_path):
    file = read_jobs(jobs_file(tmp_path, GOOD))
    flood, watch = file.job
    assert flood.aoi == watch.aoi == "113.50,34.70,113.503,34.703"
    assert (flood.t1, flood.t2, flood.source) == ("before event", datetime.date(2021, 7, 22), "demo")
    assert (watch.t1, watch.t2, watch.source) == (DaysBefore(12), "latest", "gee")
    assert watch.deadline == datetime.timedelta(hours=36)
    assert file.limits.total == 2
    assert flood.out == str(tmp_path / "products")


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("total = 2", "totl = 2", 7, "limits.totl: there is no such key; did you mean total?"),
        ('aoi = "113', 'aio = "113', 4, "defaults: aio: there is no such key; did you mean aoi?"),
        ('"latest"', '"lates"', 19, "job 'watch': t2: 'lates' is no day: write YYYY-MM-DD, or 'latest'"),
        ('"-12d"', '"12d"', 18, "job 'watch': t1: '12d' is no day: write YYYY-MM-DD, or '-12d' (before t2) or"),
        ("event = 2021-07-20", "", 9, "job 'flood': t1 = \"before event\" needs the day: event = YYYY-MM-DD"),
        ("priority = 3", 'priority = "high"', 20, "job 'watch': priority: input should be a valid integer"),
        ('"36h"', '"soon"', 21, "job 'watch': deadline: 'soon' is not a time: write a number and s, m, h or d"),
        ('"36h"', "2021-07-01", 21, "job 'watch': deadline: 2021-07-01 says no time: write e.g. 2021-07-01T12:00:00Z"),
        ('name = "watch"', 'name = "../x"', 16, "'../x' must be up to 64 letters, digits, - and _"),
        ('name = "watch"', 'name = "flood"', 16, "job 'flood': the job of line 10 has that name too"),
        ('source = "gee"', "", 15, 't2 = "latest" asks Earth Engine; for another source write the day'),
        ("total = 2", "total = 0", 7, "limits.total: input should be greater than or equal to 1"),
        (
            "total = 2",
            "total = 2\n[retention]\nmax_size = 'all'",
            9,
            "retention.max_size: 'all' is no size: write a number",
        ),
        ("total = 2", "total = 2\n[retention]", 8, "retention: says nothing: write older_than, max_size or both"),
        (
            "total = 2",
            "total = 2\n[retention]\nolder = '1d'",
            9,
            "retention.older: there is no such key; did you mean older",
        ),
        ("priority = 3", "precision = 'half'", 15, "job 'watch': "),
        (
            "priority = 3",
            "out = 's3://b/maps'",
            15,
            "job 'watch': out must be a folder on a disk; object stores receive",
        ),
        (
            "priority = 3",
            "improve_after = 10",
            20,
            "job 'watch': improve_after: '10' is not a time: write a number and",
        ),
        ("priority = 3", "improve_after = '36h'", 15, "job 'watch': improve_after must be whole days, from 1d to 366d"),
        (
            "priority = 3",
            "improve_after = '400d'",
            15,
            "job 'watch': improve_after must be whole days, from 1d to 366d",
        ),
        (
            "priority = 3",
            "after = 5\nimprove_after = '5d'",
            15,
            "job 'watch': improve_after must be whole days, more than after (5), from 1d to 366d",
        ),
        (
            "priority = 3",
            "past = 'none'\nimprove_after = '5d'",
            15,
            "job 'watch': improve_after learns from later looks",
        ),
        ("t2 = 2021-07-22", "t2 = 2021-07-22\nimprove_after = '5d'", 9, "job 'flood': improve_after waits for later"),
        ("priority = 3", "chunk = 0", 15, "job 'watch': the chunk size and the number of workers must be positive"),
        ("priority = 3", "search_days = 400", 15, "job 'watch': --search-days and --observed-days must be from 0 to"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, old, new, line, says):
    assert GOOD.count(old) == 1
    path = jobs_file(tmp_path, GOOD.replace(old, new))
    with pytest.raises(JobsError) as caught:
        read_jobs(path)
    assert len(caught.value.problems) == 1, caught.value.problems
    assert caught.value.problems[0].startswith(f"{path}:{line}: ")
    assert says in caught.value.problems[0]


def test_everything_wrong_is_said_at_once(tmp_path):
    path = jobs_file(tmp_path, GOOD.replace("priority = 3", "prio = 3").replace('"-12d"', '"x"'))
    with pytest.raises(JobsError, match=r"and 1 more: crgen batch check") as caught:
        read_jobs(path)
    assert [problem.split(":")[1] for problem in caught.value.problems] == ["18", "20"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[job]\n", r"jobs.toml:1: "),
        ("x = 1\n[[job]]\nname = 'a'\nname = 'b'\n", r"jobs.toml:4: "),
        ("", "there are no jobs: write at least one"),
        ("[job]\nname = 'a'", "for every job"),
        ("[defaults]\nname = 'a'\n[[job]]\n", "jobs.toml:2: name: every job needs its own"),
    ],
)
def test_what_is_no_jobs_file_is_refused(tmp_path, text, says):
    with pytest.raises(RequestError, match=says):
        read_jobs(jobs_file(tmp_path, text))


def test_lines_are_those_of_tables_and_keys_however_they_are_written():
    text = (
        "limits.total = 2\n[ deliver ] # where\n'to' = 'x'\n[deliver.storage_options]\nregion = 'eu'\n"
        '[[job]]\nname = "a"\nbands = [\n  "B2",\n  "B3"]\n[[ job ]]\n  "name"="b"\n'
    )
    lines = Lines(text)
    places = [("limits", "total"), ("deliver", "to"), ("deliver", "storage_options", "region"), ("job", 0, "bands")]
    assert [lines.of(place) for place in places] == [1, 3, 5, 8]
    assert [lines.of(("job", 1, key)) for key in ("name", "t1")] == [12, 11]


@pytest.mark.parametrize("section", ["[state]\nurl = 'postgresql://host/db'", "[state]\nlease = '60s'", ""])
def test_a_state_of_several_schedulers_is_told_where_to_go(tmp_path, monkeypatch, section):
    if not section:
        monkeypatch.setenv("CRGEN_BATCH_STATE", "sqlite:///state.sqlite")
    path = jobs_file(tmp_path, GOOD.replace("[limits]", section + "\n[limits]"))
    with pytest.raises(
        JobsError, match=r"is of the past: what was made is kept in jobs\.sqlite .* is taken over"
    ) as told:
        read_jobs(path)
    assert str(told.value).startswith(f"{path}:6: [state]" if section else f"{path}: CRGEN_BATCH_STATE")


def test_a_definition_changes_with_the_files_it_names(tmp_path):
    (tmp_path / "area.geojson").write_text("one")
    text = GOOD.replace('"113.50,34.70,113.503,34.703"', '"area.geojson"')
    before = [job.definition for job in read_jobs(jobs_file(tmp_path, text)).job]
    (tmp_path / "area.geojson").write_text("two")
    after = [job.definition for job in read_jobs(tmp_path / "jobs.toml").job]
    assert not set(before) & set(after)


def test_durations():
    seconds = [parse_duration(text).total_seconds() for text in ("90s", "15m", "1.5h", "12 d")]
    assert seconds == [90, 900, 5400, 12 * 86400]


def test_a_byte_order_mark_is_read(tmp_path):
    path = jobs_file(tmp_path, GOOD)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert [job.name for job in read_jobs(path).job] == ["flood", "watch"]
    path.write_bytes(path.read_bytes().replace(b'"36h"', b'"soon"'))
    with pytest.raises(RequestError, match=r"jobs\.toml:21: job 'watch': deadline"):
        read_jobs(path)


def test_a_moment_in_quotes_is_told_to_stand_without(tmp_path):
    path = jobs_file(tmp_path, GOOD.replace('"36h"', '"2027-03-28T02:30:00+01:00"'))
    with pytest.raises(RequestError, match=r'without quotes: write 2027-03-28T02:30:00\+01:00, not "'):
        read_jobs(path)


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    home = tmp_path / "home"
    (home / "weights").mkdir(parents=True)
    (home / "area.geojson").touch()
    (home / "weights" / "mine.safetensors").touch()
    monkeypatch.setenv("HOME", str(home))
    paths = (
        'out = "~/maps"\nweights = "~/weights/mine.safetensors"\naoi = "~/area.geojson"\ncredentials = "~/key.json"\n'
    )
    text = f'[log]\nfile = "~/log.json"\n[deliver]\nto = "~/there"\n[[job]]\nname = "a"\nsource = "~/stack"\n{paths}'
    file = read_jobs(jobs_file(tmp_path, text))
    [job] = file.job
    assert (job.out, job.source, job.credentials) == (str(home / "maps"), str(home / "stack"), str(home / "key.json"))
    assert (job.aoi, job.weights) == (str(home / "area.geojson"), str(home / "weights" / "mine.safetensors"))
    assert file.log.file == str(home / "log.json")
    assert file.deliver.to == str(home / "there")
