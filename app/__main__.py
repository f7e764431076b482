"""`python -m app` is `kamal-sd`."""

from app.cli import main

main()
