"""What a run of the scheduler hands on: products and lists to where they are delivered, news to people."""

import base64
import json
import socket
import sys
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path

from crgen.batch.jobs.jobs_file import read_jobs
from crgen.batch.schedule.afterwards import look_after
from tests.batch.schedulers import in_process, state_of, terminate, until

JOBS = """
[limits]
total = 3
per_device = 3
[deliver]
to = "{place}"
[notify]
urls = ["json://{address}/hook"]
[[job]]
name = "good"
[[job]]
name = "bad"
aoi = "nowhere.geojson"
[[job]]
name = "unlucky"
"""


def test_products_arrive_whole_and_people_hear_what_they_can_use(write, webhook, tmp_path):
    address, posted, _ = webhook
    place = tmp_path / "delivered"
    path = write(JOBS.format(place=place.as_uri(), address=address), retry_wait="1h")
    assert in_process(path, POISONED="unlucky").counts == {"done": 1, "failed": 1, "retry": 1}

    made = Path(state_of(path).jobs()["good"]["product"])
    there = {file: file.stat().st_ctime_ns for file in (place / "good").iterdir()}
    assert {file.name for file in there} == {file.name for file in made.parent.iterdir()}
    item = place / "good" / made.with_suffix(".json").name
    assert there[item] == max(there.values()), "the item comes last, as far as the clock tells"
    assert all(file.read_bytes() == (made.parent / file.name).read_bytes() for file in there)
    links = json.loads((place / "collection.json").read_text())["links"]
    assert [link["href"] for link in links if link["rel"] == "item"] == [f"./good/{item.name}"]
    assert made.stem in (place / "index.html").read_text()

    told = {message["title"]: message for message in (posted.get_nowait()[1] for _ in range(posted.qsize()))}
    assert told.keys() == {"crgen: good done", "crgen: bad failed"}, "a passing fault wakes nobody"
    good, bad = told["crgen: good done"], told["crgen: bad failed"]
    assert (good["type"], good["message"].splitlines()[0]) == ("success", str(made))
    assert base64.b64decode(good["attachments"][0]["base64"]) == made.with_suffix(".png").read_bytes()
    assert bad["type"] == "failure"
    assert "there is no file 'nowhere.geojson'" in bad["message"]
    assert bad["attachments"] == []

    assert in_process(path, POISONED="unlucky").counts == {}
    assert posted.empty(), "nobody hears of it twice"


def test_a_scheduler_that_is_stopped_still_sends_the_messages_about_what_is_done(write, start, webhook, tmp_path):
    address, posted, _ = webhook
    path = write(
        f'[notify]\nurls = ["json://{address}/hook"]\n[[job]]\nname = "quick"\npriority = 1\n'
        '[[job]]\nname = "long"\naoi = "113.50,34.70,113.52,34.72"\nchunk = 64\n'
    )
    scheduler = start(path)
    until(scheduler, lambda: list(tmp_path.glob("products/long/.*.scratch/*.part")))
    terminate(scheduler)
    assert {name: row["status"] for name, row in state_of(path).jobs().items()} == {"quick": "done", "long": "stopped"}
    assert [message["title"] for _, message in list(posted.queue)] == ["crgen: quick done"]


def test_a_message_that_could_not_be_sent_is_sent_later_to_the_urls_that_missed_it(write, webhook, tmp_path):
    address, posted, handler = webhook
    with socket.create_server(("127.0.0.1", 0)) as free:
        away = f"127.0.0.1:{free.getsockname()[1]}"
    jobs = '[notify]\nurls = ["json://{there}/there", "json://{away}/away"]\n[[job]]\nname = "a"\n'
    path = write(jobs.format(there=address, away=away))
    assert in_process(path).counts == {"done": 1}
    first = posted.get_nowait()
    assert posted.empty()
    [owed] = state_of(path).untold()

    write(jobs.format(there=address, away=away))
    assert in_process(path).counts == {}
    assert posted.empty(), "who knows it is not told again"
    host, port = away.split(":")
    with ThreadingHTTPServer((host, int(port)), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        in_process(path)
        server.shutdown()
    assert state_of(path).untold() == []
    where, message = posted.get_nowait()
    assert (first[0], where) == ("/there", "/away")
    assert message["message"] == first[1]["message"]
    assert message["message"].endswith(f"message {owed['id']}"), "by which it is known if it comes twice"


def test_products_are_listed_without_the_libraries_of_the_extra_batch(write, make_product, tmp_path, monkeypatch):
    path = write('[[job]]\nname = "a"\n')
    make_product(tmp_path / "products" / "a")
    for name in ("apprise", "obstore", "prometheus_client", "pythonjsonlogger", "pythonjsonlogger.json"):
        monkeypatch.setitem(sys.modules, name, None)
    look_after(path, read_jobs(path), 0)
    assert "map" in (tmp_path / "products" / "index.html").read_text()


def test_a_list_that_could_not_be_delivered_comes_next_time(write, tmp_path):
    path = write('[deliver]\nto = "there"\n[metrics]\ntextfile = "metrics/crgen.prom"\n[[job]]\nname = "a"\n')
    (tmp_path / "metrics").touch()
    assert in_process(path).counts == {"done": 1}
    (tmp_path / "there" / "collection.json").unlink()
    (tmp_path / "metrics").unlink()
    assert in_process(path).counts == {}
    assert 'crgen_jobs{state="done"} 1.0' in (tmp_path / "metrics" / "crgen.prom").read_text()
    assert len(json.loads((tmp_path / "there" / "collection.json").read_text())["links"]) == 1
    (tmp_path / "there" / "collection.json").unlink()
    in_process(path)
    assert not (tmp_path / "there" / "collection.json").exists(), "nothing changed since"
