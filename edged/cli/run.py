"""`edged run`: the daemon in the foreground, from a configuration file or from model files alone."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edged.errors import EdgedError

if TYPE_CHECKING:
    from edged.config.schema import Config

HELP = "run the daemon"
EXAMPLES = """
edged run
edged run --config ./edged.yaml
edged run --model digits=digits_v1_int8.onnx
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--config", metavar="FILE", help="the configuration (default: where `edged check` looks)")
    what.add_argument(
        "--model",
        metavar="NAME=FILE",
        action="append",
        default=[],
        help="serve this model on the UNIX socket, without a configuration; may be given more than once",
    )


def run(args: argparse.Namespace) -> int:
    from edged.serving.forkserver import warm

    warm()  # it loads what workers need while this process loads the daemon: 0.2 s of every start
    from edged.config.load import find, from_models
    from edged.process import main

    if args.model:
        return main(from_models(dict(map(_model, args.model))))
    path = find(args.config)
    return main(_read(path, need_models=False), partial(_read, path))


def _read(path: Path, *, need_models: bool = True) -> Config:
    """The configuration, at a start and at each reload. Raises ConfigErrors."""
    from edged.config.load import load
    from edged.delivery import anchor

    config = load(path, need_models=need_models)
    anchor.check(path, config)
    return config


def _model(text: str) -> tuple[str, str]:
    name, equals, file = text.partition("=")
    if not (name and equals and file):
        raise EdgedError("bad_config", f"--model {text}: expected NAME=FILE", "edged run --model digits=digits.onnx")
    return name, file
