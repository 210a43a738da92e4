"""`python -m benchmarks.hearing`: measure, print the figures, draw the picture."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.hearing.measure import FULL, QUICK, measure
from benchmarks.hearing.picture import picture
from benchmarks.hearing.recordings import RecordingsMissing
from benchmarks.hearing.report import report


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hearing")
    parser.add_argument("--set", choices=["reported", "tune"], default="reported", dest="purpose")
    parser.add_argument("--quick", action="store_true", help="a sixth of the turns, half a minute")
    parser.add_argument("--picture", type=Path, metavar="FILE.svg", help="draw the curve there")
    args = parser.parse_args()
    try:
        measured = measure(args.purpose, QUICK if args.quick else FULL)
    except RecordingsMissing as error:
        sys.exit(str(error))
    print(report(measured))
    if args.picture:
        args.picture.write_text(picture(measured), encoding="utf-8")


if __name__ == "__main__":
    main()
