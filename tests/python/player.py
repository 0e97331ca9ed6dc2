"""Plays a pipeline and notes what passes its pads."""

import gi

gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402

from key_source import context  # noqa: E402


def check(condition, text):
    if not condition:
        raise AssertionError(text)


def check_equal(found, expected, what):
    check(found == expected, f"{what}: {found!r}, expected {expected!r}")


def header(data):
    """KID and CTR of an SFrame header (RFC 9605 section 4.3)."""
    at = 1

    def field(bits):
        nonlocal at
        if not bits & 8:
            return bits
        length = (bits & 7) + 1
        at += length
        return int.from_bytes(data[at - length : at], "big")

    kid = field(data[0] >> 4)
    return kid, field(data[0] & 15)


class Frame:
    def __init__(self, buffer):
        self.data = buffer.extract_dup(0, buffer.get_size())
        self.pts = buffer.pts
        self.delta = buffer.has_flags(Gst.BufferFlags.DELTA_UNIT)
        self.discont = buffer.has_flags(Gst.BufferFlags.DISCONT)
        meta = buffer.get_custom_meta("GstSFrameMeta") if Gst.meta_get_info("GstSFrameMeta") else None
        self.meta = None
        if meta is not None:
            fields = meta.get_structure()
            self.meta = tuple(fields.get_value(name) for name in ("kid", "epoch", "leaf", "sender"))


class Tap:
    """What passes a pad; `at` maps a number of frames to a call made when that one has come."""

    def __init__(self, pad, at=None):
        self.frames, self.gaps, self.events = [], [], []
        self.keyframe_requests = 0
        self.at = at or {}
        pad.add_probe(Gst.PadProbeType.BUFFER, self.buffer)
        pad.add_probe(Gst.PadProbeType.EVENT_DOWNSTREAM, self.event)
        pad.add_probe(Gst.PadProbeType.EVENT_UPSTREAM, self.upstream)

    def buffer(self, _pad, info):
        self.frames.append(Frame(info.get_buffer()))
        action = self.at.get(len(self.frames))
        if action:
            action()
        return Gst.PadProbeReturn.OK

    def event(self, _pad, info):
        event = info.get_event()
        if event.type == Gst.EventType.GAP:
            self.gaps.append(event.parse_gap()[0])
        return Gst.PadProbeReturn.OK

    def upstream(self, _pad, info):
        s = info.get_event().get_structure()
        if s is not None and s.get_name() == "GstForceKeyUnit":
            self.keyframe_requests += 1
        return Gst.PadProbeReturn.OK

    @property
    def data(self):
        return [frame.data for frame in self.frames]


class Player:
    all = []

    def __init__(self, description, source=None, n=40):
        self.pipeline = Gst.parse_launch(description.format(n=n))
        self.bus = self.pipeline.get_bus()
        self.messages = []
        Player.all.append(self)
        if source is not None:
            self.pipeline.set_context(context(source))

    def __getitem__(self, name):
        found = self.pipeline.get_by_name(name)
        check(found is not None, f"there is no element {name}")
        return found

    def tap(self, element, pad, at=None):
        return Tap(self[element].get_static_pad(pad), at)

    def stat(self, element, field):
        value = self[element].get_property("stats").get_value(field)
        return value

    def state(self, state):
        return self.pipeline.set_state(state)

    def run(self):
        """Plays to EOS; returns None, or the text of the first error."""
        self.state(Gst.State.PLAYING)
        return self.wait()

    def wait(self):
        types = Gst.MessageType.EOS | Gst.MessageType.ERROR | Gst.MessageType.ELEMENT
        while True:
            message = self.bus.timed_pop_filtered(30 * Gst.SECOND, types)
            check(message is not None, "neither EOS nor an error within 30 seconds")
            if message.type == Gst.MessageType.EOS:
                return None
            if message.type == Gst.MessageType.ERROR:
                error, _debug = message.parse_error()
                return f"{message.src.get_name()}: {error.message}"
            self.messages.append(message.get_structure())

    def play(self):
        error = self.run()
        check(error is None, f"error: {error}")

    def stop(self):
        self.state(Gst.State.NULL)

    def message(self, name):
        return next((m for m in self.messages if m.get_name() == name), None)


def check_all_opened(before, after):
    check(before.frames, "nothing was encoded")
    check_equal(len(after.frames), len(before.frames), "frames that were opened")
    check(after.data == before.data, "an opened frame differs from what was sealed")
    check_equal(after.gaps, [], "gaps")
    check_equal(
        [f.delta for f in after.frames], [f.delta for f in before.frames], "delta flags after and before"
    )


def check_counters(source, sealed):
    """Every sealed frame used a counter that was handed out, and none was used twice."""
    pairs = [header(frame.data) for frame in sealed]
    check(len(set(pairs)) == len(pairs), f"a counter was used twice: {sorted(pairs)}")
    for kid, ctr in pairs:
        given = any(kid == k and first <= ctr < end for k, first, end in source.ranges)
        check(given, f"KID {kid} counter {ctr} was never handed out: {source.ranges}")
