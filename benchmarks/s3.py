"""One band of a Sentinel-2 tile on object storage: three ways to read it, near and far.

Run ``python -m benchmarks.s3``. The storage is SeaweedFS on loopback; *far* is the same behind a
proxy in a process of its own, with 30 ms to every request and 20 MB/s to every connection, which is
what the Copernicus Data Space grants. The ways: GDAL's own /vsis3/ in strips; byte ranges through
this package's reader; a local copy of the whole file. Wanted are the parcels of the whole tile, or
those of its north-west corner: from a twentieth to half of its rows and columns.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rasterio
import shapely
from rasterio.windows import Window

from benchmarks import workload
from benchmarks.harness import Report, Timing, main, measure
from cbm_core.settings import StorageSettings
from cbm_extract.plan.runs import Runs
from cbm_extract.read import staging
from cbm_extract.read.ahead import Decoder
from cbm_extract.read.strips import open_band
from cbm_extract.scene import BandAsset
from tests import seaweed

DELAY, RATE = 0.03, 20e6
NEEDS = {"1/20": 0.05, "1/10": 0.1, "1/4": 0.25, "1/2": 0.5, "whole": 1.0}


def _run(arguments: argparse.Namespace, report: Report) -> None:
    forms = arguments.forms.split(",")
    files = {
        form: workload.band_file(arguments.folder, "B04", form, arguments.texture, arguments.seed)
        for form in forms
    }
    wanted = {
        need: _runs(arguments, share)
        for need, share in NEEDS.items()
        if need in arguments.needs.split(",")
    }
    report.workload = {
        "files": ", ".join(
            f"{form} {path.stat().st_size / 1e6:.0f} MB" for form, path in files.items()
        ),
        "parcels": arguments.count,
        "far": f"{DELAY * 1000:.0f} ms, {RATE / 1e6:.0f} MB/s per connection",
    }
    with seaweed.server() as store, tempfile.TemporaryDirectory() as folder, _far(store) as far:
        hrefs = {}
        for form, path in files.items():
            hrefs[form] = f"s3://{store.bucket}/b04.{form}"
            store.client().upload_file(str(path), store.bucket, f"b04.{form}")
        cases = _cases(store, Path(folder), far, hrefs, wanted)
        timings = {name: Timing() for name in cases}
        for _ in range(arguments.rounds):
            for name, case in cases.items():
                timings[name].samples.append(measure(case))
        report.timings(timings)
    _compare(report, timings, forms, list(wanted))


def _runs(arguments: argparse.Namespace, share: float) -> Runs:
    polygons = workload.parcels(arguments.count, arguments.seed)
    centres = shapely.centroid(polygons)
    side = workload.SIDE * share
    inside = (shapely.get_x(centres) < workload.WEST + side) & (
        shapely.get_y(centres) > workload.NORTH - side
    )
    return workload.runs(polygons[inside], workload.placement())


def _cases(
    store: seaweed.Seaweed, folder: Path, far: str, hrefs: dict[str, str], wanted: dict[str, Runs]
) -> dict[str, Callable[[], object]]:
    cases: dict[str, Callable[[], object]] = {}
    for form, href in hrefs.items():
        for place, endpoint in (("near", store.url), ("far", far)):
            for need, runs in wanted.items():
                for way, limit in (("vsis3", 0), ("ranges", 0), ("copy", 4096)):
                    settings = store.settings(
                        folder,
                        endpoint=endpoint,
                        staging_folder=str(folder),
                        staging_limit_mb=limit,
                    )
                    read = _gdal if way == "vsis3" else _band

                    def case(read=read, settings=settings, href=href, runs=runs) -> None:
                        staging.prepare(settings)
                        _tell_gdal(settings)
                        read(href, runs)

                    cases[f"{form} {place} {need}: {way}"] = case
    return cases


def _tell_gdal(settings: StorageSettings) -> None:
    os.environ |= {
        "AWS_S3_ENDPOINT": str(settings.endpoint).removeprefix("http://"),
        "AWS_HTTPS": "NO",
        "AWS_VIRTUAL_HOSTING": "FALSE",
        "AWS_REGION": settings.region,
        "CPL_AWS_CREDENTIALS_FILE": str(settings.credentials_file),
    }


def _band(href: str, runs: Runs) -> None:
    # The rule is what is measured: a copy is always made where there is room.
    from cbm_extract.read import staged

    staged.WANTED_SHARE.clear()
    with open_band(BandAsset(href)) as band, Decoder(0) as decoder:
        for _ in decoder.decode(band.strips([runs])):
            pass


def _gdal(href: str, runs: Runs) -> None:
    name = f"/vsis3/{href.removeprefix('s3://')}"
    with (
        rasterio.Env(
            GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR",
            GDAL_HTTP_MERGE_CONSECUTIVE_RANGES="YES",
            CPL_VSIL_CURL_NON_CACHED="/vsis3/",
        ),
        rasterio.open(name) as source,
    ):
        rows = source.block_shapes[0][0]
        buffer = np.empty((rows, source.width), source.dtypes[0])
        for start in range(0, source.height, rows):
            stop = min(start + rows, source.height)
            if runs.wanted(start, stop):
                window = Window(0, start, source.width, stop - start)
                source.read(1, window=window, out=buffer[: stop - start])


@contextmanager
def _far(store: seaweed.Seaweed) -> Iterator[str]:
    command = [sys.executable, "-m", "tests.faults", f"{store.host}:{store.port}"]
    shape = [f"--delay={DELAY}", f"--throttle={RATE}"]
    with subprocess.Popen([*command, *shape], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield f"http://{process.stdout.readline().strip()}"
        finally:
            process.terminate()


def _compare(
    report: Report, timings: dict[str, Timing], forms: list[str], needs: list[str]
) -> None:
    report.note("\nWall seconds of a copy / of ranges (below 1 the copy is quicker):\n")
    for form in forms:
        for place in ("near", "far"):
            ratios = [
                timings[f"{form} {place} {need}: copy"].wall
                / timings[f"{form} {place} {need}: ranges"].wall
                for need in needs
            ]
            pairs = zip(needs, ratios, strict=True)
            report.note(f"- {form} {place}: {', '.join(f'{n} {r:.2f}' for n, r in pairs)}")
        if "whole" not in needs:
            continue
        whole = timings[f"{form} far whole: copy"], timings[f"{form} far whole: vsis3"]
        report.bar(
            f"{form}, far, whole band: copy / vsis3, wall", whole[0].wall / whole[1].wall, "<=", 1.1
        )


def _options(parser: argparse.ArgumentParser) -> None:
    workload.options(parser)
    parser.add_argument("--needs", default=",".join(NEEDS), help="of 1/20,1/10,1/4,1/2,whole")
    parser.add_argument("--forms", default="tif,jp2", help="file formats (default tif,jp2)")


if __name__ == "__main__":
    main(Report("One band on object storage"), _run, _options)
