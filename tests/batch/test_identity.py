"""What was made stays made: neither a new option nor other shipped weights make a product due again."""

import dataclasses
import datetime
import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch

from crgen.batch.dry_run import plan_jobs
from crgen.batch.jobs.job import Job, Limits
from crgen.batch.jobs.jobs_file import read_jobs
from crgen.batch.schedule import worker
from crgen.batch.schedule.messages import Nothing, Order
from crgen.files import files_identity, stack_files
from crgen.model import find, weights
from crgen.model.build import build_generator
from crgen.model.find import read_card
from crgen.model.weights import load_model, save_weights
from crgen.pipeline.request import FillRequest
from crgen.pipeline.run import fingerprint
from crgen.pipeline.run.fingerprint import IMMATERIAL, OPTIONS, OPTIONS_SINCE, identity_of
from crgen.pipeline.run.plan import Plan, lay_out, settings_of
from crgen.pipeline.source.stack import manifest_of, stack_geobox
from tests.batch.old_state import old_state

TODAY = datetime.date(2021, 7, 23)
ONE = '[[job]]\nname = "a"\n'


def digest(*things: object) -> str:
    return hashlib.sha256(json.dumps(things, sort_keys=True, default=str).encode()).hexdigest()


def grid(geobox) -> list[object]:
    return [str(geobox.crs), [float(v) for v in geobox.affine[:6]], [int(n) for n in geobox.shape]]


def identity_in_0_1_0(request: FillRequest, work: Plan) -> str:
    """Version 0.1.0's own, to the letter."""
    left_out = ("out", "overwrite", "restart", "scheduler", "workers", "earth_engine")
    settings = {name: value for name, value in dataclasses.asdict(request).items() if name not in left_out}
    settings |= {"t1": work.scene.t1.isoformat(), "t2": work.scene.t2.isoformat()}
    settings |= {"device": work.device, "precision": request.precision, "batch": 1, "window": work.model.card.window}
    for immaterial in ("aoi", "layer", "source", "weights", "crs", "device", "precision", "batch", "chunk"):
        del settings[immaterial]
    for later in (*OPTIONS_SINCE, "past", "after"):
        del settings[later]
    manifest = manifest_of(work.scene.stack)
    inputs = [manifest, grid(stack_geobox(work.scene.stack)), stack_files(request.source)]
    area = work.scene.area
    return digest(work.model.sha256, grid(area.geobox), area.polygon.wkb_hex, settings, inputs)


def definition_in_0_1_0(asked: Job) -> str:
    """Version 0.1.0's own; it knew no other options."""
    known = {
        "name", "aoi", "t1", "t2", "event", "out", "source", "weights", "device", "precision", "crs", "clip",
        "generate_all", "dtype", "clear_threshold", "s1_units", "s2_scale", "chunk", "workers", "scheduler", "project",
        "credentials", "search_days", "observed_days", "min_coverage", "no_cache", "priority", "deadline", "retries",
        "retry_wait",
    }  # fmt: skip
    area = Path(asked.aoi).read_bytes() if asked.aoi and Path(asked.aoi).is_file() else b""
    tensors = files_identity(Path(asked.weights)) if Path(asked.weights).is_file() else []
    options = {name: value for name, value in dict(asked).items() if name in known}
    text = [options, hashlib.sha256(area).hexdigest(), stack_files(asked.source), tensors]
    return hashlib.sha256(json.dumps(text, sort_keys=True, default=str).encode()).hexdigest()


def made_by_0_1_0(path: Path, status: str = "done") -> str:
    """Write the state that version 0.1.0 left of the one job of a file; return the product's identity."""
    [asked] = read_jobs(path).job
    request = asked.request(asked.t1, asked.t2, None)
    identity = identity_in_0_1_0(request, lay_out(request))
    told = {"name": asked.name, "definition": definition_in_0_1_0(asked), "status": status, "product": "old.tif"}
    made = {"job": asked.name, "identity": identity, "status": status, "product": "old.tif"}
    old_state(
        path,
        jobs=[told],
        runs=[made | {"t1": str(asked.t1), "t2": str(asked.t2), "found_at": 0.0, "manifest": "null"}],
    )
    return identity


def what_becomes(path: Path, identity: str, folder: Path) -> object:
    """Return what the process of the job says, without letting it make anything."""
    [asked] = read_jobs(path).job
    order = Order(asked, None, frozenset({identity}), TODAY, folder / "log", 1, None, Limits())

    def tell(found: object) -> None:
        raise MadeAgainError

    try:
        return worker._do(order, tell)
    except MadeAgainError:
        return "made again"


class MadeAgainError(Exception):
    pass


@pytest.fixture
def shipped(tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ship small weights as ``base``; return the digests of all that :func:`ship_others` will ship."""
    folder = tmp_path / "shipped"
    folder.mkdir()
    shutil.copy(tiny_weights, folder / "base.safetensors")
    monkeypatch.setattr(find, "SHIPPED", folder)
    digests = [read_card(tiny_weights).tensors_sha256]
    monkeypatch.setattr(weights, "SHIPPED_DIGESTS", {"base": dict.fromkeys(digests, 64)})
    return digests


def ship_others() -> None:
    """Ship other weights under the same name, as a new version of crgen does; their windows are wider."""
    path = find.SHIPPED / "base.safetensors"
    card = read_card(path)
    torch.manual_seed(1)
    save_weights(path, build_generator(card.config, 1), card.model_copy(update={"window": 128}))


@pytest.mark.parametrize(
    "options", ["", "clip = true\ndtype = 'float32'\n", "clear_threshold = 0.5\ngenerate_all = true\ns2_scale = 1e-4\n"]
)
def test_identities_and_definitions_are_those_of_0_1_0(write, options):
    [asked] = read_jobs(write(ONE + options)).job
    request = asked.request(asked.t1, asked.t2, None)
    work = lay_out(request)
    assert identity_of(request, work) == identity_in_0_1_0(request, work)
    assert asked.definition == definition_in_0_1_0(asked)


def test_an_option_that_is_added_changes_an_identity_only_where_it_is_used(write, monkeypatch):
    [asked] = read_jobs(write(ONE)).job
    request = asked.request(asked.t1, asked.t2, None)
    work = lay_out(request)
    before = identity_of(request, work)
    used = {"smooth": 0}
    monkeypatch.setattr(fingerprint, "settings_of", lambda request, work: settings_of(request, work) | used)
    assert identity_of(request, work) == before, "nobody said that it decides anything"
    monkeypatch.setitem(OPTIONS_SINCE, "smooth", 0)
    assert identity_of(request, work) == before
    used["smooth"] = 3
    assert identity_of(request, work) != before


def test_an_option_that_is_added_to_jobs_changes_a_definition_only_where_it_is_used(write):
    class Later(Job):
        smooth: int = 0

    [asked] = read_jobs(write(ONE)).job
    same, other = (Later(**dict(asked), **used) for used in ({}, {"smooth": 3}))
    assert same.definition == asked.definition
    assert other.definition != asked.definition


def test_of_every_option_it_is_known_whether_it_decides_what_a_product_shows():
    counted = {*OPTIONS, *OPTIONS_SINCE} - {"window"}
    assert counted | set(IMMATERIAL) == {f.name for f in dataclasses.fields(FillRequest)}
    assert not counted & set(IMMATERIAL)


@pytest.mark.parametrize("status", ["done", "failed"])
def test_what_0_1_0_made_is_not_due_again(write, tmp_path, status):
    path = write(ONE)
    identity = made_by_0_1_0(path, status)
    assert [planned.what for planned in plan_jobs(path)] == [f"nothing new: {status}"]
    assert what_becomes(path, identity, tmp_path) == Nothing(identity)


def test_other_shipped_weights_make_nothing_due_again(write, tmp_path, shipped):
    path = write(ONE, weights="base")
    identity = made_by_0_1_0(path)
    ship_others()
    assert load_model("base").sha256 not in shipped
    assert what_becomes(path, identity, tmp_path) == Nothing(identity)
    assert [planned.what for planned in plan_jobs(path)] == ["nothing new: done"]


def test_other_shipped_weights_make_a_job_due_again_that_asks_for_it(write, tmp_path, shipped):
    path = write(ONE + "remake_for_new_weights = true\n", weights="base")
    identity = made_by_0_1_0(path)
    assert what_becomes(path, identity, tmp_path) == Nothing(identity), "the same weights made it"
    [before] = read_jobs(path).job
    held = before.definition
    ship_others()
    assert what_becomes(path, identity, tmp_path) == "made again"
    assert before.definition != held, "what is settled is looked at again"


def test_other_weights_of_a_person_make_another_product(write, tmp_path, tiny_weights):
    mine = tmp_path / "mine.safetensors"
    shutil.copy(tiny_weights, mine)
    path = write(ONE, weights=str(mine))
    identity = made_by_0_1_0(path)
    card = read_card(mine)
    save_weights(mine, build_generator(card.config, 1), card)
    assert what_becomes(path, identity, tmp_path) == "made again"


def test_all_shipped_weights_are_known_by_their_digest():
    """What was shipped once stays in the list, or the maps made with it would be due again."""
    for path in find.SHIPPED.glob("*.safetensors"):
        card = read_card(path)
        assert weights.SHIPPED_DIGESTS[path.stem][card.tensors_sha256] == card.window, "add it to SHIPPED_DIGESTS"
