"""A service: two capabilities behind one URL, with signed requests. Needs only Python 3.8 or newer.

    SIGNING_SECRET=whsec_… PORT=9000 python3 examples/service.py

SIGNING_SECRET is the secret the service was registered with; two, separated by a space, while it is rotated.
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import time
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOLERANCE_SECONDS = 300
MAX_BODY_BYTES = 1024 * 1024


def word_count(parameters):
    text = parameters["text"]
    return {
        "words": len(text.split()),
        "characters": len(text),
        "lines": text.count("\n") + 1 if text else 0,
    }


def shout(parameters):
    return {"text": parameters["text"].upper() + "!"}


# The capabilities: parameters in, result out. The gateway has validated the parameters against the schema.
CAPABILITIES = {"word_count": word_count, "shout": shout}


def key_of(secret):
    """`whsec_` and base64: the key is the decoded base64."""
    text = secret[len("whsec_"):]
    return base64.b64decode(text + "=" * (-len(text) % 4))


KEYS = [key_of(secret) for secret in os.environ.get("SIGNING_SECRET", "").split() if secret.startswith("whsec_")]


def is_genuine(headers, body):
    """Whether the gateway sent this recently (Standard Webhooks 1.0)."""
    message_id = headers.get("webhook-id", "")
    timestamp = headers.get("webhook-timestamp", "")
    if not message_id or not (timestamp.isascii() and timestamp.isdigit()):
        return False
    if abs(time.time() - int(timestamp)) > TOLERANCE_SECONDS:
        return False
    signed = f"{message_id}.{timestamp}.".encode() + body
    expected = [
        b"v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest())
        for key in KEYS
    ]
    # Compared in constant time, so that timing does not reveal where they differ.
    return any(
        hmac.compare_digest(right, given.encode("latin-1"))
        for given in headers.get("webhook-signature", "").split(" ")
        for right in expected
    )


def failure(code, message, retryable=False):
    """An error of the work itself. `retryable`: another attempt may succeed."""
    return {"error": {"code": code, "message": message, "retryable": retryable}}


def work(body):
    envelope = json.loads(body)
    capability = envelope["capability"]
    print(f"{envelope['context_id']} {capability}, attempt {envelope['attempt']}", flush=True)
    if capability not in CAPABILITIES:
        return failure("unknown_capability", f"There is no {capability} here.")
    try:
        return {"result": CAPABILITIES[capability](envelope["parameters"])}
    except Exception:
        traceback.print_exc()
        return failure("failed", "The work failed.")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(200, {"status": "ok"})

    def do_POST(self):
        length = self.headers.get("content-length", "")
        if not length.isdigit() or int(length) > MAX_BODY_BYTES:
            self.close_connection = True
            return self.answer(413, failure("too_large", "The body is too large, or does not say how large it is."))
        body = self.rfile.read(int(length))
        if not is_genuine(self.headers, body):
            return self.answer(401, failure("bad_signature", "The signature is not valid."))
        return self.answer(200, work(body))

    def log_message(self, *_):
        pass


def main():
    if not KEYS:
        sys.exit("SIGNING_SECRET is not set: give the secret the service is registered with, whsec_…")
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "9000"))), Handler)
    print(f"listening on http://127.0.0.1:{server.server_address[1]}/", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


main()
