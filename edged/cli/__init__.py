"""The program `edged`: its table of commands, and the one place that prints an error and picks the exit code.

Each command is one module, named in COMMANDS, that offers

    HELP: str          one line for `edged --help`, without a full stop
    EXAMPLES: str      command lines shown below the command's own help, one per line
    def arguments(parser: argparse.ArgumentParser) -> None
    def run(args: argparse.Namespace) -> int

At its top a command's module imports nothing but the standard library and edged's light modules
(errors, tensors, topics, config.mistakes, config.places); `run` imports what it needs inside.
`run` prints its answer itself and returns 0 (ok) or 1 (the answer is no). Anything that went wrong it
raises: EdgedError and ConfigErrors are turned into a message, a hint and an exit code here.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import logging
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Final, Protocol, TextIO, cast

from edged.config.mistakes import ConfigErrors
from edged.errors import EdgedError

COMMANDS: Final = {
    "run": "edged.cli.run",
    "check": "edged.cli.check",
    "init": "edged.cli.init",
    "doctor": "edged.cli.doctor",
    "status": "edged.cli.status",
    "infer": "edged.cli.infer",
    "inspect": "edged.cli.describe",
    "tune": "edged.cli.tune",
    "push": "edged.cli.push",
    "keys": "edged.cli.keys",
    "trust": "edged.cli.trust",
    "release": "edged.cli.release",
    "sign": "edged.cli.sign",
    "fleet": "edged.cli.fleet",
    "install": "edged.cli.install",
    "rollback": "edged.cli.rollback",
    "pin": "edged.cli.pin",
    "unpin": "edged.cli.unpin",
    "log": "edged.cli.log",
    "acl": "edged.cli.acl",
    "version": "edged.cli.version",
}

OK: Final = 0
NO: Final = 1
WRONG_USE: Final = 2
_WRONG: Final = ("bad_config", "bad_settings")  # the second: the configuration that a release brings
_INTERRUPTED: Final = 130  # what a shell reports for SIGINT


class Command(Protocol):
    """What a command's module offers."""

    HELP: str
    EXAMPLES: str

    def arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace) -> int: ...


def command(name: str) -> Command:
    """The module of one command; KeyError for an unknown one."""
    return cast("Command", importlib.import_module(COMMANDS[name]))


_EXAMPLES: Final = """
edged run --model digits=digits.onnx
edged init digits.onnx
edged check
edged status
edged infer digits scan.npy
edged push releases/digits-7 --to all --wait
edged COMMAND --help
"""


class _Parser(argparse.ArgumentParser):
    """Shows below the help of a command its examples, and below that of a command's verb those of the verb."""

    def format_help(self) -> str:
        _, *words = self.prog.split()
        examples = command(words[0]).EXAMPLES if words else _EXAMPLES
        lines = [line.strip() for line in examples.strip().splitlines()]
        shown = [f"  {line}\n" for line in lines if len(words) < 2 or line.startswith(self.prog)]
        return "".join([super().format_help(), "\nexamples:\n" if shown else "", *shown])


def parser(names: Iterable[str] = COMMANDS) -> argparse.ArgumentParser:
    """The argument parser for these commands; importing only the one asked for keeps the program quick."""
    program = _Parser(prog="edged", description="The inference daemon for edge boxes.")
    commands = program.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in names:
        module = command(name)
        described = module.HELP[:1].upper() + module.HELP[1:] + "."
        module.arguments(commands.add_parser(name, help=module.HELP, description=described))
    return program


def main(argv: Sequence[str]) -> int:
    """Runs one command line. Exit codes: 0 ok, 1 the answer is no, 2 wrong use or configuration."""
    wanted = argv[:1] if argv and argv[0] in COMMANDS else COMMANDS
    args = parser(wanted).parse_args(argv)
    # A command's answer says it all; what edged logs is for the journal, which `edged run` opens.
    logging.getLogger("edged").addHandler(logging.NullHandler())
    try:
        status = _written(command(args.command).run(args))
    except ConfigErrors as errors:
        for mistake in errors.mistakes:
            print(str(mistake).encode(errors="replace").decode(), file=sys.stderr)  # a file's name may be no UTF-8
        return WRONG_USE
    except EdgedError as error:
        print(f"edged: {error.fault.message} [{error.fault.code}]", file=sys.stderr)
        if error.fault.hint:
            print(f"  {error.fault.hint}", file=sys.stderr)
        return WRONG_USE if error.fault.code in _WRONG else NO
    except BrokenPipeError:
        _be_silent(sys.stdout)  # the reader of our output went away (`edged status | head`): nothing is left to say
        return NO
    except KeyboardInterrupt:
        return _INTERRUPTED
    return status


def _written(status: int) -> int:
    """The status of a command, once its answer is out. Raises BrokenPipeError."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            _be_silent(stream)
            if error.errno == errno.EIO:  # the terminal has ended, as it does around a daemon that was started there
                continue
            print(f"edged: the answer could not be written: {error.strerror}", file=sys.stderr)
            status = NO
    return status


def _be_silent(stream: TextIO) -> None:
    """The interpreter's own flush at exit must not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
