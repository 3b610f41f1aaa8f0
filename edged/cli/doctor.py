"""`edged doctor`: looks at what edged needs of this box and its broker, and says what is wrong, each with a hint."""

from __future__ import annotations

import argparse
import json

import msgspec

from edged.config.mistakes import ConfigErrors
from edged.errors import EdgedError

HELP = "look at this box, its broker and the running daemon, and say what is wrong, with hints"
EXAMPLES = """
sudo edged doctor
edged doctor --config edged.yaml
edged doctor --json
"""

_MARKS = {"ok": "ok  ", "note": "note", "bad": "BAD "}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", metavar="FILE", help="the configuration (default: this user's own, else the service's)"
    )
    parser.add_argument("--json", action="store_true", help="a JSON list of level (ok, note, bad), what, said and hint")


def run(args: argparse.Namespace) -> int:
    """0 when nothing is bad, else 1."""
    from edged.cli import service, symptoms
    from edged.config import load
    from edged.delivery import anchor

    findings, config = [], None
    path = service.configuration(args.config)
    unit = service.of(path)
    try:
        config = load.load(path, service.environment(unit))
        anchor.check(path, config)
        unasked = "; whether its models load, `edged check` tries" if any(model.file for model in config.models) else ""
        findings.append(symptoms.Finding("ok", "configuration", f"{path} is valid{unasked}"))
    except ConfigErrors as errors:
        first, *more = errors.mistakes
        said = f"{first}, and {len(more)} more" if more else str(first)
        findings.append(symptoms.Finding("bad", "configuration", said, "`edged check` says them all." if more else ""))
    except EdgedError as error:
        findings.append(symptoms.Finding("bad", "configuration", error.fault.message, error.fault.hint))
    findings += symptoms.of_box(path, config, unit)
    if args.json:
        print(json.dumps([msgspec.structs.asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            print(f"{_MARKS[finding.level]}  {finding.what:13}  {finding.said}")
            if finding.hint:
                print(f"{'':19}{finding.hint}")
    return int(any(finding.level == "bad" for finding in findings))
