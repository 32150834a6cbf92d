"""`crgen pull`: fetch an area's imagery from Earth Engine, for use offline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from crgen.cli.console import console, note, print_fields, progress
from crgen.cli.options import fetching, past_line, takes, water_line
from crgen.pipeline.request import NONE, YEAR, EarthEngine, parse_bands, parse_date

if TYPE_CHECKING:
    from crgen.gee.fetch.export import Export
    from crgen.pipeline.pull import PullRequest


@takes(EarthEngine)
def pull(
    out: Annotated[Path, typer.Option(help="What to make: NAME.zarr, NAME.nc, or the name of a folder for GeoTIFFs.")],
    aoi: Annotated[
        str | None, typer.Option(help="Area: GeoJSON or other vector file, or west,south,east,north in degrees.")
    ] = None,
    layer: Annotated[str | None, typer.Option(help="Layer of the area's file, where several hold polygons.")] = None,
    t1: Annotated[
        str | None,
        typer.Option(help="Day of the earlier images, YYYY-MM-DD. (none: t2 alone, for no map)"),
    ] = None,
    t2: Annotated[str | None, typer.Option(help="Day to map, YYYY-MM-DD.")] = None,
    weights: Annotated[str, typer.Option(help="Weights whose bands and margin to fetch.")] = "base",
    pols: Annotated[str, typer.Option(help="Polarisations instead, e.g. VV,VH.")] = "",
    bands: Annotated[str, typer.Option(help="Sentinel-2 bands instead, e.g. B2,B3,B4,B8, or all.")] = "",
    past: Annotated[
        str | None,
        typer.Option(help="Fetch other looks at the place to learn from, as far back as 1y, 90d …; or none. (1y)"),
    ] = None,
    after: Annotated[int, typer.Option(help="Days after t2 within which looks tell of its light.")] = 0,
    dtype: Annotated[
        Literal["float32", "uint16"],
        typer.Option(help="Sentinel-2 as reflectance, or × 10000, with its scale; radar is dB, float32."),
    ] = "float32",
    crs: Annotated[str | None, typer.Option(help="Grid, e.g. EPSG:32650. (the area's UTM zone)")] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="Use the scenes of a manifest or of a product's .json again.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Choose scenes and say what fetching them would cost; write nothing.")
    ] = False,
    export: Annotated[
        Literal["drive", "gcs"] | None,
        typer.Option(help="Have Earth Engine export GeoTIFFs in batch instead; run again to see how it goes."),
    ] = None,
    to: Annotated[str, typer.Option(help="The Drive folder, or BUCKET or BUCKET/FOLDER of Cloud Storage.")] = "crgen",
    wait: Annotated[
        bool, typer.Option("--wait", help="Stay until the exports have ended, and show how far they are.")
    ] = False,
    exported: Annotated[
        Path | None, typer.Option(help="Folder into which finished exports were downloaded: make OUT from it.")
    ] = None,
    **earth_engine: Any,
) -> None:
    """Fetch radar and optical imagery of an area and two dates; 'crgen fill --source OUT' maps it later.

    With --t2 alone, of that one date.
    """
    from crgen.errors import RequestError
    from crgen.files import size_text
    from crgen.gee.fetch.export import Destination
    from crgen.pipeline.pull import PullRequest, export_state, import_export, plan_pull, run_export, run_pull
    from crgen.pipeline.source.registration import radar_shift

    if sum((dry_run, export is not None, exported is not None)) > 1:
        raise RequestError("--dry-run, --export and --exported do different things: give one of them")
    if wait and export is None:
        raise RequestError("--wait is for exports: give --export too, or leave it out")
    if (past is not None or after) and (export is not None or exported is not None):
        raise RequestError("exports hold the dates alone: leave out --past and --after")
    if (past not in (None, NONE) or after) and t1 is None and manifest is None:
        raise RequestError("one date alone has no past to learn from: give --t1 too, or leave out --past and --after")
    request = PullRequest(
        out=out,
        aoi=aoi,
        layer=layer,
        t1=parse_date(t1, "t1"),
        t2=parse_date(t2, "t2"),
        crs=crs,
        weights=weights,
        pols=tuple(filter(None, pols.upper().replace(" ", "").split(","))),
        bands=parse_bands(bands) or (),
        past=past or YEAR,
        after=after,
        dtype=dtype,
        earth_engine=EarthEngine(**earth_engine, manifest=manifest),
    )
    if export is not None:
        if export == "gcs" and to == "crgen":
            raise RequestError("--export gcs needs --to BUCKET or BUCKET/PATH")
        done = run_export(request, Destination(kind=export, place=to))
        if wait:
            done = _waited_for(request)
        for one in done:
            text = f"{one.variable:6}  {one.state.lower():12}  {one.files}*.tif  {one.message}"
            console.print(text.rstrip())
        if all(one.state == "SUCCEEDED" for one in done):
            note(f"all done: download the files from {export} '{to}', then crgen pull --exported FOLDER --out {out}")
        else:
            note(f"run the same command again to see how they go; what was started is in {export_state(out)}")
        return
    if exported is not None:
        import_export(request, exported)
        console.print(str(out))
        return
    if dry_run:
        plan = plan_pull(request)
        _tell(plan)
        rows, columns = plan.pull.geobox.shape
        lessons = None if plan.acquired.lessons is None else plan.acquired.lessons.pull
        fields = {
            "area": f"{plan.acquired.area.name}, {plan.pull.geobox.crs}, with its margin",
            "pixels": f"{columns} × {rows} = {rows * columns:,}",
            **fetching(plan.pulls),
            "past": past_line(plan.acquired.stack, plan.pull, lessons),
            "water": water_line(plan.acquired.water, "among them"),
            "disk": f"at most {size_text(plan.disk)} more for {out}",
        }
        print_fields(fields)
        return
    with progress("fetching", "tiles") as report:
        plan = run_pull(request, report)
    stack = plan.acquired.stack
    _tell(plan, radar_shift(stack) if "s1_t1" in stack else None)
    console.print(str(out))


def _waited_for(request: PullRequest) -> list[Export]:
    """Return the exports of a pull once they have ended."""
    from crgen.pipeline.pull import follow_export

    with progress("exporting", "%") as report:
        try:
            return follow_export(request, lambda share, text: report(round(100 * share), 100, text))
        except BaseException as error:
            error.add_note("what is under way at Earth Engine goes on; the same command shows how it goes")
            raise


def _tell(plan, shift=None) -> None:  # type: ignore[no-untyped-def]
    """Print the coverage of each variable, and notes."""
    from crgen.pipeline.source.imagery import radar_line

    manifest, dates = plan.acquired.manifest, plan.acquired.manifest.dates
    for name, share in manifest.coverage.items():
        days = ", ".join(dict.fromkeys(scene.time.date().isoformat() for scene in manifest.scenes.get(name, ())))
        print_fields({name: f"{100 * share:.1f} % of the area  {days}" if share else "none"})
    if "t1" in dates:
        print_fields({"radar": radar_line(manifest.days, dates["t1"], dates["t2"], manifest.platforms, shift)})
    for text in (*plan.acquired.area.notes, *manifest.notes, *plan.acquired.notes, *(shift.warnings if shift else ())):
        note(text)
