"""Reduced precision is used where the hardware has it and the result hardly moves, and nowhere else."""

from typing import Any

import pytest
import torch

from crgen.errors import RequestError
from crgen.model import device
from crgen.model.config import preset
from crgen.model.device import Drift, Precision, computing_in, measure_drift, pick_precision
from crgen.model.generator import Generator, Prediction
from tests.model.scenes import trained

SIDE = 64


@pytest.fixture(scope="module")
def generator() -> Generator:
    return trained(preset("tiny"))


class Delicate(Generator):
    """A generator whose result is a small difference of large products: reduced precision destroys it."""

    def __init__(self) -> None:
        super().__init__(preset("tiny"))

    def generate(self, s1_t1: torch.Tensor, s2_t1: torch.Tensor, *more: Any, **known: Any) -> Prediction:
        known = s2_t1.clamp(0, 1)
        large = known @ torch.eye(known.shape[-1]) * 1000
        return Prediction(large - known * 1000)


@pytest.fixture
def native_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor that multiplies bfloat16 by itself."""
    monkeypatch.setattr(device, "native_precision", lambda device: "bfloat16")


def test_drift_is_what_changes_in_the_reflectance(generator: Generator) -> None:
    drift = measure_drift(generator, "bfloat16", SIDE)
    assert 0 < drift.rms < drift.maximum < 0.1
    windows = device.fixed_windows(generator, SIDE)
    with torch.inference_mode():
        exact = generator(*windows).reflectance
        with computing_in("bfloat16", "cpu"):
            reduced = generator(*windows).reflectance
    assert float((exact - reduced).abs().max()) == pytest.approx(drift.maximum, rel=0.05)


@pytest.mark.usefixtures("native_bfloat16")
def test_auto_takes_what_the_hardware_has_within_the_bounds_and_float32_beyond(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "measure_drift", lambda *_: Drift(device.MAX_DRIFT, device.RMS_DRIFT))
    assert pick_precision("auto", generator, SIDE).name == "bfloat16"
    monkeypatch.setattr(device, "measure_drift", lambda *_: Drift(device.MAX_DRIFT * 1.1, 0.0))
    assert pick_precision("auto", generator, SIDE) == Precision("float32")
    monkeypatch.setattr(device, "measure_drift", lambda *_: Drift(torch.nan, torch.nan))
    assert pick_precision("auto", generator, SIDE) == Precision("float32")


@pytest.mark.usefixtures("native_bfloat16")
def test_a_generator_that_cannot_bear_it_is_left_in_float32_and_refused_by_name_otherwise() -> None:
    assert not measure_drift(Delicate(), "bfloat16", SIDE).small
    assert pick_precision("auto", Delicate(), SIDE) == Precision("float32")
    with pytest.raises(RequestError, match=r"in bfloat16 .* drifts by .* use --precision float32"):
        pick_precision("bfloat16", Delicate(), SIDE)


def test_float32_is_taken_at_its_word(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "measure_drift", lambda *_: pytest.fail("nothing to measure"))
    assert pick_precision("float32", generator, SIDE) == Precision("float32")
    monkeypatch.setattr(device, "native_precision", lambda device: None)
    assert pick_precision("auto", generator, SIDE) == Precision("float32")


def test_drift_does_not_depend_on_the_number_of_threads(generator: Generator) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        two = measure_drift(generator, "bfloat16", SIDE)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert two == measure_drift(generator, "bfloat16", SIDE)
