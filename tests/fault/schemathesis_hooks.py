"""Constraints that Schemathesis cannot know from openapi.json alone."""

import re

import requests
import schemathesis
from schemathesis.core import NOT_SET


@schemathesis.hook
def before_call(ctx, case, kwargs):
    # Cursors are opaque, which openapi.json states in prose only: an invented one is answered with 400.
    if case.query and isinstance(case.query.get("cursor"), str) and case.query["cursor"]:
        del case.query["cursor"]
    # The coverage phase uses 0 as an entity tag, which does not match the pattern of If-Match.
    if case.headers and str(case.headers.get("If-Match")) == "0":
        case.headers["If-Match"] = '"0"'
    # The development server fails on a GET with a body before the gateway has it.
    if case.method.upper() in ("GET", "HEAD"):
        case.body = NOT_SET
    # The development server drops headers without a value.
    for name in [name for name, value in (case.headers or {}).items() if value == ""]:
        del case.headers[name]
    # Invented addresses cannot be called here, and each event would try all of them.
    if case.operation.path == "/v1/webhooks/{id}" and isinstance(case.body, dict) and case.body.get("enabled", True) in (True, None):
        case.body["enabled"] = False
    # Avoids half a minute of waiting for a service that does not exist.
    prefer = case.headers.get("Prefer") if case.headers else None
    if isinstance(prefer, str):
        case.headers["Prefer"] = re.sub(r"wait=\d+", "wait=1", prefer)


@schemathesis.hook
def after_call(ctx, case, response):
    # A limit of a few requests a day on the run's own key would end the run; the example's limit does not bind it.
    if case.operation.path == "/v1/limits/{name}" and case.method == "PUT" and response.status_code in (200, 201):
        if response.json()["binds"] != {"role": "caller"}:
            authorization = response.request.headers["Authorization"]
            headers = {"Authorization": authorization, "If-Match": "*"}
            url = response.request.url.split("?")[0]
            if requests.delete(url, headers=headers, timeout=60).status_code != 204:
                raise AssertionError(f"the limit at {url} could not be deleted")
