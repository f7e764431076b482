"""What the commands that ask have in common: whom, for which slots, and what if nobody answers."""

from pathlib import Path

from app.cli.options import EXIT_FOUND, EXIT_NO_ANSWER, fail
from app.cli.source import Answer, Filters, SourceError, ask
from app.discovery.explain import DecisionDocument
from app.settings_file import SettingsError


def ask_or_fail(url: str | None, config: Path | None, filters: Filters) -> Answer:
    """The answer of the server, or of a look at the engines; without one the command ends."""
    try:
        return ask(url, config, filters)
    except SettingsError as error:
        fail(error, EXIT_FOUND)
    except SourceError as error:
        fail(error, EXIT_NO_ANSWER)


def filters_of(**wanted: list[str] | None) -> Filters:
    """The filters that were given."""
    return {name: frozenset(values) for name, values in wanted.items() if values}


def chosen_of(answer: Answer, filters: Filters) -> list[DecisionDocument]:
    """The decisions that pass the filters."""
    return [
        each
        for each in answer.document["decisions"]
        if all(each[name] in values for name, values in filters.items())  # type: ignore[literal-required]
    ]
