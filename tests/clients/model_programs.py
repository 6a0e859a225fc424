"""Programs written with the official Python libraries of OpenAI and Anthropic. One line of JSON has the address, the
keys, whether to use the asynchronous clients, and the set of programs; prints what each of them saw as JSON."""

import asyncio
import base64
import hashlib
import inspect
import json
import random
import sys

import anthropic
import openai
from pydantic import BaseModel

GIVEN = json.load(sys.stdin)
URL, ASYNCHRONOUS = GIVEN["url"], GIVEN["asynchronous"]

OPTIONS = {"max_retries": 0, "timeout": 120}
OPENAI = (openai.AsyncOpenAI if ASYNCHRONOUS else openai.OpenAI)(
    base_url=f"{URL}/v1", api_key=GIVEN["keys"]["openai"], **OPTIONS
)
ANTHROPIC = (anthropic.AsyncAnthropic if ASYNCHRONOUS else anthropic.Anthropic)(
    base_url=URL, api_key=GIVEN["keys"]["anthropic"], **OPTIONS
)
CHATS, MESSAGES = OPENAI.chat.completions, ANTHROPIC.messages

# One text for both kinds of clients: these wait where there is something to wait for.


async def done(value):
    return await value if inspect.isawaitable(value) else value


async def each(stream):
    if hasattr(stream, "__aiter__"):
        async for item in stream:
            yield item
    else:
        for item in stream:
            yield item


class Opened:
    """A stream of a library's context manager."""

    def __init__(self, manager):
        self.manager = manager

    async def __aenter__(self):
        enter = getattr(self.manager, "__aenter__", None) or self.manager.__enter__
        return await done(enter())

    async def __aexit__(self, *failure):
        leave = getattr(self.manager, "__aexit__", None) or self.manager.__exit__
        await done(leave(*failure))


def plain(value):
    return value.model_dump(mode="json", warnings=False) if isinstance(value, BaseModel) else value


async def seen(value):
    return plain(await done(value))


async def items(stream):
    return [plain(item) async for item in each(await done(stream))]


async def failure(do):
    """What a program sees of a failure, also in the middle of a stream."""
    try:
        answer = await done(do())
        if hasattr(answer, "response"):
            await items(answer)
    except (openai.APIError, anthropic.APIError) as error:
        headers = error.response.headers if hasattr(error, "response") else {}
        later = ["retry-after", "retry-after-ms", "x-should-retry"]
        members = ["status_code", "message", "body", "code", "param", "type"]
        return {
            "name": type(error).__name__,
            **{name: getattr(error, name, None) for name in members},
            "later": [headers.get(name) for name in later],
        }
    raise AssertionError("it did not fail")


def digest(value):
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def say(content):
    return [{"role": "user", "content": content}]


async def chat(content, **more):
    return await done(CHATS.create(model="small", messages=say(content), **more))


async def message(content, **more):
    return await done(MESSAGES.create(model="haiku", max_tokens=1000, messages=say(content), **more))


class Weather(BaseModel):
    city: str
    degrees: float
    tags: list[str]


CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
NAMES = ["get_weather", "get_time"]
FUNCTIONS = [{"type": "function", "function": {"name": name, "parameters": CITY}} for name in NAMES]
RESPONSE_TOOLS = [{"type": "function", "name": "get_weather", "parameters": CITY, "strict": False}]
TOOLS = [{"name": name, "input_schema": CITY} for name in NAMES]
USAGE = {"stream_options": {"include_usage": True}}
THINKING = {"type": "enabled", "budget_tokens": 1024}
CACHED = [{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}]
PICTURE = base64.b64encode(random.Random(1).randbytes(5 * 1024 * 1024)).decode()
STATUSES = [400, 500, 403, 503, 404, 529, 409, 422, 429]


async def tool_conversation():
    first = await chat("tools", tools=FUNCTIONS)
    said = first.choices[0].message
    results = [{"role": "tool", "tool_call_id": call.id, "content": "-3.5 °C"} for call in said.tool_calls]
    messages = [*say("tools"), said, *results, *say("And now?")]
    return [plain(first), await seen(CHATS.create(model="small", messages=messages, tools=FUNCTIONS))]


async def chat_helper():
    async with Opened(CHATS.stream(model="small", messages=say("parallel"), tools=FUNCTIONS, **USAGE)) as stream:
        kinds = [event.type async for event in each(stream)]
        return [kinds, await seen(stream.get_final_completion())]


async def many_embeddings():
    answer = await done(OPENAI.embeddings.create(model="small", input=[f"Text {at}, 世界" for at in range(2048)]))
    return [len(answer.data), digest([one.embedding for one in answer.data]), plain(answer.usage)]


async def many_pieces():
    pieces = await items(chat("many 50000", stream=True))
    return [len(pieces), digest([piece["choices"][0]["delta"].get("content") for piece in pieces if piece["choices"]])]


async def raw_chat():
    answer = await done(CHATS.with_raw_response.create(model="small", messages=say("Hi")))
    return [answer.status_code, answer.headers["content-type"], plain(await done(answer.parse()))]


async def chat_of_a_picture():
    parts = [{"type": "text", "text": "Hi"}]
    parts.append({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}})
    return [await seen(chat(parts)), len(await items(chat(parts, stream=True, **USAGE)))]


async def errors_of_openai():
    asked = [f"error {status}" for status in STATUSES]
    return [
        [
            await failure(lambda: chat(text)),
            await failure(lambda: chat(text, stream=True)),
            await failure(lambda: OPENAI.responses.create(model="small", input=text)),
            await failure(lambda: OPENAI.embeddings.create(model="small", input=text)),
        ]
        for text in asked
    ]


async def left(opening):
    """Leaves a stream that has no end."""
    stream, count = await opening, 0
    async for _ in each(stream):
        count += 1
        if count == 20:
            break
    await done(stream.close())
    return count


async def late_chats():
    return [
        await failure(lambda: chat("silent", timeout=0.5)),
        await failure(lambda: chat("silent", timeout=0.5, stream=True)),
    ]


async def cancelled_chat():
    """The asynchronous client can be cancelled while it waits."""
    if not ASYNCHRONOUS:
        return "only with the asynchronous client"
    try:
        await asyncio.wait_for(chat("silent"), 0.5)
    except TimeoutError:
        return "cancelled"


async def response_helper():
    async with Opened(OPENAI.responses.stream(model="small", input="Hi")) as stream:
        kinds = [event.type async for event in each(stream)]
        return [kinds, await seen(stream.get_final_response())]


async def thinking_conversation():
    first = await done(
        MESSAGES.create(model="haiku", max_tokens=2000, thinking=THINKING, messages=say("thinking"))
    )
    messages = [*say("thinking"), {"role": "assistant", "content": first.content}, *say("And now?")]
    return [plain(first), await seen(MESSAGES.create(model="haiku", max_tokens=1000, messages=messages))]


async def message_helper(word):
    async with Opened(MESSAGES.stream(model="haiku", max_tokens=1000, messages=say(word), tools=TOOLS)) as stream:
        events = [plain(event) async for event in each(stream)]
        return [events, await seen(stream.get_final_message())]


async def message_of_a_picture():
    source = {"type": "base64", "media_type": "image/png", "data": PICTURE}
    parts = [{"type": "text", "text": "Hi"}, {"type": "image", "source": source}]
    return [await seen(message(parts)), len(await items(message(parts, stream=True)))]


async def errors_of_anthropic():
    asked = [f"error {status}" for status in STATUSES]
    return [
        [
            await failure(lambda: message(text)),
            await failure(lambda: message(text, stream=True)),
            await failure(lambda: MESSAGES.count_tokens(model="haiku", messages=say(text))),
        ]
        for text in asked
    ]


async def second_tries():
    """Refused once by the provider, and repeated by the libraries."""
    openai_again, anthropic_again = OPENAI.with_options(max_retries=1), ANTHROPIC.with_options(max_retries=1)
    chat, message = say("busy-at-first chat"), say("busy-at-first message")
    return [
        await seen(openai_again.chat.completions.create(model="small", messages=chat)),
        await seen(anthropic_again.messages.create(model="haiku", max_tokens=9, messages=message)),
    ]


async def wrong_keys():
    openai_wrong, anthropic_wrong = OPENAI.with_options(api_key="wrong"), ANTHROPIC.with_options(api_key="wrong")
    return [
        await failure(lambda: openai_wrong.chat.completions.create(model="small", messages=say("Hi"))),
        await failure(lambda: anthropic_wrong.messages.create(model="haiku", max_tokens=9, messages=say("Hi"))),
    ]


async def unknown_models():
    return [
        await failure(lambda: CHATS.create(model="smal", messages=say("Hi"))),
        await failure(lambda: MESSAGES.create(model="haik", max_tokens=9, messages=say("Hi"))),
        await failure(lambda: OPENAI.models.retrieve("smal")),
        await failure(lambda: ANTHROPIC.models.retrieve("haik")),
    ]


async def models():
    return [
        [model["id"] for model in await items(OPENAI.models.list())],
        [model["id"] for model in await items(ANTHROPIC.models.list(limit=1))],
        (await seen(OPENAI.models.retrieve("small")))["id"],
        (await seen(ANTHROPIC.models.retrieve("haiku")))["id"],
    ]


# What the provider and the gateway must answer alike.
OF_OPENAI = {
    "a_chat": lambda: seen(chat("Hi")),
    "a_streamed_chat": lambda: items(chat("Hi", stream=True)),
    "a_streamed_chat_with_usage": lambda: items(chat("Hi", stream=True, **USAGE)),
    "a_chat_with_a_tool": tool_conversation,
    "two_tools_at_once": lambda: seen(chat("parallel", tools=FUNCTIONS)),
    "two_streamed_tools": lambda: items(chat("parallel", tools=FUNCTIONS, stream=True, **USAGE)),
    "a_helper_for_streamed_chats": chat_helper,
    "structured_output": lambda: seen(CHATS.parse(model="small", messages=say("json"), response_format=Weather)),
    "two_choices": lambda: seen(chat("Hi", n=2)),
    "a_raw_response": raw_chat,
    "a_compressed_response": lambda: seen(chat("zipped")),
    "a_picture": chat_of_a_picture,
    "embeddings": lambda: seen(OPENAI.embeddings.create(model="small", input="Hi")),
    "embeddings_of_2048_texts": many_embeddings,
    "a_stream_of_50000_pieces": many_pieces,
    "errors": errors_of_openai,
    "an_error_in_a_streamed_chat": lambda: failure(lambda: chat("late-error", stream=True)),
    "a_chat_that_is_left": lambda: left(chat("endless", stream=True)),
    "chats_that_come_too_late": late_chats,
    "a_cancelled_chat": cancelled_chat,
    "a_response": lambda: seen(OPENAI.responses.create(model="small", input="Hi", instructions="Be kind.")),
    "a_streamed_response": lambda: items(OPENAI.responses.create(model="small", input="Hi", stream=True)),
    "a_response_with_a_tool": lambda: items(
        OPENAI.responses.create(model="small", input="tools", tools=RESPONSE_TOOLS, stream=True)
    ),
    "a_structured_response": lambda: seen(OPENAI.responses.parse(model="small", input="json", text_format=Weather)),
    "a_helper_for_streamed_responses": response_helper,
}
OF_ANTHROPIC = {
    "a_message": lambda: seen(message("Hi")),
    "a_streamed_message": lambda: items(message("Hi", stream=True)),
    "a_helper_for_streamed_messages": lambda: message_helper("Hi"),
    "two_tools_in_a_message": lambda: message_helper("parallel"),
    "thinking": thinking_conversation,
    "a_structured_message": lambda: seen(
        MESSAGES.parse(model="haiku", max_tokens=99, messages=say("json"), output_format=Weather)
    ),
    "a_cached_prompt": lambda: seen(message("Hi", system=CACHED)),
    "beta_features": lambda: seen(
        ANTHROPIC.beta.messages.create(
            model="haiku", max_tokens=9, messages=say("Hi"), betas=["context-1m-2025-08-07", "files-api-2025-04-14"]
        )
    ),
    "counted_tokens": lambda: seen(MESSAGES.count_tokens(model="haiku", messages=say("Hi"), tools=TOOLS)),
    "a_picture_in_a_message": message_of_a_picture,
    "errors_of_messages": errors_of_anthropic,
    "an_error_in_a_streamed_message": lambda: failure(lambda: message("late-error", stream=True)),
    "a_message_that_is_left": lambda: left(message("endless", stream=True)),
    "a_message_that_comes_too_late": lambda: failure(lambda: message("silent", timeout=0.5)),
    "second_tries": second_tries,
}
# What only the gateway answers.
OF_THE_GATEWAY = {"models": models, "wrong_keys": wrong_keys, "unknown_models": unknown_models}
SETS = {"provider": OF_OPENAI | OF_ANTHROPIC, "gateway": OF_THE_GATEWAY}


async def main():
    saw = {}
    for name, program in SETS[GIVEN["set"]].items():
        try:
            saw[name] = {"saw": await program()}
        except Exception as error:
            saw[name] = {"failed": f"{type(error).__name__}: {error}"}
    print(json.dumps(saw))


asyncio.run(main())
