"""A deploy.yml as values that know their file and line, merged as Kamal merges them."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeAlias

import yaml

from app.deployfile import erb

# Far more than a deploy.yml has, and little enough to be read at once.
MOST_CHARACTERS = 1_000_000


class Node(NamedTuple):
    """A value with the line of its key, or of its dash. Every scalar is the text as written."""

    file: str
    line: int
    value: "Value"

    def at(self, *path: str) -> "Node | None":
        """What stands there; None where nothing does."""
        node: Node | None = self
        for key in path:
            if node is None or not isinstance(node.value, Mapping):
                return None
            node = node.value.get(key)
        return node

    @property
    def table(self) -> Mapping[str, "Node"]:
        return self.value if isinstance(self.value, Mapping) else {}

    @property
    def items(self) -> tuple["Node", ...]:
        """The entries of a list; a single text is a list of itself, as Ruby's Array() has it."""
        if isinstance(self.value, tuple):
            return self.value
        return (self,) if isinstance(self.value, str) else ()

    @property
    def text(self) -> str:
        """The text, empty where it is none or where only Ruby knows it."""
        return self.value if isinstance(self.value, str) and not self.unknown else ""

    @property
    def unknown(self) -> bool:
        return isinstance(self.value, str) and erb.UNKNOWN in self.value


Value: TypeAlias = str | tuple[Node, ...] | Mapping[str, Node] | None


class UnreadableError(Exception):
    """The text is no YAML that Kamal could read. `line` is where."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def read(file: str, text: str) -> Node:
    """The document of a text that has no ERB any more. Raises UnreadableError."""
    if len(text) > MOST_CHARACTERS:
        raise UnreadableError(1, f"is longer than {MOST_CHARACTERS} characters: no deploy.yml is")
    try:
        root = yaml.compose(text, yaml.SafeLoader)
        node = _Reading(file).node(root, 1) if root else Node(file, 1, {})
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UnreadableError(line, f"is not YAML: {error.reason}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = mark.line + 1 if mark else 1
        raise UnreadableError(line, f"is not YAML: {error.problem}") from None
    except RecursionError:
        raise UnreadableError(1, "is nested too deeply") from None
    if not isinstance(node.value, Mapping):
        raise UnreadableError(1, "must hold keys and values, like service: shop")
    return node


class _Reading:
    """Reads each node once, however often aliases repeat it: so no file grows in memory."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._values: dict[int, Value] = {}
        self._open: set[int] = set()

    def node(self, node: yaml.Node, line: int) -> Node:
        if id(node) in self._open:
            raise UnreadableError(node.start_mark.line + 1, "holds itself")
        if id(node) not in self._values:
            self._open.add(id(node))
            self._values[id(node)] = self._value(node)
            self._open.discard(id(node))
        return Node(self._file, line, self._values[id(node)])

    def _value(self, node: yaml.Node) -> Value:
        if isinstance(node, yaml.MappingNode):
            return self._table(node)
        if isinstance(node, yaml.SequenceNode):
            return tuple(self.node(each, each.start_mark.line + 1) for each in node.value)
        return None if node.tag.endswith(":null") else str(node.value)

    def _table(self, node: yaml.MappingNode) -> Mapping[str, Node]:
        merged: dict[str, Node] = {}
        own: dict[str, Node] = {}
        for key, value in node.value:
            below = self.node(value, key.start_mark.line + 1)
            if key.tag.endswith(":merge"):
                tables = below.value if isinstance(below.value, tuple) else (below,)
                for table in tables:
                    merged = {**table.table, **merged}
            else:
                # `kamal config` prints Ruby's symbols, which have a colon before them.
                own[str(key.value).removeprefix(":")] = below
        return merged | own


def merged(base: Node, over: Node) -> Node:
    """As Kamal reads a destination: ActiveSupport's Hash#deep_merge (kamal/configuration.rb).

    Hashes are merged; everything else, a list and a null too, takes the place of what was there.
    """
    return _merged(base, over, {})


def _merged(base: Node, over: Node, known: dict[tuple[int, int], Node]) -> Node:
    if not isinstance(base.value, Mapping) or not isinstance(over.value, Mapping):
        return over
    pair = (id(base.value), id(over.value))
    if pair not in known:
        table = dict(base.value)
        for key, value in over.value.items():
            table[key] = _merged(table[key], value, known) if key in table else value
        known[pair] = Node(base.file, base.line, table)
    return Node(base.file, base.line, known[pair].value)


def unknown_keys(root: Node) -> list[tuple[Node, str]]:
    """Where only Ruby knows a value, each with its dotted key."""
    seen: set[int] = set()

    def walk(node: Node, path: str) -> Iterator[tuple[Node, str]]:
        if id(node.value) in seen:
            return
        if node.unknown:
            yield node, path
        elif isinstance(node.value, Mapping):
            seen.add(id(node.value))
            for key, below in node.value.items():
                shown = key.replace(erb.UNKNOWN, "<%= … %>")
                yield from walk(below, f"{path}.{shown}" if path else shown)
        elif isinstance(node.value, tuple):
            seen.add(id(node.value))
            for below in node.value:
                yield from walk(below, path)

    return list(walk(root, ""))
