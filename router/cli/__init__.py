"""The `consilium` command.

Exit status, for every command: 0 done and fine; 1 done, and the answer is no (an invalid registry, a wrong sample);
2 wrong usage or configuration; 3 the gateway cannot be reached; 4 the gateway or an expert answered with an error;
130 interrupted.
"""


def main() -> None:
    """Entry point of the `consilium` script: runs a command, and turns the project's errors into text and a status."""
    import sys

    from experts.errors import ConsiliumError
    from router.cli.app import app
    from router.cli.output import complain, status_of

    try:
        app()
    except ConsiliumError as fault:
        complain(fault)
        sys.exit(status_of(fault))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output (`| head`) has enough; say nothing more, not even while the interpreter closes.
        sys.stdout = None
        sys.exit(0)
