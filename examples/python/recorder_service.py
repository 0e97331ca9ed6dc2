#!/usr/bin/env python3
"""Records several rooms in one process: a pipeline for each, and what goes wrong in one is no concern of the others.

    export GST_PLUGIN_PATH=$(scripts/build | tail -n 1)
    /usr/bin/python3 examples/python/recorder_service.py recorder.json

recorder.json says where things are and which rooms there are; plugins/compliance/README.md tells how they are made:

    { "certificate": "recorder/cert.pem", "private-key": "recorder/key.pem", "ca": "recorder/ca.pem",
      "keys": "keys", "audit-log": "audit", "recordings": "recordings",
      "rooms": [{ "room": "visit-42", "consent": "visit-42.json", "delivery": "nats://nats.example:4222",
                  "streams": [{ "media": "video", "port": 5030, "rtcp-to": "relay.example:5041" },
                              { "media": "audio", "port": 5032, "rtcp-to": "relay.example:5043" }] }] }

A stream's RTP comes to its port and RTCP to the next one; `rtcp-to` takes what the recorder answers, such as its wish for a
keyframe. Each line printed is a JSON object about one room, for whoever keeps the service's log. Nothing in it is secret.

A room ends when the recorder was removed from it, or by an error; then it is over for this process, and the others go on.
SIGTERM (or SIGINT) ends all: each recording gets its end record and each room sees the recorder leave. The exit code
is 0 if no room ended by an error.
"""

import json
import signal
import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import GLib, Gst  # noqa: E402

VIDEO = (
    "application/x-rtp,media=video,clock-rate=90000,encoding-name=VP8,payload=96,"
    'a-sframe=(string)"",rtcp-fb-nack-pli=(boolean)true'
)
AUDIO = 'application/x-rtp,media=audio,clock-rate=48000,encoding-name=OPUS,payload=97,a-sframe=(string)""'
CAPS = {"video": VIDEO, "audio": AUDIO}

# What is told of a room: messages and their fields. A segment is told of once a second and track, so it is only counted.
TOLD = {
    "mls-epoch-changed": ("epoch", "epoch-code", "members"),
    "mls-recording-changed": ("recording", "by"),
    "mls-refused": ("what", "by", "reason"),
    "mls-verification-failed": ("reason",),
    "mls-stale": ("reason",),
    "mls-resync": ("done", "reason"),
    "mls-not-accepted": ("accepted", "claim", "accept"),
    "mls-clone-detected": ("reason",),
    "mls-evicted": ("by",),
    "sframe-decrypt-failed": ("kid", "cause", "count"),
    "sframe-key-missing": ("kid", "cause", "count"),
    "compliance-started": ("recording-id", "claim", "epoch", "resumed"),
    "compliance-gap": ("recording-id", "track", "frames", "cause"),
    "compliance-paused": ("recording-id", "cause", "reason"),
    "compliance-stopped": ("recording-id", "cause", "lines", "root"),
    "compliance-failed": ("recording-id", "cause", "reason"),
}


class Room:
    """One room and its pipeline, from `start` until `ended` is called."""

    def __init__(self, config, service, ended):
        self.name = config["room"]
        self.ended = ended
        self.segments = 0
        self.failed = False
        self.over = False
        self.pipeline = Gst.Pipeline.new(None)

        keyring = self.add("mlskeyring", "room")
        for name, value in {
            "room": self.name,
            "delivery": config["delivery"],
            "certificate-file": config.get("certificate", service["certificate"]),
            "private-key-file": config.get("private-key", service["private-key"]),
            "ca-file": service["ca"],
        }.items():
            keyring.set_property(name, value)
        # The weakest claim of a room that it comes into: one that is recorded.
        Gst.util_set_object_arg(keyring, "accept", "recorded")

        self.recorder = self.add("compliancesink", "recorder")
        for name, value in {
            "keys": service["keys"],
            "audit-log": service["audit-log"],
            "location": service["recordings"],
            "consent-file": config["consent"],
        }.items():
            self.recorder.set_property(name, value)
        # What people write to each other belongs to the recording.
        keyring.link_pads("msg_src_0", self.recorder, "messages_0")

        self.rtp = self.add("rtpbin", "rtp")
        # So many senders at once in a stream: who sends from ever new SSRCs does not fill the memory.
        self.rtp.set_property("max-streams", 8)
        # What the network loses becomes a gap in the recording.
        self.rtp.set_property("do-lost", True)
        self.rtp.connect("pad-added", self.stream_came)
        for session, stream in enumerate(config["streams"]):
            self.listen(session, **{key.replace("-", "_"): value for key, value in stream.items()})

    def add(self, factory, name=None):
        element = Gst.ElementFactory.make(factory, name)
        if element is None:
            raise ValueError(f"no element {factory}: does GST_PLUGIN_PATH name the folder with the plugins?")
        self.pipeline.add(element)
        return element

    def listen(self, session, media, port, rtcp_to):
        for offset, kind in enumerate(("rtp", "rtcp")):
            source = self.add("udpsrc")
            source.set_property("port", port + offset)
            if kind == "rtp":
                source.set_property("caps", Gst.Caps.from_string(CAPS[media]))
            source.link_pads("src", self.rtp, f"recv_{kind}_sink_{session}")
        sink = self.add("udpsink")
        host, _, rtcp_port = rtcp_to.rpartition(":")
        for name, value in {"host": host, "port": int(rtcp_port), "sync": False, "async": False}.items():
            sink.set_property(name, value)
        self.rtp.link_pads(f"send_rtcp_src_{session}", sink, "sink")

    def stream_came(self, _rtp, pad):
        """A sender was heard for the first time, in a streaming thread: it gets a way to the recorder of its own."""
        if not pad.get_name().startswith("recv_rtp_src_"):
            return
        depayloader, decryptor = self.add("rtpsframedepay"), self.add("sframedec")
        depayloader.link(decryptor)
        decryptor.link(self.recorder)
        for element in (decryptor, depayloader):
            element.sync_state_with_parent()
        pad.link(depayloader.get_static_pad("sink"))

    def tell(self, said, **fields):
        print(json.dumps({"room": self.name, "said": said, **fields}), flush=True)

    # From here on in the main loop.

    def start(self):
        bus = self.pipeline.get_bus()
        bus.add_signal_watch()
        bus.connect("message", self.heard)
        # Should it fail, the reason is on the bus.
        self.pipeline.set_state(Gst.State.PLAYING)

    def heard(self, _bus, message):
        if message.type == Gst.MessageType.ERROR:
            error, _ = message.parse_error()
            self.failed = True
            self.end("error", error.message)
        elif message.type == Gst.MessageType.WARNING:
            warning, _ = message.parse_warning()
            self.tell("warning", element=message.src.get_name(), reason=warning.message)
        elif message.type == Gst.MessageType.ELEMENT:
            self.heard_element(message.get_structure())

    def heard_element(self, said):
        name = said.get_name()
        if name == "compliance-segment":
            self.segments += 1
        if name in TOLD:
            self.tell(name, **{field: said.get_value(field) for field in TOLD[name] if said.has_field(field)})
        if name == "mls-evicted":
            self.end("removed", f"{said.get_value('by')} removed the recorder")
        elif name == "mls-clone-detected":
            self.end("error", said.get_value("reason"))

    def end(self, how, why):
        """Ends the recording properly, leaves the room and tells what came of it. Only the first reason counts."""
        if self.over:
            return
        self.over = True
        self.failed |= how == "error"
        bus = self.pipeline.get_bus()
        # compliancesink writes its end record, and mlskeyring leaves. At NULL the bus forgets what they said of it.
        self.pipeline.set_state(Gst.State.READY)
        while message := bus.pop():
            self.heard(bus, message)
        bus.remove_signal_watch()
        stats = self.recorder.get_property("stats")
        counted = {name: stats.get_value(name) for name in ("frames", "gaps", "lost-upstream") if stats.has_field(name)}
        recording = self.recorder.get_property("recording-id")
        self.pipeline.set_state(Gst.State.NULL)
        self.tell(f"ended-{how}", reason=why, recording=recording, segments=self.segments, **counted)
        self.ended(self)


def main():
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} CONFIGURATION")
    Gst.init(None)
    with open(sys.argv[1], encoding="utf-8") as file:
        service = json.load(file)

    loop = GLib.MainLoop()
    running, failed = [], []

    def ended(room):
        running.remove(room)
        if room.failed:
            failed.append(room.name)
        if not running:
            loop.quit()

    def stop():
        for room in list(running):
            room.end("stopped", "the service was told to stop")
        return GLib.SOURCE_REMOVE

    for number in (signal.SIGTERM, signal.SIGINT):
        GLib.unix_signal_add(GLib.PRIORITY_HIGH, number, stop)
    running += [Room(config, service, ended) for config in service["rooms"]]

    def start():
        for room in list(running):
            room.start()
        return GLib.SOURCE_REMOVE

    GLib.idle_add(start)
    loop.run()
    if failed:
        sys.exit(f"ended by an error: {', '.join(failed)}")


if __name__ == "__main__":
    main()
