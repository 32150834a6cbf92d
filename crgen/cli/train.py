"""`crgen train` and `crgen evaluate`: train weights, and score them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from crgen.cli.console import console, note, progress

if TYPE_CHECKING:
    from crgen.model.generator import Generator
    from crgen.training.data.dataset import PatchDataset
    from crgen.training.job import Job
    from crgen.training.score.evaluate import Evaluation

DATA = (
    "[KIND:]PATH[,option=value…], e.g. the OMBRIA folder. An option of several items has + between them: "
    "file_bands=B4+B3+B2,s1_scale=0.1+-25."
)
Data = Annotated[
    list[str] | None,
    typer.Option(help=f"{DATA} Give it again to mix (weight=…)."),
]


def train(
    config: Annotated[
        Path | None, typer.Option(help="Configuration (TOML); options given beside it replace its fields.")
    ] = None,
    data: Data = None,
    out: Annotated[Path | None, typer.Option(help="Weights file to make, NAME.safetensors.")] = None,
    preset: Annotated[str | None, typer.Option(help="base, tiny or paper. (base)")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the optimiser.")] = None,
    batch: Annotated[int | None, typer.Option(help="Crops in a step, over all processes.")] = None,
    crop: Annotated[int | None, typer.Option(help="Side of a crop in pixels, a multiple of 32.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    ema: Annotated[float | None, typer.Option(help="Decay of the average of the weights.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.")] = None,
    precision: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        typer.Option(help="Precision of the networks; float16 on a GPU."),
    ] = None,
    perceptual: Annotated[
        str | None,
        typer.Option(help="VGG-19 of the perceptual loss: torchvision, a file, or none (without it). (torchvision)"),
    ] = None,
    start: Annotated[str | None, typer.Option(help="Weights to start from, by name or path.")] = None,
    validate_every: Annotated[int | None, typer.Option(help="Steps between scores on the validation data.")] = None,
    keep_best: Annotated[
        bool | None, typer.Option("--keep-best/--keep-last", help="Which averaged weights to save. (last)")
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Where to save the state to resume from. (NAME.checkpoint.pt beside OUT)"),
    ] = None,
    log: Annotated[Path | None, typer.Option(help="Folder of losses and pictures. (NAME.log beside OUT)")] = None,
    tensorboard: Annotated[bool | None, typer.Option("--tensorboard", help="Also log for TensorBoard.")] = None,
    picture_every: Annotated[int | None, typer.Option(help="Steps between sample pictures. (an epoch)")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that prepare batches. (0; on a GPU 8)")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")] = None,
) -> None:
    """Train a generator; run the same command again to resume.

    Several GPUs: torchrun --no-python --nproc-per-node N -- crgen train …
    """
    from crgen.model.weights import save_weights
    from crgen.training.data.kinds import parse_table
    from crgen.training.job import prepare, read_training_file
    from crgen.training.processes import leaving_processes
    from crgen.training.score.evaluate import Evaluation

    optimiser = {} if learning_rate is None else {"optimiser": {"learning_rate": learning_rate}}
    plain = {"steps": steps, "batch": batch, "crop": crop, "ema": ema, "seed": seed, "precision": precision}
    plain |= {"validate_every": validate_every, "keep_best": keep_best}
    flags: dict[str, Any] = {
        "recipe": optimiser | {name: value for name, value in plain.items() if value is not None},
        "data": [parse_table(text) for text in data] if data else None,
        "preset": preset, "out": out, "perceptual": perceptual, "start": start, "checkpoint": checkpoint, "log": log,
        "tensorboard": tensorboard, "picture_every": picture_every, "workers": workers, "device": device,
    }  # fmt: skip
    file = read_training_file(config, flags)
    with leaving_processes():
        job = prepare(file)
        generator = _trained(job)
    if not job.trainer.processes.first:
        return
    scores = Evaluation() if job.validation is None else score(generator, job.validation)
    count_skipped([*job.skipped, *job.trainer.skipped, *scores.skipped])
    card = save_weights(job.out, generator, job.card(scores.means(region="all")))
    console.print(f"{job.out} {card.tensors_sha256}")


def _trained(job: Job) -> Generator:
    """Train, and return the generator; the first of several processes prints progress and notes."""
    trainer = job.trainer
    if not trainer.processes.first:
        return trainer.run()
    for line in (*(f"skipped: {line}" for line in job.skipped), *job.notes):
        note(line)
    mean, told = None, 0
    with progress("training", "steps") as report:

        def on_step(step: int, values: dict[str, float]) -> None:
            nonlocal mean, told
            mean = values["loss"] if mean is None else 0.98 * mean + 0.02 * values["loss"]
            report(step, trainer.steps, f"loss {mean:.4f}")
            for line in list(trainer.skipped)[told:]:
                note(f"skipped: {line}")
            told = len(trainer.skipped)

        return trainer.run(on_step)


def evaluate(
    data: Annotated[str | None, typer.Option(help=DATA)] = None,
    config: Annotated[
        Path | None, typer.Option(help="Training configuration: score on its validation data instead.")
    ] = None,
    weights: Annotated[str, typer.Option(help="Name (see 'crgen models') or path of the weights.")] = "base",
    painted: Annotated[
        list[float] | None, typer.Option(help="Share of t1 to paint clouds on; give again for more. (0.3)")
    ] = None,
    seen: Annotated[
        list[float] | None, typer.Option(help="Share of t2 to show; give again for more. (0.1, 0.3)")
    ] = None,
    fid: Annotated[Path | None, typer.Option(help="Inception network (TorchScript): also compute FID.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the tables (scores.md, scores.csv) and pictures (samples.png).")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Score weights on held-out data beside copying t1, as Markdown tables."""
    from crgen.errors import RequestError
    from crgen.model.device import pick_device
    from crgen.model.weights import load_model
    from crgen.training.data.dataset import left_out
    from crgen.training.data.kinds import held_out_spec, open_data
    from crgen.training.job import open_validation, read_training_file
    from crgen.training.score.evaluate import Condition
    from crgen.training.score.scoring import Scoring

    if (data is None) == (config is None):
        raise RequestError("scoring needs data: give either --data or --config")
    model = load_model(weights, pick_device(device))
    channels = model.card.config.pols, model.card.config.bands
    if data is not None:
        opened: PatchDataset | None = open_data(held_out_spec(data), *channels)
    else:
        opened = open_validation(read_training_file(config, {}), *channels)
    if opened is None:
        raise RequestError(f"{config} names no validation data, and its data have no held-out part")
    for line in left_out(opened):
        note(f"skipped: {line}")
    conditions = [Condition("as it is")]
    conditions += [Condition(f"{share:.0%} cloud painted on t1", painted=share) for share in painted or [0.3]]
    conditions += [Condition(f"{share:.0%} of t2 seen", seen=share) for share in seen or [0.1, 0.3]]
    scoring = Scoring(opened, tuple(conditions), fid=fid, out=out)
    with progress("scoring", "patches") as report:
        text = scoring.run(model.generator, report)
    count_skipped(scoring.skipped)
    console.print(text)


def count_skipped(lines: list[str]) -> None:
    """Print how many samples were skipped as missing or damaged, each counted once, if any were."""
    if lines:
        note(f"skipped as missing or damaged: {len(set(lines))}")


def score(generator: Generator, data: PatchDataset) -> Evaluation:
    """Print a generator's scores and return them."""
    from crgen.training.score.evaluate import evaluate
    from crgen.training.score.report import as_markdown

    with progress("scoring", "patches") as report:
        results = evaluate(generator, data, on_sample=report)
    console.print(as_markdown(results))
    return results
