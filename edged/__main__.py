"""`python -m edged` and the console script; imports nothing heavy, as every worker's parent runs it (RULES 1)."""

import sys


def main() -> int:
    """Runs the command line; the exit code is 0 ok, 1 the answer is no, 2 wrong use or configuration."""
    try:
        from edged import cli

        return cli.main(sys.argv[1:])
    except KeyboardInterrupt:  # while modules were still being imported
        return 130


if __name__ == "__main__":
    sys.exit(main())
