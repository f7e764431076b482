"""`kamal-sd`, and `python -m app`, which is the same."""

import gc

# What the imports make stays for good. To search it for garbage again and again would take a fifth
# of the time until the first answer.
gc.disable()

from app import cli  # noqa: E402 - after that

gc.freeze()
gc.enable()


def main() -> None:
    """The entry point."""
    cli.main()


if __name__ == "__main__":
    main()
