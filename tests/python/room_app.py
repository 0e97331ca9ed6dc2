#!/usr/bin/env python3
"""room_app.py host|guest SOCKET PIPELINE: a call whose application carries the room's messages itself.

The keyring in PIPELINE has delivery=app. What it gives out (message-ready) goes over a Unix socket to the host, which
puts everything into one order and brings it to all, the sender included (process-message). The host rotates the keys
once media flows, the guest leaves, the host stays. Prints `code EPOCH CODE` for each epoch; the last line is `ok`.
"""

import os
import socket
import struct
import sys
import threading
import time

import gi

gi.require_version("Gst", "1.0")
from gi.repository import GLib, Gst  # noqa: E402

LIMIT = 60


def receive(connection):
    """The messages that come: four bytes of length, then as many."""

    def exactly(count):
        data = b""
        while len(data) < count:
            more = connection.recv(count - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    try:
        while True:
            yield exactly(struct.unpack("!I", exactly(4))[0])
    except (EOFError, OSError):
        return


def send(connection, data):
    connection.sendall(struct.pack("!I", len(data)) + data)


class Order:
    """One order for all: who comes later gets everything from the beginning."""

    def __init__(self, path):
        self.lock = threading.Lock()
        self.messages, self.connections = [], []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path + ".new")
        self.listener.listen()
        os.rename(path + ".new", path)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.listener.accept()
            with self.lock:
                for message in self.messages:
                    send(connection, message)
                self.connections.append(connection)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        for message in receive(connection):
            with self.lock:
                self.messages.append(message)
                for other in list(self.connections):
                    try:
                        send(other, message)
                    except OSError:
                        self.connections.remove(other)


class Call:
    def __init__(self, path, description):
        self.pipeline = Gst.parse_launch(description)
        self.keyring = self.pipeline.get_by_name("keyring")
        self.connection = socket.socket(socket.AF_UNIX)
        self.connection.connect(path)
        self.kinds = []
        self.code = None
        self.joined = None
        self.keyring.connect("message-ready", self.message_ready)
        self.pipeline.set_state(Gst.State.PLAYING)
        threading.Thread(target=self.bring, daemon=True).start()

    def message_ready(self, _keyring, kind, data):
        self.kinds.append(kind)
        send(self.connection, data.get_data())

    def bring(self):
        for message in receive(self.connection):
            while not self.keyring.emit("process-message", GLib.Bytes.new(message)):
                time.sleep(0.01)  # it has enough for now

    def stat(self, element, name):
        return self.pipeline.get_by_name(element).get_property("stats").get_value(name)

    def opened(self):
        return self.stat("dec", "opened")

    def ready(self, members):
        return (
            self.keyring.get_property("state").value_nick == "ready" and self.stat("keyring", "members") == members
        )

    def until(self, what, holds):
        end = time.monotonic() + LIMIT
        while True:
            self.hear(what)
            if holds():
                return
            if time.monotonic() > end:
                raise AssertionError(f"not within {LIMIT} s: {what}; {self.keyring.get_property('state')}")
            self.say_code()
            time.sleep(0.005)

    def hear(self, what):
        """Reads the bus: errors, and the epoch that this one came in with, which is the first that it tells of."""
        bus = self.pipeline.get_bus()
        while message := bus.pop():
            if message.type == Gst.MessageType.ERROR:
                raise AssertionError(f"{what}: {message.parse_error()}")
            told = message.get_structure()
            if self.joined is None and told is not None and told.get_name() == "mls-epoch-changed":
                self.joined = told.get_value("epoch")

    def say_code(self):
        before = self.keyring.get_property("epoch")
        code = self.keyring.get_property("epoch-code")
        if code and code != self.code and before == self.keyring.get_property("epoch"):
            self.code = code
            print("code", before, code.replace(" ", "-"), flush=True)

    def check(self):
        for cause in ("auth-failed", "malformed", "replayed", "wrong-sender"):
            assert self.stat("dec", cause) == 0, cause

    def stop(self):
        self.pipeline.set_state(Gst.State.NULL)


def host(path, description):
    order = Order(path)
    call = Call(path, description)
    call.until("the guest comes", lambda: call.ready(2))
    call.until("media", lambda: call.opened() > 20)
    assert not call.keyring.emit("process-message", GLib.Bytes.new(b"nonsense")), "nonsense was taken"
    epoch = call.keyring.get_property("epoch")
    assert call.keyring.emit("update-key")
    # The guest may have left meanwhile: it has what it came for.
    call.until("new keys", lambda: call.keyring.get_property("epoch") > epoch)
    call.until("the guest leaves", lambda: call.ready(1))
    call.check()
    call.say_code()
    assert "commit" in call.kinds, call.kinds
    call.stop()
    assert order.messages


def guest(path, description):
    call = Call(path, description)
    call.until("coming in", lambda: call.ready(2))
    call.until("media", lambda: call.opened() > 20)
    # The host renews the keys as soon as it hears the guest, which may be before this line.
    call.until("new keys", lambda: call.joined is not None and call.stat("dec", "epoch") > call.joined)
    opened = call.opened()
    call.until("media goes on", lambda: call.opened() > opened + 20)
    call.check()
    assert "key-package" in call.kinds, call.kinds
    call.stop()


if __name__ == "__main__":
    Gst.init(None)
    {"host": host, "guest": guest}[sys.argv[1]](sys.argv[2], sys.argv[3])
    print("ok", flush=True)
