"""A connected service, without an address of its own: it connects to the gateway and takes its work there. Needs
only Python 3.9 or newer.

    GATEWAY=http://127.0.0.1:8787 SERVICE=words KEY=… python3 examples/socket_service.py

KEY is a key with the role `service` for this service. You can kill and restart it at any time.
"""

import base64
import json
import os
import random
import signal
import socket
import ssl
import struct
import sys
import threading
import time
from urllib.parse import urlsplit

SUBPROTOCOL = "narthex.service.v1"
PING_SECONDS = 20
SILENT_SECONDS = 60
MAX_PAUSE_SECONDS = 15


def word_count(parameters):
    text = parameters["text"]
    return {"words": len(text.split()), "characters": len(text), "lines": text.count("\n") + 1 if text else 0}


def shout(parameters):
    return {"text": parameters["text"].upper() + "!"}


# The capabilities: parameters in, result out. The gateway has validated the parameters against the schema.
CAPABILITIES = {"word_count": word_count, "shout": shout}


class WebSocket:
    """The client end of a WebSocket (RFC 6455), for whole text messages."""

    TEXT, CLOSE, PING, PONG = 1, 8, 9, 10

    def __init__(self, url, headers):
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        self.socket = socket.create_connection((parts.hostname, port), timeout=SILENT_SECONDS)
        if parts.scheme == "https":
            self.socket = ssl.create_default_context().wrap_socket(self.socket, server_hostname=parts.hostname)
        self.file = self.socket.makefile("rb")
        self.lock = threading.Lock()
        lines = [
            f"GET {parts.path} HTTP/1.1",
            f"Host: {parts.netloc}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        status = self.file.readline().decode().strip()
        while self.file.readline().strip():
            pass
        if " 101 " not in f"{status} ":
            raise ConnectionError(f"the gateway answered {status}")

    def send(self, text, opcode=TEXT):
        data = text.encode() if isinstance(text, str) else text
        length = len(data)
        if length < 126:
            head = struct.pack("!BB", 0x80 | opcode, 0x80 | length)
        elif length < 65536:
            head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, length)
        else:
            head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, length)
        mask = os.urandom(4)
        keys = int.from_bytes((mask * (length // 4 + 1))[:length], "big")
        masked = (int.from_bytes(data, "big") ^ keys).to_bytes(length, "big")
        with self.lock:
            self.socket.sendall(head + mask + masked)

    def read(self, length):
        data = self.file.read(length)
        if len(data) < length:
            raise ConnectionError("the connection was cut")
        return data

    def receive(self):
        """The next text message; None once the other end has closed."""
        text = b""
        while True:
            first, length = self.read(2)
            length &= 0x7F
            if length == 126:
                (length,) = struct.unpack("!H", self.read(2))
            elif length == 127:
                (length,) = struct.unpack("!Q", self.read(8))
            data = self.read(length)
            opcode = first & 0x0F
            if opcode == self.CLOSE:
                self.code = struct.unpack("!H", data[:2])[0] if len(data) >= 2 else 1005
                return None
            if opcode == self.PING:
                self.send(data, self.PONG)
            elif opcode != self.PONG:
                text += data
                if first & 0x80:
                    return text.decode()

    def stop(self):
        """Wakes the reader: nothing more will arrive."""
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def close(self):
        self.stop()
        # The file keeps the connection open too.
        self.file.close()
        self.socket.close()


class Service:
    def __init__(self, gateway, service, key, credit):
        self.url = f"{gateway.rstrip('/')}/v1/services/{service}/connect"
        self.key, self.credit = key, credit
        self.held = {}  # Deliveries that run, or are not known to be stored; with what is to be reported of them.
        self.lock = threading.Lock()
        self.connection = None
        self.ending = False

    def say(self, message):
        # A message lost here is sent again on the next connection.
        connection = self.connection
        try:
            if connection:
                connection.send(json.dumps(message))
        except OSError:
            pass

    def work(self, delivery, work):
        print(f"{work['context_id']} {work['capability']}, attempt {work['attempt']}", flush=True)
        report = {"type": "error", "delivery": delivery}
        try:
            capability = CAPABILITIES.get(work["capability"])
            if capability is None:
                report["error"] = {"code": "unknown_capability", "message": f"There is no {work['capability']} here."}
            else:
                report = {"type": "result", "delivery": delivery, "result": capability(work["parameters"])}
        except Exception as error:  # Whatever the work does wrong is an error of the work.
            print(repr(error), file=sys.stderr, flush=True)
            report["error"] = {"code": "failed", "message": "The work failed."}
        with self.lock:
            if delivery not in self.held:
                return  # Cancelled in the meantime.
            self.held[delivery] = report
        self.say(report)

    def hear(self, message):
        kind = message["type"]
        if kind == "welcome":
            print(f"connected as {message['connection']}", flush=True)
            with self.lock:
                held = dict(self.held)
            self.say({"type": "ready", "credit": 0 if self.ending else self.credit, "resume": list(held)})
            for report in held.values():
                if report:
                    self.say(report)
        elif kind == "work":
            with self.lock:
                self.held[message["delivery"]] = None
            threading.Thread(target=self.work, args=(message["delivery"], message["work"]), daemon=True).start()
        elif kind in ("cancel", "done"):
            with self.lock:
                self.held.pop(message["delivery"], None)
        elif kind == "fault":
            print("the gateway could not read a message:", message["errors"], file=sys.stderr, flush=True)

    def connect(self):
        """One connection, from its opening to its end; true if it was useful."""
        headers = {"Authorization": f"Bearer {self.key}", "Sec-WebSocket-Protocol": SUBPROTOCOL}
        connection = WebSocket(self.url, headers)
        self.connection = connection
        stopped = threading.Event()

        def ping():
            while not stopped.wait(PING_SECONDS):
                try:
                    connection.send("ping")
                except OSError:
                    return

        threading.Thread(target=ping, daemon=True).start()
        try:
            while not (self.ending and not self.held):
                text = connection.receive()
                if text is None:
                    if connection.code == 4401:
                        sys.exit("the key is no longer good")
                    return
                if text != "pong":
                    self.hear(json.loads(text))
        finally:
            stopped.set()
            self.connection = None
            connection.close()

    def serve(self):
        failures = 0
        while not (self.ending and not self.held):
            began = time.monotonic()
            try:
                self.connect()
            except (OSError, ValueError) as error:
                if not self.ending:
                    print(f"{error}: trying again", file=sys.stderr, flush=True)
            failures = 0 if time.monotonic() - began > 5 else failures + 1
            if not self.ending:
                # With jitter, so that not all services reconnect at once after the gateway restarts.
                time.sleep(random.random() * min(MAX_PAUSE_SECONDS, 0.5 * 2**failures))

    def end(self, *_):
        """Running work finishes; no new work is accepted."""
        self.ending = True
        connection = self.connection
        if self.held:
            # A signal may arrive in the middle of a message.
            threading.Thread(target=self.say, args=({"type": "ready", "credit": 0},), daemon=True).start()
        elif connection:
            connection.stop()


if __name__ == "__main__":
    if not os.environ.get("KEY"):
        sys.exit("KEY is not set: give a key of the role service, for this service")
    service = Service(
        os.environ.get("GATEWAY", "http://127.0.0.1:8787"),
        os.environ.get("SERVICE", "words"),
        os.environ["KEY"],
        int(os.environ.get("CREDIT", "4")),
    )
    signal.signal(signal.SIGTERM, service.end)
    service.serve()
