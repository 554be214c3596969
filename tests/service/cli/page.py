"""docs/cli.md, made from the program: the help of every command, and what commands show.

    python -m tests.service.cli.page      writes it anew

Ids and times are masked, so that the page only changes when the program does.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from batchmill.cli.commands import application
from tests.service.cli.terminal import PIPED, Shown, show
from tests.serving import serving

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "cli.md"
NARROW, WIDE = 80, 200

_UUID = re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
_HEX = re.compile(r"\b[0-9a-f]{32}\b")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
_KEY = re.compile(r"\bbm_[\w-]{43}")
_KEY_END = re.compile(r"(?m)^(\S{36}  team +)\S{4}")
_PORT = re.compile(r"http://127\.0\.0\.1:\d{4,5}")

EXAMPLES = [
    "batchmill validate reviews.jsonl",
    "batchmill validate bad.jsonl",
    "batchmill validate bad.jsonl" + PIPED,
    "batchmill estimate reviews.jsonl --input-price 0.2 --output-price 0.6",
    "batchmill submit bad.jsonl --model sim",
    "batchmill submit reviews.jsonl --model sim --watch",
    "batchmill submit mixed.jsonl --watch",
    "batchmill get mixed.jsonl",
    "batchmill ls",
    "batchmill ls -n 1" + PIPED,
    "batchmill watch reviews.jsonl",
    "batchmill results reviews.jsonl -o results.jsonl",
    "batchmill results mixed.jsonl --join table.csv" + PIPED,
    "batchmill errors mixed.jsonl",
    "batchmill errors mixed.jsonl" + PIPED,
    "batchmill retry mixed.jsonl --watch",
    "batchmill submit slow.jsonl --model sim",
    "batchmill pause slow.jsonl",
    "batchmill resume slow.jsonl",
    "batchmill extend slow.jsonl 7d",
    "batchmill rm slow.jsonl",
    "batchmill cancel slow.jsonl",
    "batchmill watch slow.jsonl",
    "batchmill rm slow.jsonl",
    "batchmill files ls",
    "batchmill files upload reviews.jsonl",
    "batchmill models",
    "batchmill engines",
    "batchmill workers",
    "batchmill gc --older-than 30d --dry-run",
    "batchmill doctor",
    "batchmill run -i reviews.jsonl -o answers.jsonl --engine sim",
    "batchmill run -i reviews.jsonl -o answers.jsonl --engine sim",
    "batchmill run -i table.csv -o answers.csv --engine sim --prompt '{{question}}'",
    "batchmill run -i table.csv -o more.csv --engine sim --prompt '{{text}}'",
    "batchmill keys create --tenant team --data keys",
    "batchmill keys list --data keys",
    "batchmill keys revoke 0000 --data keys",
    "batchmill get nothing.jsonl",
    "batchmill get ffff",
    "batchmill ls --url http://127.0.0.1:1",
]
WIDELY = [
    "batchmill ls",
    "batchmill errors mixed.jsonl",
    "batchmill files ls",
    "batchmill models",
    "batchmill engines",
    "batchmill workers",
    "batchmill validate bad.jsonl",
    "batchmill get mixed.jsonl",
    "batchmill doctor",
    "batchmill run -i reviews.jsonl -o wide.jsonl --engine sim",
    "batchmill keys list --data keys",
]

INTRODUCTION = """\
# Commands

Made from the program by a test (`python -m tests.service.cli.page` writes it): help and output are
what the commands show. Ids and times are masked.

**Where the server is.** `--url`, else `BATCHMILL_URL` with the key `BATCHMILL_API_KEY`, else
`OPENAI_BASE_URL` with `OPENAI_API_KEY`, else `MISTRAL_SERVER_URL` (or `MISTRAL_BASE_URL`) with
`MISTRAL_API_KEY`, else `http://127.0.0.1:8470`; with or without `/v1`. A key is only sent to the
address beside which it stands, also where `--url` names that; one of Batchmill's own (`bm_...`, or
`BATCHMILL_API_KEY`) that stands beside no URL only goes to this machine.

**Which job.** Where a job is wanted its id will do, in either vendor's form; or the beginning of
it, at least four digits, if no other job's begins so; or the file that it was last submitted from,
here and by you; or `@last`, the job last made here, else the newest.

**What comes out.** Data on standard output, everything else on standard error. On a terminal
tables; in a pipe, or with `--json`, one JSON object a line, as the server sends it. Colours only
repeat what words say; `NO_COLOR` and `TERM=dumb` turn them off. Where columns do not fit, the least
important ones go; an id is never cut.

**How it ends.** 0: done, and every line was answered. 1: an error, told in one line with the next
step. 2: it cannot be asked for so. 3: the job has ended, and lines were not answered. 130:
interrupted. The first Ctrl-C on a watch only ends the watching; the job goes on.

**No id is lost.** What `submit` does is noted in `$XDG_STATE_HOME/batchmill` (`~/.local/state`)
before the answer can be missed. The same command again, after it was cut off, goes on with the same
job; after it was done, it makes another.

**Completion.** `batchmill --install-completion` for bash, zsh, fish and PowerShell.
"""


def page() -> str:
    """The page as the program makes it now."""
    with tempfile.TemporaryDirectory(prefix="batchmill-page-") as home:
        folder = Path(home) / "work"
        folder.mkdir()
        write_inputs(folder)
        with serving(Path(home) / "data", "--engine", "sim") as serve:
            environ = {
                "BATCHMILL_URL": f"http://127.0.0.1:{serve.port}",
                "XDG_STATE_HOME": str(Path(home) / "state"),
                "NO_COLOR": "1",
                "TERM": "xterm",
                "LC_ALL": "C.UTF-8",
            }
            narrow = show(EXAMPLES, NARROW, folder, environ)
            wide = show(WIDELY, WIDE, folder, environ)
    text = "\n".join(_pieces(narrow, wide))
    return _masked(text)


def _pieces(narrow: list[Shown], wide: list[Shown]) -> Iterator[str]:
    yield INTRODUCTION
    for name, command in commands():
        yield f"## {name}\n"
        yield f"```text\n{help_of(name, command)}\n```\n"
        for at, shown in ((NARROW, narrow), (WIDE, wide)):
            for each in shown:
                if each.command.split()[1] == name.split()[0] and _is_of(each.command, name):
                    yield _example(each, at)
    yield "## When something is wrong\n"
    for each in narrow[-3:]:
        yield _example(each, NARROW)


def _is_of(command: str, name: str) -> bool:
    """Whether an example belongs to that command, and not to the errors at the end."""
    return command not in EXAMPLES[-3:] and command.startswith(f"batchmill {name} ".rstrip())


def _example(shown: Shown, columns: int) -> str:
    at = "" if columns == NARROW else f"    # {columns} columns"
    code = f"\n[exit code {shown.code}]" if shown.code else ""
    return f"```console\n$ {shown.command}{at}\n{shown.text}{code}\n```\n"


def commands() -> Iterator[tuple[str, Any]]:
    """Every command by its name, those of groups too."""
    for name, command in getattr(get_command(application()), "commands", {}).items():
        nested = getattr(command, "commands", None)
        if nested is None:
            yield name, command
        else:
            yield from ((f"{name} {each}", nested[each]) for each in nested)


def help_of(name: str, command: Any) -> str:
    """The help as it is printed on a terminal of 80 columns."""
    context = command.make_context(
        f"batchmill {name}", [], resilient_parsing=True, terminal_width=NARROW
    )
    return str(command.get_help(context)).rstrip()


def _masked(text: str) -> str:
    ids: dict[str, str] = {}

    def masked(match: re.Match[str]) -> str:
        plain = match[0].replace("-", "")
        number = ids.setdefault(plain, f"{len(ids) + 1:08x}" + "0" * 4 + "4000" + "8" + "0" * 15)
        if "-" not in match[0]:
            return number
        return "-".join((number[:8], number[8:12], number[12:16], number[16:20], number[20:]))

    text = _HEX.sub(masked, _UUID.sub(masked, text))
    text = re.sub(r"batch_[0-9a-f]{9,}", lambda found: "batch_".ljust(len(found[0]), "0"), text)
    text = _KEY_END.sub(r"\g<1>4kEy", _KEY.sub("bm_" + "k" * 39 + "4kEy", text))
    text = _MOMENT.sub("2026-01-01 12:00:00", text)
    text = re.sub(r'("(?:\w+_at|created|since|last_beat)": )\d[\d.]*', r"\g<1>1767268800", text)
    return _PORT.sub("http://127.0.0.1:8470", text)


def normal(text: str) -> str:
    """The page without what differs from run to run: figures, and who was quicker than whom."""
    kept = [
        line
        for line in text.splitlines()
        if not re.match(
            r"(waits|pace|left|tokens|took|ended|retried by|metadata|output|errors) ", line
        )
    ]
    text = re.sub(r"\b(validating|queued|running)\b", "open", "\n".join(kept))
    text = re.sub(r'"status": "(QUEUED|RUNNING)"', '"status": "OPEN"', text)
    text = re.sub(r"\d[\d.,]*( ?(ms|s|m|h|d|B|kB|MB|GB|k|M))?\b", "#", text)
    text = re.sub(r"(# )+", "# ", text)
    text = re.sub(r"(?m)^(sim +\w+|engine +state) .*", r"\1", text)  # its window is learnt
    text = re.sub(r'"host": "[^"]*"', '"host": "H"', text)
    text = re.sub(r"(?m)^(serve) +\S+", r"\1 H", text)
    text = re.sub(r"[ \t─━╸╺]+", " ", text)
    # whether the last column of `ls` fits depends on how old the jobs are
    return re.sub(
        r"(?m)^(id state lines done failed age|#(-#)+ \w+ # #% # #) (model|sim)$", r"\1", text
    )


def write_inputs(folder: Path) -> None:
    """The files that the examples work with."""
    (folder / "reviews.jsonl").write_bytes((ROOT / "examples" / "reviews.jsonl").read_bytes())
    (folder / "bad.jsonl").write_text(
        '{"custom_id":"a","body":{"messages":[{"role":"user","content":"Hi"}]}}\n'
        '{"custom_id":"a","body":{"messages":[{"role":"user","content":"Hi"}]}}\n'
        '{"id":"c","body":{"messages":[{"role":"user","content":"Hi"}]}}\n'
        '{"custom_id":"d","body":\n'
    )
    texts = [f"Question {n}" + (" !status:422" if n % 5 == 3 else "") for n in range(20)]
    frame = {"method": "POST", "url": "/v1/chat/completions"}
    lines = []
    for n, text in enumerate(texts):
        body = {"model": "sim", "max_tokens": 4, "messages": [{"role": "user", "content": text}]}
        lines.append(json.dumps({"custom_id": f"row-{n}", **frame, "body": body}) + "\n")
    (folder / "mixed.jsonl").write_text("".join(lines))
    rows = [f"row-{n},{text}\n" for n, text in enumerate(texts)]
    (folder / "table.csv").write_text("custom_id,question\n" + "".join(rows))
    slow = {"messages": [{"role": "user", "content": "Wait !fault:slow=600"}]}
    slow_lines = [json.dumps({"custom_id": f"slow-{n}", "body": slow}) + "\n" for n in range(8)]
    (folder / "slow.jsonl").write_text("".join(slow_lines))


if __name__ == "__main__":
    os.environ.setdefault("CI", "1")
    PAGE.write_text(page())
