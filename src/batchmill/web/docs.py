"""`GET /docs`: the OpenAPI document as one plain page that needs nothing from elsewhere."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

router = APIRouter(include_in_schema=False)

_STYLE = """
:root{color-scheme:light dark;font:15px/1.5 system-ui,sans-serif}
body{max-width:62rem;margin:2rem auto;padding:0 1rem}
code,pre{font:13px/1.45 ui-monospace,monospace}
pre{overflow-x:auto;padding:.75rem;border:1px solid #8884;border-radius:.4rem}
details{border:1px solid #8884;border-radius:.4rem;margin:.4rem 0;padding:.4rem .75rem}
summary{cursor:pointer}summary b{display:inline-block;min-width:4.5rem}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.2rem .6rem .2rem 0;border-bottom:1px solid #8883}
"""


@router.get("/docs")
async def docs(request: Request) -> Response:
    """The reference of this server's API."""
    return HTMLResponse(
        page(request.app.openapi()),
        headers={"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"},
    )


def page(document: dict[str, Any]) -> str:
    """The whole document as HTML."""
    info = document["info"]
    groups: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            tag = (operation.get("tags") or ["Other"])[0]
            groups.setdefault(tag, []).append(_operation(method, path, operation))
    body = "".join(f"<h2>{escape(tag)}</h2>{''.join(found)}" for tag, found in groups.items())
    schemas = "".join(
        f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary>'
        f"{_json(schema)}</details>"
        for name, schema in document.get("components", {}).get("schemas", {}).items()
    )
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(info['title'])}</title>"
        f"<meta name=viewport content='width=device-width'><style>{_STYLE}</style>"
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>"
        f"<p>{escape(info.get('description', ''))} "
        "The document for tools is <a href='/openapi.json'>/openapi.json</a>.</p>"
        f"{body}<h2>Schemas</h2>{schemas}</html>"
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    parameters = "".join(_parameter(each) for each in operation.get("parameters", ()))
    table = f"<table>{parameters}</table>" if parameters else ""
    body = "".join(
        f"<p>Body: <code>{escape(kind)}</code></p>{_json(content.get('schema', {}))}"
        for kind, content in operation.get("requestBody", {}).get("content", {}).items()
    )
    replies = "".join(_reply(status, each) for status, each in operation["responses"].items())
    return (
        f"<details><summary><b>{method.upper()}</b> <code>{escape(path)}</code></summary>"
        f"<p>{escape(operation.get('description', ''))}</p>{table}{body}"
        f"<table><tr><th>Status<th>Reply</tr>{replies}</table></details>"
    )


def _parameter(parameter: dict[str, Any]) -> str:
    schema = escape(json.dumps(parameter.get("schema", {})))
    says = escape(parameter.get("description", ""))
    name, place = escape(parameter["name"]), parameter["in"]
    return f"<tr><td><code>{name}</code><td>{place}<td>{says}<td><code>{schema}</code></tr>"


def _reply(status: str, reply: dict[str, Any]) -> str:
    schemas = ", ".join(
        f"<code>{escape(kind)}</code> {_name(content.get('schema', {}))}"
        for kind, content in reply.get("content", {}).items()
    )
    return f"<tr><td>{status}<td>{escape(reply.get('description', ''))} {schemas}</tr>"


def _name(schema: dict[str, Any]) -> str:
    name = schema.get("$ref", "").rpartition("/")[2]
    return f'<a href="#{escape(name)}">{escape(name)}</a>' if name else ""


def _json(schema: dict[str, Any]) -> str:
    return f"<pre>{escape(json.dumps(schema, indent=1))}</pre>"
