"""Runs the official Python client against a gateway. One line of JSON lists the actions, run one after the other;
prints their results as JSON."""

import json
import sys
import traceback
from typing import Any, Literal

import anyio
import httpx2
from mcp import Client
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.client.extension import ClientExtension, ResultClaim
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, ElicitResult, Request, Result

GIVEN = json.load(sys.stdin)


class Storage:
    """Keeps tokens as long as this process runs."""

    tokens = client = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client_info):
        self.client = client_info


class Created(Result):
    result_type: Literal["task"]
    task_id: str
    status: str


class GetTask(Request[dict[str, Any], Literal["tasks/get"]]):
    method: Literal["tasks/get"] = "tasks/get"
    name_param = "taskId"


class Task(Result):
    status: str
    result: dict[str, Any] | None = None


class Tasks(ClientExtension):
    """The part of the tasks extension that is needed: polls a task until it has ended."""

    identifier = "io.modelcontextprotocol/tasks"

    def __init__(self, seen: list[str]):
        self.seen = seen

    def claims(self):
        return [ResultClaim(result_type="task", model=Created, resolve=self.wait)]

    async def wait(self, created: Created, context):
        self.seen += ["created", created.status]
        while True:
            task = await context.session.send_request(GetTask(params={"taskId": created.task_id}), Task)
            if task.status in ("completed", "failed", "cancelled"):
                self.seen.append(task.status)
                return CallToolResult.model_validate(task.result)
            await anyio.sleep(0.2)


def credentials():
    if "key" in GIVEN:
        return {"headers": {"Authorization": f"Bearer {GIVEN['key']}"}}
    return {
        "auth": ClientCredentialsOAuthProvider(
            server_url=GIVEN["url"],
            storage=Storage(),
            client_id=GIVEN["client_id"],
            client_secret=GIVEN["client_secret"],
            issuer=GIVEN["issuer"],
        )
    }


async def connected(use, **options):
    # One connection per request: workerd closes a connection whose request it has refused unread.
    limits = httpx2.Limits(max_keepalive_connections=0)
    async with httpx2.AsyncClient(timeout=httpx2.Timeout(30, read=300), limits=limits, **credentials()) as http:
        transport = streamable_http_client(GIVEN["url"], http_client=http)
        async with Client(transport, mode=GIVEN["mode"], **options) as client:
            return await use(client)


async def list_and_call(client: Client):
    tools = await client.list_tools()
    result = await client.call_tool("greet", {"name": "Ada"})
    return {
        "revision": client.protocol_version,
        "tools": sorted(tool.name for tool in tools.tools),
        "said": result.content[0].text,
    }


async def progress(client: Client):
    messages = []

    async def on_progress(progress, total, message):
        messages.append(message)

    result = await client.call_tool(GIVEN["slow"], {"seconds": 2}, progress_callback=on_progress)
    return {"messages": messages, "result": result.structured_content}


async def cancel():
    async def use(client: Client):
        with anyio.CancelScope() as scope:

            async def on_progress(progress, total, message):
                scope.cancel()

            await client.call_tool(GIVEN["slow"], {"seconds": 60, "label": GIVEN["label"]}, progress_callback=on_progress)
        # Closing at once would also abort the request that cancels the call.
        await client.list_tools(cache_mode="bypass")
        return {"cancelled": scope.cancelled_caught}

    # In the older revision a request is cancelled by its id within a session, and only clients that support elicitation
    # have one.
    return await connected(use, elicitation_callback=decline)


async def decline(context, params):
    return ElicitResult(action="decline")


async def elicit():
    asked = []

    async def user(context, params):
        asked.append(params.message)
        return ElicitResult(action="accept", content={"confirm": True})

    async def use(client: Client):
        return await client.call_tool("confirm_delete", {"filename": "notes.txt"})

    result = await connected(use, elicitation_callback=user)
    return {"asked": asked, "result": result.structured_content}


async def task():
    seen = []

    async def use(client: Client):
        return await client.call_tool(GIVEN["slow"], {"seconds": 1, "label": "a task"})

    result = await connected(use, extensions=[Tasks(seen)])
    return {"seen": seen, "result": result.structured_content}


async def tried(do):
    """The result of one action, or its exception."""
    try:
        if do in ("list", "progress"):
            return {"done": await connected({"list": list_and_call, "progress": progress}[do])}
        return {"done": await {"cancel": cancel, "elicit": elicit, "task": task}[do]()}
    except Exception:
        return {"failed": traceback.format_exc()}


async def main():
    return {do: await tried(do) for do in GIVEN["do"]}


print(json.dumps(anyio.run(main)))
