"""A chat through the gateway with OpenAI's Python library: only the base URL and the key are the gateway's."""

import os

from openai import OpenAI

client = OpenAI(base_url=f"{os.environ['NARTHEX']}/v1", api_key=os.environ["KEY"])
stream = client.chat.completions.create(
    model=os.environ.get("MODEL", "demo"),
    messages=[{"role": "user", "content": "Good morning"}],
    stream=True,
)
for chunk in stream:
    for choice in chunk.choices:
        print(choice.delta.content or "", end="")
print()
