"""The command line `lash`. Nothing is imported here, so that a start costs what its command needs."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]

WITHOUT_EXTRA = 'the command line is an extra that is not installed: `pip install "lash-framework[standard]"`'


def main(argv: Sequence[str] | None = None) -> int:
    """Run `lash` with these arguments (default: the process's own) and return its exit code."""
    import gc
    import sys

    # What is made while modules are imported stays: looking for garbage among it takes a twentieth of a start.
    before = gc.get_threshold()
    gc.set_threshold(200_000)
    try:
        from lash_framework.cli.app import run

        return run(argv)
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        sys.stderr.write(f"lash: {WITHOUT_EXTRA}\n")
        return 2
    except KeyboardInterrupt:  # amid the imports
        sys.stderr.write("\nlash: cancelled\n")
        return 130
    finally:
        gc.set_threshold(*before)
