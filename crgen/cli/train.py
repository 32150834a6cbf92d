"""`crgen train` and `crgen evaluate`: make weights, and score them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

import typer

from crgen.cli.console import console, note, progress

Data = Annotated[Path, typer.Option(help="The OMBRIA folder, with OmbriaS1 and OmbriaS2 in it.")]


def train(
    data: Data,
    out: Annotated[Path, typer.Option(help="Weights file to make, NAME.safetensors.")],
    preset: Annotated[str, typer.Option(help="base, tiny or paper.")] = "base",
    steps: Annotated[int, typer.Option(help="Steps of the optimiser.")] = 3600,
    batch: Annotated[int, typer.Option(help="Crops in a step.")] = 8,
    crop: Annotated[int, typer.Option(help="Side of a crop in pixels, a multiple of 32.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-3,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Seed of everything random.")] = 0,
    precision: Annotated[
        Literal["float32", "bfloat16"], typer.Option(help="float32, or bfloat16 where the processor has it.")
    ] = "float32",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Where to save the state to resume from. [NAME.checkpoint.pt beside OUT]"),
    ] = None,
) -> None:
    """Train a generator on OMBRIA's training split; run the same command again to resume."""
    from crgen.errors import OutputError, RequestError
    from crgen.model.config import preset as find_preset
    from crgen.model.train import Trainer, TrainSettings
    from crgen.model.weights import save_weights
    from crgen.pipeline.files import check_writable
    from crgen.pipeline.ombria import BANDS, POLS, Ombria, card_for
    from crgen.pipeline.predict import pick_device

    if crop < 32 or crop % 32 or steps < 1 or batch < 1:
        raise RequestError("the crop must be a multiple of 32, steps and batch at least 1")
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise RequestError(f"the learning rate is {learning_rate}; give a positive number, e.g. 1e-3")
    if out.suffix != ".safetensors":
        raise OutputError(f"the weights file '{out}' must end in .safetensors")
    config = find_preset(preset, pols=POLS, bands=BANDS)
    settings = TrainSettings(
        steps=steps, batch=batch, crop=crop, learning_rate=learning_rate, seed=seed, precision=precision
    )
    place = pick_device(device)
    state = checkpoint or out.with_name(out.stem + ".checkpoint.pt")
    for path in (out, state):
        check_writable(path.parent)
        if path.is_dir():
            raise OutputError(f"cannot write {path}: a folder of that name is in the way; choose another name")
    trainer = Trainer(config, settings, Ombria(data, "train"), checkpoint=state, device=place)
    if trainer.step:
        note(f"resuming {state} at step {trainer.step}")
    mean = None
    with progress("training", "steps") as report:

        def on_step(step: int, loss: float) -> None:
            nonlocal mean
            mean = loss if mean is None else 0.98 * mean + 0.02 * loss
            report(step, steps, f"loss {mean:.4f}")

        generator = trainer.run(on_step)
    held_out = _score(generator, data)
    card = save_weights(out, generator, card_for(out.stem, preset, config, settings, held_out))
    console.print(f"{out} {card.tensors_sha256}", highlight=False, markup=False)


def evaluate(
    data: Data,
    weights: Annotated[str, typer.Option(help="Name (see 'crgen models') or path of the weights.")] = "base",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Score weights on OMBRIA's test split beside copying t1, as a Markdown table."""
    from crgen.model.weights import load_model
    from crgen.pipeline.predict import pick_device

    _score(load_model(weights, pick_device(device)).generator, data)


def _score(generator, data: Path):  # type: ignore[no-untyped-def]
    from crgen.model.evaluate import as_markdown, evaluate
    from crgen.pipeline.ombria import Ombria

    with progress("scoring", "patches") as report:
        results = evaluate(generator, Ombria(data, "test"), on_sample=report)
    console.print(as_markdown(results), highlight=False, markup=False)
    return results
