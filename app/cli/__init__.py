"""The face in a terminal: all commands; and `serve` and `healthcheck`, each without the others."""
