#!/usr/bin/env python3
"""An application that brings its own keys: Alice sends sealed video to Bob over UDP, with a new key half-way.

    export GST_PLUGIN_PATH=$(scripts/build | tail -n 1)
    /usr/bin/python3 examples/python/key_source.py

A key source is a GstObject with the signals below, in any language; plugins/common/src/key_source.rs is the contract.
GStreamer calls it from its streaming threads. Both ends are in one process here so that the example runs by itself.
"""

import os
import sys
import threading

import gi

gi.require_version("Gst", "1.0")
from gi.repository import GLib, GObject, Gst  # noqa: E402

AES_128_GCM_SHA256_128 = 4  # the number of the cipher suite at IANA; its base key has any length from 16 bytes up
ACTION = GObject.SignalFlags.RUN_LAST | GObject.SignalFlags.ACTION
NOTICE = GObject.SignalFlags.RUN_LAST
U64 = GObject.TYPE_UINT64


def u64(number):
    return GObject.Value(U64, number)


def u32(number):
    return GObject.Value(GObject.TYPE_UINT, number)


def structure(name, fields):
    # Never print one of these: it shows the key.
    made = Gst.Structure.new_empty(name)
    for field, value in fields.items():
        made.set_value(field, value)
    return made


class KeySource(Gst.Object):
    """Keys of one endpoint. They live as long as the process, so counters need not outlive it either."""

    __gsignals__ = {
        "sender-key": (ACTION, Gst.Structure, (str,)),
        "receiver-key": (ACTION, Gst.Structure, (U64,)),
        "frame-opened": (ACTION, None, (U64,)),
        "room-state": (ACTION, Gst.Structure, (U64,)),
        "sign": (ACTION, GLib.Bytes, (str, GLib.Bytes)),
        "keys-changed": (NOTICE, None, (U64,)),
        "room-changed": (NOTICE, None, (U64,)),
    }
    RANGE = 1 << 32  # counters in one answer

    def __init__(self):
        super().__init__()
        self.mutex = threading.Lock()  # "lock" is a field of GstObject
        self.keys = {}  # KID: (base key, whose it is)
        self.sending = None  # KID to seal with
        self.next_counter = {}
        self.opened = []

    # What the application calls.

    def add(self, kid, key, sender, send=False):
        with self.mutex:
            self.keys[kid] = (key, sender)
            if send:
                self.sending = kid
        # Without the mutex: the elements ask at once.
        self.emit("keys-changed", 0)

    # What the elements call.

    def do_sender_key(self, _stream):
        """A key and a range of its counters. None may be given out twice for one key and KID."""
        with self.mutex:
            kid = self.sending
            if kid is None:
                return None  # no key now: nothing is sent
            first = self.next_counter.get(kid, 0)
            self.next_counter[kid] = first + self.RANGE
            key, _ = self.keys[kid]
        return structure(
            "sframe-sender-key",
            {
                "kid": u64(kid),
                "cipher-suite": u32(AES_128_GCM_SHA256_128),
                "base-key": GLib.Bytes.new(key),
                "counter": u64(first),
                "counter-end": u64(first + self.RANGE),
                "epoch": u64(0),
            },
        )

    def do_receiver_key(self, kid):
        """The key of this KID; None: not known (yet), the frame waits a little and is dropped then."""
        with self.mutex:
            if kid not in self.keys:
                return None
            key, sender = self.keys[kid]
        return structure(
            "sframe-receiver-key",
            {
                "cipher-suite": u32(AES_128_GCM_SHA256_128),
                "base-key": GLib.Bytes.new(key),
                "epoch": u64(0),
                "leaf": u32(0),
                "sender": sender,
            },
        )

    def do_frame_opened(self, kid):
        with self.mutex:
            self.opened.append(kid)

    def do_room_state(self, _epoch):
        return None

    def do_sign(self, _purpose, _data):
        return None


class Player:
    """A pipeline, and what it says."""

    def __init__(self, name, description):
        self.name = name
        self.pipeline = Gst.parse_launch(description)
        self.get = self.pipeline.get_by_name

    def set_state(self, state):
        if self.pipeline.set_state(state) == Gst.StateChangeReturn.FAILURE:
            self.wait()
            sys.exit(f"{self.name} does not start")

    def wait(self):
        """Until the end of the stream; tells what the elements report on the way."""
        wanted = Gst.MessageType.EOS | Gst.MessageType.ERROR | Gst.MessageType.ELEMENT
        while True:
            message = self.pipeline.get_bus().timed_pop_filtered(30 * Gst.SECOND, wanted)
            if message is None:
                sys.exit(f"{self.name}: nothing happens any more")
            if message.type == Gst.MessageType.EOS:
                return
            if message.type == Gst.MessageType.ERROR:
                error, _ = message.parse_error()
                sys.exit(f"{self.name}: {error.message}")
            said = message.get_structure()
            if said.get_name() in ("sframe-key-missing", "sframe-decrypt-failed"):
                print(f"{self.name}: {said.get_name()}, {said.get_value('cause')}, {said.get_value('count')} frames")

    def stat(self, element, field):
        return self.get(element).get_property("stats").get_value(field)


def main():
    Gst.init(None)
    alice_keys, bob_keys = KeySource(), KeySource()

    bob = Player(
        "bob",
        "udpsrc name=in address=127.0.0.1 port=0 "
        "caps=application/x-rtp,media=video,clock-rate=90000,encoding-name=VP8,payload=96 "
        "! rtpjitterbuffer latency=1000 ! rtpsframedepay ! sframedec name=open ! vp8dec ! fakesink name=screen",
    )
    alice = Player(
        "alice",
        "videotestsrc is-live=true num-buffers=60 ! video/x-raw,width=320,height=240,framerate=30/1 "
        "! vp8enc deadline=1 keyframe-max-dist=30 ! sframeenc name=seal ! rtpsframepay pt=96 "
        "! udpsink name=out host=127.0.0.1",
    )
    alice.get("seal").set_property("key-source", alice_keys)
    bob.get("open").set_property("key-source", bob_keys)

    def new_key(kid):
        key = os.urandom(16)
        # To Bob first, over a channel of the application that is itself end-to-end encrypted.
        bob_keys.add(kid, key, "alice")
        alice_keys.add(kid, key, "alice", send=True)

    new_key(1)

    # At the thirtieth frame the key changes: sframeenc asks for a keyframe and goes on with the new one.
    frames = 0

    def count(_pad, _info):
        nonlocal frames
        frames += 1
        if frames == 30:
            new_key(2)
        return Gst.PadProbeReturn.OK

    alice.get("seal").get_static_pad("sink").add_probe(Gst.PadProbeType.BUFFER, count)

    bob.set_state(Gst.State.PLAYING)
    alice.get("out").set_property("port", bob.get("in").get_property("port"))
    alice.set_state(Gst.State.PLAYING)
    alice.wait()
    # UDP does not say when it is over.
    bob.pipeline.send_event(Gst.Event.new_eos())
    bob.wait()

    sealed, opened = alice.stat("seal", "sealed"), bob.stat("open", "opened")
    print(f"alice: sealed {sealed} frames, {alice.stat('seal', 'key-changes')} key changes")
    print(f"bob: opened {opened} frames, {bob.stat('open', 'auth-failed')} failed; KIDs seen: {bob_keys.opened}")
    for player in (alice, bob):
        player.set_state(Gst.State.NULL)
    return 0 if sealed and opened == sealed else 1


if __name__ == "__main__":
    sys.exit(main())
