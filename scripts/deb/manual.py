"""Writes what the shell shows of the program, from its own parser: the page of `man edged`, or bash's completion.

manual.py page | completion
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

import edged
from edged import cli


def page() -> str:
    """A page of section 1, in roff: the commands, and of each its usage, options and examples."""
    lines = [
        f'.TH EDGED 1 "" "edged {edged.__version__}" "User Commands"',
        ".SH NAME",
        r"edged \- the inference daemon for edge boxes",
        ".SH SYNOPSIS",
        r".B edged",
        r"COMMAND [OPTION]...",
        ".SH DESCRIPTION",
        _text("ONNX models answer what arrives over MQTT or local sockets, and are replaced over MQTT, signed."),
        _text("The configuration is /etc/edged/edged.yaml. The documents are in /usr/share/doc/edged."),
        ".SH COMMANDS",
    ]
    for name, parser in _commands():
        lines += [f".SS edged {name}", _text(parser.description or ""), ".nf", _text(parser.format_usage()), ".fi"]
        for action in parser._actions:  # noqa: SLF001 - argparse has no other list of them
            if action.help and action.help != argparse.SUPPRESS and not isinstance(action, argparse._HelpAction):  # noqa: SLF001
                label = ", ".join(action.option_strings) or str(action.metavar or action.dest)
                lines += [
                    ".TP",
                    rf"\fB{_text(label)}\fR",
                    _text(action.help % {"default": action.default, "prog": name}),
                ]
        lines += [".PP", ".nf", *(_text(example) for example in cli.command(name).EXAMPLES.strip().splitlines()), ".fi"]
    lines += [
        ".SH EXIT STATUS",
        "0: it is done, or so. 1: the answer is no. 2: wrong use, or a wrong configuration.",
        ".SH SEE ALSO",
        ".BR systemctl (1),",
        ".BR mosquitto (8)",
    ]
    return "\n".join(lines) + "\n"


def completion() -> str:
    """For bash: a command's name, then its options, verbs and files."""
    lines = [
        "# Completion of edged for bash; made from its parser.",
        "_edged() {",
        '  local words=""',
        '  case "${COMP_WORDS[1]}" in',
    ]
    for name, parser in _commands():
        words = [option for action in parser._actions for option in action.option_strings]  # noqa: SLF001
        for action in parser._actions:  # noqa: SLF001
            words += [str(choice) for choice in action.choices or ()]
        lines.append(f'    {name}) words="{" ".join(words)}" ;;')
    return (
        "\n".join(
            [
                *lines,
                "  esac",
                f'  [ "$COMP_CWORD" -gt 1 ] || words="{" ".join(cli.COMMANDS)}"',
                '  mapfile -t COMPREPLY < <(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}")',
                "}",
                "complete -o default -F _edged edged",
            ]
        )
        + "\n"
    )


def _commands() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in cli.parser()._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            yield from action.choices.items()


def _text(words: str) -> str:
    """As roff prints it: no line of it is a request, and its dashes can be copied."""
    escaped = words.replace("\\", r"\e").replace("-", r"\-")
    return "\n".join(rf"\&{line}" if line.startswith((".", "'")) else line for line in escaped.strip().splitlines())


if __name__ == "__main__":
    sys.stdout.write({"page": page, "completion": completion}[sys.argv[1]]())
