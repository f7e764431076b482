"""`kamal-sd`, and `python -m app`, which is the same."""

import gc
import sys

# What the imports make stays for good. To search it for garbage again and again would take a fifth
# of the time until the first answer.
gc.disable()

from pydantic import BaseModel  # noqa: E402 - after that

# FastAPI's models of an OpenAPI document are a sixth of that time. So they are built when somebody
# asks for the document.
BaseModel.model_config["defer_build"] = True

# What runs for long, or often, imports its own command alone.
match sys.argv[1:2]:
    case ["serve"]:
        from app.cli.serve import cli
    case ["healthcheck"]:
        from app.cli.health import cli
    case _:
        from app.cli.commands import cli

gc.freeze()
gc.enable()


def main() -> None:
    """The entry point."""
    cli(prog_name="kamal-sd")


if __name__ == "__main__":
    main()
