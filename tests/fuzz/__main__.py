"""`make fuzz`: each target under atheris for some seconds, on top of what was found before.

`python -m tests.fuzz [SECONDS] [TARGET]`. What makes a target fail is left in .cache/fuzz, and the
run fails. In the corpus it is a test for ever.
"""

import json
import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["app", "yaml"]):
    from tests.fuzz import targets

import yaml

CORPUS = Path(__file__).with_name("corpus")
FOUND = Path(".cache/fuzz")
LONGEST_SECONDS = 5
# What stands where something else is expected.
STRANGE: list[Any] = [
    *[None, True, 0, -1, 2**63, 10**30, 1.5, float("inf"), float("nan")],
    *[[], {}, [[]], [{}], {"": ""}, "9" * 30, "a" * 5000, "", "/", "a", "\0", "\ud800", "é", " "],
    *["%", "{slot}", "{", "::1", "1:2", "die", "kill", "kamal", "9394", "relay", "30s", "0s"],
    *["${X}", "<%= 1 %>", "\n", "*"],
]


def main() -> None:
    seconds, *names = sys.argv[1:] or ["30"]
    if len(names) == 1:
        _fuzz(names[0], seconds)
    failed = [
        name
        for name in names or targets.TARGETS
        if subprocess.run(
            [sys.executable, "-m", "tests.fuzz", seconds, name], check=False
        ).returncode
    ]
    sys.exit(f"failed: {', '.join(failed)}; see {FOUND}" if failed else 0)


def _fuzz(name: str, seconds: str) -> None:
    found = FOUND / name
    found.mkdir(parents=True, exist_ok=True)
    targets.FOLDER = FOUND
    options = [
        f"-max_total_time={seconds}",
        f"-timeout={LONGEST_SECONDS}",
        f"-artifact_prefix={FOUND}/{name}-",
        "-max_len=65536",
        "-print_final_stats=1",
        "-verbosity=0",
    ]
    arguments = [sys.argv[0], *options, str(found), str(CORPUS / name)]
    atheris.Setup(arguments, targets.TARGETS[name], custom_mutator=_mutated)
    print(f"{name}: {seconds} s", flush=True)
    atheris.Fuzz()


def _mutated(data: bytes, most: int, seed: int) -> bytes:
    """Another document where the bytes are one, and now and then just other bytes."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    if chance.random() < 0.8:
        with suppress(yaml.YAMLError, ValueError, TypeError, RecursionError, AttributeError):
            document = yaml.load(data, yaml.CSafeLoader)
            for _ in range(chance.choice([1, 1, 2, 5])):
                document = _changed(document, chance)
            text = json.dumps(document, ensure_ascii=chance.random() < 0.5)
            return text.encode(errors="replace")[:most]
    mutated: bytes = atheris.Mutate(data, most)
    return mutated


def _changed(node: Any, chance: random.Random) -> Any:
    """The same with something strange at one place in it."""
    if chance.random() < 0.15 or not isinstance(node, dict | list) or not node:
        return chance.choice(STRANGE)
    key = chance.choice(list(node) if isinstance(node, dict) else range(len(node)))
    what: Callable[[], Any] = chance.choice(
        [
            lambda: node | {key: _changed(node[key], chance)},
            lambda: node | {key: _changed(node[key], chance)},
            lambda: {k: v for k, v in node.items() if k != key},
            lambda: node | {str(chance.choice(STRANGE)): node[key]},
        ]
        if isinstance(node, dict)
        else [
            lambda: [*node[:key], _changed(node[key], chance), *node[key + 1 :]],
            lambda: [*node, node[key]],
            lambda: [*node[:key], *node[key + 1 :]],
        ]
    )
    return what()


if __name__ == "__main__":
    main()
