"""`kamal-sd`, and `python -m app`, which is the same."""

import gc
from importlib import import_module


def main() -> None:
    """The entry point."""
    # What the imports make stays for good. To search it for garbage again and again would take a
    # fifth of the time until the first answer.
    gc.disable()
    cli = import_module("app.cli")
    gc.freeze()
    gc.enable()
    cli.main()


if __name__ == "__main__":
    main()
