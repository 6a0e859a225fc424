"""An MCP client: lists the tools of a gateway and calls one. Python 3.10 or newer, with `pip install mcp`.

MCP_URL=https://gateway.example.com/mcp MCP_KEY=nx_… python3 examples/mcp_client.py words__word_count '{"text": "one front door"}'
"""

import asyncio
import json
import os
import sys

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

URL = os.environ.get("MCP_URL", "http://127.0.0.1:8787/mcp")
KEY = os.environ["MCP_KEY"]


async def on_progress(progress, total, message):
    print(progress, message or "")


async def main(name, arguments):
    headers = {"Authorization": f"Bearer {KEY}"}
    # A call may take long, so the read timeout is generous.
    async with httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(30, read=300)) as http:
        async with Client(streamable_http_client(URL, http_client=http)) as client:
            tools = (await client.list_tools()).tools
            print(f"{client.protocol_version}: {', '.join(tool.name for tool in tools)}")
            result = await client.call_tool(name, arguments, progress_callback=on_progress)
            if result.structured_content is not None:
                print(json.dumps(result.structured_content, separators=(",", ":")))
            else:
                print([part.model_dump(exclude_none=True) for part in result.content])


asyncio.run(main(sys.argv[1], json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}))
