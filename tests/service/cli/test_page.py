"""docs/cli.md is what the program says."""

from __future__ import annotations

import difflib
import re

import pytest

from tests.service.cli.page import EXAMPLES, PAGE, commands, normal, page

TABLES = {
    f"$ batchmill {each}"
    for each in ("ls", "files ls", "models", "engines", "workers", "errors mixed.jsonl", "doctor")
}


@pytest.fixture(scope="module")
def made() -> str:
    return page()


def test_the_page_of_commands_is_what_the_program_shows(made: str) -> None:
    ours, theirs = normal(PAGE.read_text()).splitlines(), normal(made).splitlines()
    changed = "\n".join(difflib.unified_diff(ours, theirs, "docs/cli.md", "now", lineterm=""))
    assert not changed, f"{changed}\n(python -m tests.service.cli.page writes it)"


def test_no_table_is_wider_than_its_terminal(made: str) -> None:
    blocks = [block.split("```")[0].splitlines() for block in made.split("```console\n")[1:]]
    tables = [block for block in blocks if block[0] in TABLES]
    assert len(tables) >= len(TABLES)
    for command, *lines in tables:
        rows = [line for line in lines if re.search(r"\S {2,}\S", line)]
        assert rows, command
        assert all(len(line) <= 80 for line in rows), command


def test_every_command_against_a_server_is_shown() -> None:
    told = {" ".join(each.split()[1:3]) for each in EXAMPLES} | {
        each.split()[1] for each in EXAMPLES
    }
    elsewhere = {"serve", "worker", "run", "version"}
    names = {name for name, _ in commands() if name.split()[0] not in {"keys", "db"} | elsewhere}
    assert names - told == {"files get", "files rm"}
