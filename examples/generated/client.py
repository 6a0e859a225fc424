"""With a client from openapi-python-client: registers the service at SERVICE, runs a context and reads its events.

    openapi-python-client generate --url "$NARTHEX/openapi.json" --meta none --output-path narthex_client
"""
import json
import os

from narthex_client import AuthenticatedClient
from narthex_client.api.contexts import create_context, get_context
from narthex_client.api.events import list_context_events
from narthex_client.api.services import put_service
from narthex_client.models import (
    Context, ContextAttemptEvent, ContextEventPage, NewCapability, NewContext, NewHttpTransport, NewService, Problem, ServiceType,
)

client = AuthenticatedClient(base_url=os.environ["NARTHEX"], token=os.environ["KEY"])

service = NewService(
    name="Words",
    type_=ServiceType.TOOL,
    transport=NewHttpTransport(kind="http", url=os.environ["SERVICE"]),
    capabilities=[NewCapability(name="word_count")],
)
registered = put_service.sync("words-python", client=client, body=service)
if isinstance(registered, Problem):
    raise SystemExit(registered.detail)

parameters = {"text": "one front door"}
body = NewContext(capability="word_count", service="words-python", parameters=parameters)
made = create_context.sync(client=client, body=body, prefer="respond-async")
assert isinstance(made, Context), made

ended = get_context.sync(made.id, client=client, prefer="wait=10")
assert isinstance(ended, Context), ended
print(ended.status.value, json.dumps(ended.result))

page = list_context_events.sync(made.id, client=client)
assert isinstance(page, ContextEventPage), page
for event in page.data:
    print(event.type_, event.data.outcome.value if isinstance(event, ContextAttemptEvent) else "")

refused = create_context.sync(client=client, body=NewContext(capability="nothing_like_it"))
assert isinstance(refused, Problem), refused
print(refused.code.value)
