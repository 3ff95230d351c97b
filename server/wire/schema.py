"""The live protocol as documents, made from the models themselves: JSON Schema, and AsyncAPI 3."""

from __future__ import annotations

import json
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from server.wire.frames import CLOSE_CODES, SUBPROTOCOL, TICKET_PROTOCOL, VERSION, ClientFrame, ServerFrame

_REF = "#/components/schemas/{model}"


@lru_cache(maxsize=1)
def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of what the server and the client send, under ``$defs``."""
    server = TypeAdapter(ServerFrame).json_schema(mode="serialization", ref_template="#/$defs/{model}")
    client = TypeAdapter(ClientFrame).json_schema(mode="validation", ref_template="#/$defs/{model}")
    defs = _merged(server.pop("$defs"), client.pop("$defs"))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"social-sandbox live protocol {VERSION}",
        "$defs": {**defs, "ServerFrame": server, "ClientFrame": client},
        "anyOf": [{"$ref": "#/$defs/ServerFrame"}, {"$ref": "#/$defs/ClientFrame"}],
    }


@lru_cache(maxsize=1)
def asyncapi() -> dict[str, Any]:
    """AsyncAPI 3.0 of the websocket."""
    server = TypeAdapter(ServerFrame).json_schema(mode="serialization", ref_template=_REF)
    client = TypeAdapter(ClientFrame).json_schema(mode="validation", ref_template=_REF)
    schemas = _merged(server.pop("$defs"), client.pop("$defs"))
    sent = _messages(server, schemas)
    taken = _messages(client, schemas)
    codes = "\n".join(f"- {int(code)}: {text}" for code, text in CLOSE_CODES.items())
    messages = {**sent, **taken}
    channel = "#/channels/live"
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "social-sandbox, live",
            "version": str(VERSION),
            "description": f"One websocket to one session. The server closes with:\n\n{codes}",
        },
        "channels": {
            "live": {
                "address": "/api/v1/sessions/{session}/live",
                "parameters": {"session": {"description": "the session's key"}},
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
                "bindings": {
                    "ws": {
                        "query": {
                            "type": "object",
                            "properties": {
                                "since": {
                                    "type": "string",
                                    "description": "EPOCH:SEQ of the last event the client has",
                                },
                                "person": {"type": "string", "description": "as whom the client acts"},
                            },
                        },
                        "headers": {
                            "type": "object",
                            "properties": {
                                "Authorization": {"type": "string", "description": "Bearer KEY"},
                                "Sec-WebSocket-Protocol": {
                                    "type": "string",
                                    "description": f"{SUBPROTOCOL}; a browser adds {TICKET_PROTOCOL}TICKET",
                                },
                            },
                        },
                        "bindingVersion": "0.1.0",
                    }
                },
            }
        },
        "operations": {
            "send": {
                "action": "send",
                "channel": {"$ref": channel},
                "messages": [{"$ref": f"{channel}/messages/{name}"} for name in sent],
            },
            "receive": {
                "action": "receive",
                "channel": {"$ref": channel},
                "messages": [{"$ref": f"{channel}/messages/{name}"} for name in taken],
            },
        },
        "components": {"messages": messages, "schemas": schemas},
    }


def json_schema_text() -> str:
    """``json_schema`` as text."""
    return json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"


def asyncapi_text() -> str:
    """``asyncapi`` as text."""
    return json.dumps(asyncapi(), indent=1, ensure_ascii=False) + "\n"


def _messages(union: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """A message for each member of a discriminated union, named by its ``type``."""
    members: dict[str, str] = union["discriminator"]["mapping"]
    found = {}
    for kind, reference in members.items():
        schema = schemas[reference.rpartition("/")[2]]
        found[kind.replace(".", "_")] = {
            "name": kind,
            "summary": schema.get("description", kind).split("\n")[0],
            "payload": {"$ref": reference},
        }
    return found


def _merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Both sets of definitions; where one name means two things, the reader's is kept beside the other."""
    merged = dict(one)
    for name, schema in other.items():
        merged.setdefault(name, schema)
    return dict(sorted(merged.items()))


def write(folder: Path) -> None:
    """Write both into a folder of documents."""
    (folder / "live-protocol.schema.json").write_text(json_schema_text(), "utf-8")
    (folder / "live-protocol.asyncapi.json").write_text(asyncapi_text(), "utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
