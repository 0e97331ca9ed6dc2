#!/usr/bin/env python3
"""key_source_scenarios.py SCENARIO (or --list): plays media with keys from a source written in Python.

Each scenario checks what became of every frame. Exits with 0 and a last line "ok ..." if all held.
"""

import gc
import signal
import sys
import threading

import gi

gi.require_version("Gst", "1.0")
from gi.repository import GLib, GObject, Gst  # noqa: E402

from key_source import ACTION, CONTEXT, PLAIN, SIGNALS, KeySource, context, u32, u64  # noqa: E402
from player import Player, check, check_all_opened, check_counters, check_equal, header  # noqa: E402

# Deltas stay deltas: keyframes come only when somebody asks for one.
VIDEO = (
    "videotestsrc name=media num-buffers={n} pattern=ball ! video/x-raw,width=160,height=120,framerate=30/1 "
    "! vp8enc name=encoder deadline=1 keyframe-max-dist=1000"
)
AUDIO = "audiotestsrc name=media num-buffers={n} samplesperbuffer=960 ! opusenc name=encoder"
ROAD = " ! sframeenc name=enc ! sframedec name=dec ! fakesink name=sink"
RTP_ROAD = " ! sframeenc name=enc ! rtpsframepay ! rtpsframedepay ! sframedec name=dec ! fakesink name=sink"


def serves(description):
    source = KeySource(kid=9)
    player = Player(description, source)
    before, sealed = player.tap("enc", "sink"), player.tap("enc", "src")
    after = player.tap("dec", "src")
    player.play()
    check_all_opened(before, after)
    check_counters(source, sealed.frames)
    for clear, closed in zip(before.data, sealed.data):
        check(clear[:16] not in closed, "a sealed frame holds clear bytes")
    check_equal({f.meta for f in after.frames}, {(9, 90, 3, "ann")}, "GstSFrameMeta")
    check_equal(source.opened, [9], "frame-opened, once for the KID")
    check_equal(source.asked_for, [9], "receiver-key, once for the KID")
    check_equal(len(source.streams), 1, "sender-key, once")
    start = player["enc"].get_static_pad("sink").get_sticky_event(Gst.EventType.STREAM_START, 0)
    check_equal(source.streams[0], start.parse_stream_start(), "the stream that asked")
    player.stop()
    return f"{len(after.frames)} frames"


def serves_video():
    return serves(VIDEO + ROAD)


def serves_audio():
    return serves(AUDIO + ROAD)


def serves_video_over_rtp():
    return serves(VIDEO + RTP_ROAD)


def serves_audio_over_rtp():
    return serves(AUDIO + RTP_ROAD)


def serves_single_packets():
    """Per-packet mode: the stock payloader's packets are sealed one by one."""
    source = KeySource(kid=2)
    player = Player(
        VIDEO + " ! rtpvp8pay mtu=200 ! sframeenc name=enc ! sframedec name=dec ! rtpvp8depay name=frames "
        "! fakesink",
        source,
    )
    before, after = player.tap("encoder", "src"), player.tap("frames", "src")
    player.play()
    check_equal(len(after.frames), len(before.frames), "frames")
    check(after.data == before.data, "a frame differs")
    check(player.stat("enc", "sealed") > len(before.frames), "more packets than frames are needed here")
    check_equal(player.stat("dec", "opened"), player.stat("enc", "sealed"), "opened packets")
    check_equal(source.opened, [2], "frame-opened")
    player.stop()
    return f"{player.stat('enc', 'sealed')} packets"


def rotates(description):
    """Keys change five times in the middle; every frame opens."""
    source = KeySource(kid=1)
    player = Player(description, source, n=60)
    before, sealed = player.tap("enc", "sink", {n: source.rotate for n in (5, 6, 20, 33, 50)}), player.tap("enc", "src")
    after = player.tap("dec", "src")
    player.play()
    check_all_opened(before, after)
    check_counters(source, sealed.frames)
    kids = [header(data)[0] for data in sealed.data]
    check_equal(kids, sorted(kids), "KIDs only go up")
    check_equal(set(kids), {1, 2, 3, 4, 5, 6}, "KIDs")
    check_equal(source.opened, [1, 2, 3, 4, 5, 6], "frame-opened, once for each KID")
    check_equal([f.meta[0] for f in after.frames], kids, "KIDs in GstSFrameMeta")
    check_equal(player.stat("enc", "key-changes"), 6, "key-changes")
    player.stop()
    return before, after, kids


def rotates_video():
    before, _after, kids = rotates(VIDEO + ROAD)
    # RFC 9605 section 9.1: who has only the new key starts at a keyframe.
    for kid in (4, 5, 6):
        first = kids.index(kid)
        check(
            any(not f.delta for f in before.frames[first : first + 3]),
            f"no keyframe near the first frame of KID {kid}",
        )


def rotates_audio_over_rtp():
    rotates(AUDIO + RTP_ROAD)


def rotates_from_another_thread():
    """The source's own thread changes keys as fast as frames come, without any agreement with the stream."""
    source = KeySource(kid=1, span=3)
    player = Player(AUDIO + ROAD, source, n=400)
    before, sealed, after = player.tap("enc", "sink"), player.tap("enc", "src"), player.tap("dec", "src")
    stop = threading.Event()

    def change():
        while not stop.wait(0.002):
            source.rotate()

    thread = threading.Thread(target=change)
    thread.start()
    try:
        player.play()
    finally:
        stop.set()
        thread.join()
    check_all_opened(before, after)
    check_counters(source, sealed.frames)
    check_equal(source.opened, sorted(set(source.opened)), "frame-opened, once for each KID")
    player.stop()
    return f"{len(source.opened)} keys"


def no_sender_key_at_first():
    source = KeySource()
    source.sends = False
    player = Player(VIDEO + ROAD, source, n=40)

    def appear():
        source.sends = True
        source.emit("keys-changed", 10)

    before, sealed = player.tap("enc", "sink", {15: appear}), player.tap("enc", "src")
    after = player.tap("dec", "src")
    player.play()
    dropped = player.stat("enc", "dropped-no-key")
    check_equal(dropped, 14, "dropped-no-key")
    waited = player.stat("enc", "dropped-waiting-keyframe")
    check_equal(dropped + waited + len(sealed.frames), 40, "dropped, waited and sealed frames")
    check_equal(sealed.gaps, [f.pts for f in before.frames[: dropped + waited]], "a GAP for each dropped frame")
    check(not sealed.frames[0].delta, "the first sealed frame is a delta")
    check(before.keyframe_requests >= 1, "no keyframe was asked for")
    check(waited < 10, f"{waited} frames until the keyframe came")
    check_equal(after.data, before.data[dropped + waited :], "opened frames")
    message = player.message("sframe-key-missing")
    check(message is not None, "no message sframe-key-missing")
    check_equal(message.get_value("cause"), "no-sender-key", "cause")
    player.stop()


def sender_key_goes_away():
    source = KeySource()
    player = Player(VIDEO + ROAD, source, n=40)

    def leave():
        source.sends = False
        source.emit("keys-changed", 20)

    def come():
        source.sends = True
        source.rotate()

    before, sealed = player.tap("enc", "sink", {10: leave, 20: come}), player.tap("enc", "src")
    after = player.tap("dec", "src")
    player.play()
    check_equal(player.stat("enc", "dropped-no-key"), 10, "dropped-no-key")
    check_equal(len(after.frames), len(sealed.frames), "opened")
    again = next(f for f in sealed.frames if header(f.data)[0] == 2)
    check(not again.delta, "it went on with a delta")
    check_counters(source, sealed.frames)
    player.stop()


def receiver_key_within_hold_time():
    """Frames come before their key: they wait, and all open in order."""
    for kid, description in enumerate((VIDEO + ROAD, AUDIO + RTP_ROAD)):
        source = KeySource(kid=kid)
        source.receives = False
        player = Player(description, source, n=40)
        player["dec"].set_property("hold-time", 20 * Gst.SECOND)

        def appear():
            source.receives = True
            source.emit("keys-changed", 10)

        before = player.tap("enc", "sink")
        player.tap("dec", "sink", {16: appear})
        after = player.tap("dec", "src")
        player.play()
        check_all_opened(before, after)
        check_equal([f.pts for f in after.frames], [f.pts for f in before.frames], "times, in order")
        check(player.stat("dec", "held") >= 15, f"held: {player.stat('dec', 'held')}")
        check_equal(player.stat("dec", "no-key"), 0, "no-key")
        check_equal(source.opened, [kid], "frame-opened")
        player.stop()


def receiver_key_never():
    source = KeySource()
    source.receives = False
    player = Player(VIDEO + ROAD, source, n=40)
    player["dec"].set_property("hold-time", 50 * Gst.MSECOND)
    player["dec"].set_property("hold-frames", 5)
    after = player.tap("dec", "src")
    player.play()
    check_equal(after.frames, [], "opened frames")
    check_equal(player.stat("dec", "no-key"), 40, "no-key")
    message = player.message("sframe-key-missing")
    check(message is not None, "no message sframe-key-missing")
    check_equal((message.get_value("kid"), message.get_value("cause")), (1, "no-key"), "kid and cause")
    check_equal(source.opened, [], "frame-opened")
    player.stop()


def receiver_key_goes_away():
    """keys-changed with no answer any more: what was cached is not used on."""
    source = KeySource()
    player = Player(AUDIO + ROAD, source, n=40)
    player["dec"].set_property("hold-frames", 0)

    def expire():
        source.receives = False
        source.emit("keys-changed", 20)

    player.tap("dec", "sink", {21: expire})
    after = player.tap("dec", "src")
    player.play()
    check_equal(len(after.frames), 20, "opened before the key expired")
    check_equal(player.stat("dec", "no-key"), player.stat("enc", "sealed") - 20, "no-key")
    check_equal(len(after.gaps), player.stat("dec", "no-key"), "gaps")
    player.stop()


ENDLESS_AUDIO = "audiotestsrc name=media samplesperbuffer=960 ! opusenc name=encoder"


def seek(player, milliseconds):
    """Plays that long from the start, after a flush."""
    done = player.pipeline.seek(
        1.0,
        Gst.Format.TIME,
        Gst.SeekFlags.FLUSH,
        Gst.SeekType.SET,
        0,
        Gst.SeekType.SET,
        milliseconds * Gst.MSECOND,
    )
    check(done, "the seek was refused")


def counters_over_state_cycles():
    """Small ranges, PLAYING to READY or NULL and back, flushing seeks: no (KID, CTR) comes twice."""
    source = KeySource(span=7)
    player = Player(ENDLESS_AUDIO + ROAD, source)
    sealed, after = player.tap("enc", "src"), player.tap("dec", "src")
    for cycle in range(6):
        player.state(Gst.State.PAUSED)
        player.pipeline.get_state(Gst.CLOCK_TIME_NONE)
        seek(player, 600)
        player.play()
        seek(player, 400)
        check_equal(player.wait(), None, "error after the seek")
        player.state(Gst.State.NULL if cycle % 2 else Gst.State.READY)
        player.pipeline.get_state(Gst.CLOCK_TIME_NONE)
    check_counters(source, sealed.frames)
    check(len(sealed.frames) >= 6 * 50, f"only {len(sealed.frames)} frames were sealed")
    # A flush may discard what is between the two.
    check(len(after.frames) >= 6 * 50, f"only {len(after.frames)} frames were opened")
    check(len(source.ranges) >= len(sealed.frames) // 7, "ranges were not used up one by one")
    player.stop()
    return f"{len(sealed.frames)} frames in {len(source.ranges)} ranges"


def counters_of_two_senders():
    """Two senders in one pipeline share a source: each gets ranges of its own."""
    source = KeySource(span=5)
    player = Player(
        AUDIO + " ! tee name=t t. ! queue ! sframeenc name=enc ! sframedec name=dec ! fakesink "
        "t. ! queue ! sframeenc name=enc2 ! sframedec name=dec2 ! fakesink",
        source,
        n=100,
    )
    one, two = player.tap("enc", "src"), player.tap("enc2", "src")
    player.play()
    check_counters(source, one.frames + two.frames)
    check_equal(player.stat("dec", "opened"), len(one.frames), "opened of the first")
    check_equal(player.stat("dec2", "opened"), len(two.frames), "opened of the second")
    player.stop()


def ranges_answered_out_of_order():
    """Two senders ask at the same time, and the later range is answered and used first: both are good."""
    used = threading.Event()

    class Waits(KeySource):
        def do_sender_key(self, stream):
            answer = KeySource.do_sender_key(self, stream)
            if answer.get_value("counter") == 0:
                check(used.wait(20), "the other sender did not seal")
            return answer

    source = Waits(kid=50)
    player = Player(
        AUDIO + " ! tee name=t t. ! queue ! sframeenc name=enc ! fakesink async=false "
        "t. ! queue ! sframeenc name=enc2 ! fakesink async=false",
        source,
    )
    one, two = player.tap("enc", "src", {1: used.set}), player.tap("enc2", "src", {1: used.set})
    player.play()
    check_equal(len(one.frames), len(two.frames), "frames sealed by both")
    check_counters(source, one.frames + two.frames)
    player.stop()


def counters_over_flushes():
    """Flushing seeks in the middle of the stream, from another thread."""
    source = KeySource(span=1000)
    player = Player(ENDLESS_AUDIO + ROAD, source)
    sealed, after = player.tap("enc", "src"), player.tap("dec", "src")
    player.state(Gst.State.PLAYING)
    for _ in range(20):
        arrived = threading.Event()
        first = len(sealed.frames) + 2
        sealed.at = {n: arrived.set for n in range(first, first + 1000)}
        check(arrived.wait(20), "no frames")
        seek(player, 60_000)
    sealed.at = {}
    seek(player, 500)
    check_equal(player.wait(), None, "error")
    check_counters(source, sealed.frames)
    check_equal(player.stat("enc", "sealed"), len(sealed.frames), "sealed")
    for cause in ("auth-failed", "replayed", "no-key", "malformed"):
        check_equal(player.stat("dec", cause), 0, cause)
    check([f.pts for f in sealed.frames[-20:]] == [f.pts for f in after.frames[-20:]], "the end was not opened")
    player.stop()
    return f"{len(sealed.frames)} frames"


def counters_over_bare_flushes():
    """FLUSH_START and FLUSH_STOP without a seek, then a restart."""
    source = KeySource(span=1000)
    player = Player(ENDLESS_AUDIO + ROAD, source)
    sealed = player.tap("enc", "src")
    for _ in range(5):
        arrived = threading.Event()
        first = len(sealed.frames) + 5
        sealed.at = {first: arrived.set}
        player.state(Gst.State.PLAYING)
        check(arrived.wait(20), "no frames")
        encoder = player["encoder"].get_static_pad("sink")
        encoder.send_event(Gst.Event.new_flush_start())
        encoder.send_event(Gst.Event.new_flush_stop(False))
        player.state(Gst.State.READY)
        player.pipeline.get_state(Gst.CLOCK_TIME_NONE)
    check_counters(source, sealed.frames)
    check(len(sealed.frames) >= 25, "too few frames")
    player.stop()


def expect_error(source, words, description=VIDEO + ROAD, at_start=False, player=None):
    player = player or Player(description, source, n=10)
    after = player.tap("dec", "src")
    result = player.state(Gst.State.PAUSED)
    if at_start:
        check_equal(result, Gst.StateChangeReturn.FAILURE, "READY to PAUSED")
    player.state(Gst.State.PLAYING)
    error = player.wait()
    check(error is not None, f"no error, expected one with {words}")
    for word in words:
        check(word in error, f"the error does not say {word!r}: {error}")
    check_equal(after.frames, [], "frames that came out")
    player.stop()
    return error


def repeated_range():
    """A source that hands out counters twice is refused before one is used twice."""
    for shift in (0, 3):

        class Repeats(KeySource):
            __gtype_name__ = f"Repeats{shift}"

            def do_sender_key(self, stream):
                answer = KeySource.do_sender_key(self, stream)
                # The span is 5; a shift of 3 overlaps with the range before.
                first = len(self.ranges) * shift
                answer.set_value("counter", u64(first))
                answer.set_value("counter-end", u64(first + 5))
                return answer

        source = Repeats(kid=100 + shift)
        player = Player(VIDEO + ROAD, source, n=20)
        sealed = player.tap("enc", "src")
        error = player.run()
        check(error is not None, "a repeated range was taken")
        check("enc: " in error and "counters of KID" in error, error)
        check_equal(len(sealed.frames), 5, "frames sealed with the first range")
        pairs = [header(data) for data in sealed.data]
        check_equal(len(set(pairs)), len(pairs), "pairs used once")
        player.stop()
    return error


def same_range_after_a_restart():
    """A source that starts over with its counters is refused, although the element was stopped in between."""
    source = KeySource(kid=77)
    player = Player(VIDEO + ROAD, source, n=10)
    player.play()
    player.state(Gst.State.READY)
    source.next_counter.clear()
    error = player.run()
    check(error is not None and "counters of KID 77" in error, f"{error}")
    player.stop()


def missing_signal():
    error = None
    for name in SIGNALS:
        signals = {n: s for n, s in SIGNALS.items() if n != name}
        lacking = type(f"Lacks_{name.replace('-', '_')}", (Gst.Object,), {"__gsignals__": signals})
        error = expect_error(lacking(), [f'no signal "{name}"', "key source needs"], at_start=True)
    return error


def mistyped_signal():
    wrong = {
        "sender-key": [(ACTION, Gst.Structure, ()), (ACTION, Gst.Structure, (int,)), (ACTION, str, (str,))],
        "receiver-key": [(ACTION, Gst.Structure, (str,)), (ACTION, None, (GObject.TYPE_UINT64,))],
        "frame-opened": [(ACTION, None, ()), (ACTION, bool, (GObject.TYPE_UINT64,))],
        "room-state": [(ACTION, Gst.Structure, (GObject.TYPE_INT64,))],
        "sign": [(ACTION, str, (str, GLib.Bytes))],
        "keys-changed": [(PLAIN, None, ()), (PLAIN, None, (GObject.TYPE_UINT64, str))],
        "room-changed": [(PLAIN, None, (GObject.TYPE_UINT,))],
    }
    count = 0
    for name, forms in wrong.items():
        for form in forms:
            count += 1
            kind = type(f"Mistyped{count}", (Gst.Object,), {"__gsignals__": SIGNALS | {name: form}})
            expect_error(kind(), [f'"{name}"', "wrong signature"], at_start=True)
    return f"{count} signatures refused"


WRONG_NUMBERS = [GObject.Value(GObject.TYPE_INT, 1), GObject.Value(GObject.TYPE_DOUBLE, 1.0), "1", None]


def wrong_sender_fields():
    wrong = {
        "kid": WRONG_NUMBERS + [u32(1)],
        "cipher-suite": [u64(4), GObject.Value(GObject.TYPE_INT, 4), "aes", None, u32(0), u32(99)],
        "base-key": ["0123456789abcdef", u64(1), None, GLib.Bytes.new(b"")],
        "counter": WRONG_NUMBERS,
        "counter-end": WRONG_NUMBERS + [u64(0)],
        "epoch": WRONG_NUMBERS + [u32(1)],
    }
    count = 0
    for field, values in wrong.items():
        for value in values:
            count += 1
            source = KeySource(kid=1000 + count)
            source.sender_fields = {field: value}
            error = expect_error(source, ["enc: ", '"sender-key"', f'"{field}"'])
            check("0123456789abcdef" not in error, "the error shows a key")
    source = KeySource()
    source.sender_name = "something-else"
    expect_error(source, ["enc: ", '"sender-key"', "name of the structure"])
    return f"{count + 1} answers refused"


def wrong_receiver_fields():
    wrong = {
        "cipher-suite": [u64(4), GObject.Value(GObject.TYPE_INT, 4), "aes", None, u32(0), u32(99)],
        "base-key": ["0123456789abcdef", u64(1), None, GLib.Bytes.new(b"")],
        "epoch": WRONG_NUMBERS,
        "leaf": [u64(1), GObject.Value(GObject.TYPE_INT, 1), None],
        "sender": [u64(1), None],
    }
    count = 0
    for field, values in wrong.items():
        for value in values:
            count += 1
            source = KeySource(kid=2000 + count)
            source.receiver_fields = {field: value}
            expect_error(source, ["dec: ", '"receiver-key"', f'"{field}"'])
    source = KeySource(kid=2999)
    source.receiver_name = "something-else"
    expect_error(source, ["dec: ", '"receiver-key"', "name of the structure"])
    return f"{count + 1} answers refused"


def raising_source():
    """Exceptions in the source are no key, or no matter; never a crash."""

    class Raises(KeySource):
        where = ""

        def do_sender_key(self, stream):
            if self.where == "sender-key":
                raise RuntimeError("on purpose")
            return KeySource.do_sender_key(self, stream)

        def do_receiver_key(self, kid):
            if self.where == "receiver-key":
                raise RuntimeError("on purpose")
            return KeySource.do_receiver_key(self, kid)

        def do_frame_opened(self, kid):
            raise RuntimeError("on purpose")

    def play(where):
        source = Raises(kid={"sender-key": 301, "receiver-key": 302, "frame-opened": 303}[where])
        source.where = where
        player = Player(VIDEO + ROAD, source, n=10)
        player["dec"].set_property("hold-frames", 0)
        player.play()
        found = (
            player.stat("enc", "dropped-no-key"),
            player.stat("dec", "no-key"),
            player.stat("dec", "opened"),
        )
        player.stop()
        return found

    check_equal(play("sender-key"), (10, 0, 0), "sender-key raises: dropped at the sender, at the receiver, opened")
    check_equal(play("receiver-key"), (0, 10, 0), "receiver-key raises")
    check_equal(play("frame-opened"), (0, 0, 10), "frame-opened raises")


def answers_of_another_type():
    """Python returns whatever it likes; what is no structure is no key."""

    class Odd(KeySource):
        def do_sender_key(self, stream):
            return 42

    player = Player(VIDEO + ROAD, Odd(), n=10)
    player.play()
    check_equal(player.stat("enc", "dropped-no-key"), 10, "dropped-no-key")
    player.stop()


class PlainObject(GObject.Object):
    __gsignals__ = SIGNALS


def no_key_source():
    words = ["no keys", "gst.sframe.keyring", "key-file"]
    expect_error(None, words, at_start=True)
    for made in (
        context(KeySource(), field="something"),
        context("a string"),
        context(PlainObject()),
        Gst.Context.new(CONTEXT + "default", True),
    ):
        player = Player(VIDEO + ROAD, n=10)
        player.pipeline.set_context(made)
        expect_error(None, ["no GstObject", '"keyring"'], at_start=True, player=player)
    player = Player(VIDEO + ROAD, n=10)
    player.pipeline.set_context(context(KeySource(), "another id"))
    expect_error(None, words, at_start=True, player=player)


def two_keyrings():
    """Elements take the source with their id."""
    one, two = KeySource(kid=400), KeySource(kid=500)
    player = Player(
        AUDIO + " ! tee name=t t. ! queue ! sframeenc name=enc ! sframedec name=dec ! fakesink "
        "t. ! queue ! sframeenc name=enc2 keyring=two ! sframedec name=dec2 keyring=two ! fakesink",
        one,
    )
    player.pipeline.set_context(context(two, "two"))
    player.play()
    check_equal((one.opened, two.opened), ([400], [500]), "KIDs opened by each")
    player.stop()


def asked_for_on_the_bus():
    """An application answers need-context, as with any context."""
    source = KeySource(kid=600)
    player = Player(VIDEO + ROAD)
    types = []

    def answer(_bus, message):
        if message.type == Gst.MessageType.NEED_CONTEXT:
            types.append(message.parse_context_type()[1])
            if types[-1] == CONTEXT + "default":
                message.src.set_context(context(source))
        return Gst.BusSyncReply.PASS

    player.bus.set_sync_handler(answer)
    player.play()
    check(CONTEXT + "default" in types, f"nobody asked: {types}")
    check_equal(player.stat("dec", "opened"), 40, "opened")
    check_equal(source.opened, [600], "frame-opened")
    player.bus.set_sync_handler(None)
    player.stop()


def source_is_replaced():
    """A new context while it plays: senders go on with the new source, receivers as well."""
    one, two = KeySource(kid=700), KeySource(kid=701)
    player = Player(AUDIO + ROAD, one)
    change = {20: lambda: player.pipeline.set_context(context(two))}
    before, sealed = player.tap("enc", "sink", change), player.tap("enc", "src")
    after = player.tap("dec", "src")
    player.play()
    check_all_opened(before, after)
    kids = [header(data)[0] for data in sealed.data]
    check_equal((kids[0], kids[-1], kids.count(700)), (700, 701, 19), "first, last KID and frames of the first")
    check_equal((one.opened, two.opened), ([700], [701]), "frame-opened")
    player.stop()


def broken_source_does_not_replace():
    one = KeySource(kid=710)
    player = Player(AUDIO + ROAD, one)
    broken = type("Broken", (Gst.Object,), {"__gsignals__": {}})()
    before = player.tap("enc", "sink", {20: lambda: player.pipeline.set_context(context(broken))})
    after = player.tap("dec", "src")
    player.play()
    check_all_opened(before, after)
    player.stop()


def source_is_let_go():
    """Nothing holds the source once the pipeline is gone, and no signal reaches a stopped element."""
    gone = threading.Event()
    source = KeySource(kid=800)
    source.weak_ref(gone.set)
    player = Player(VIDEO + ROAD, source)
    player.play()
    player.stop()
    source.emit("keys-changed", 0)
    source.rotate()
    asked = len(source.asked_for)
    check_equal(asked, 1, "receiver-key")
    Player.all.clear()
    del player
    gc.collect()
    del source
    gc.collect()
    check(gone.is_set(), "the key source was leaked")


def scenarios():
    """The functions here that take nothing."""
    found = {}
    for name, f in globals().items():
        code = getattr(f, "__code__", None)
        if code and code.co_argcount == 0 and name not in ("main", "scenarios"):
            found[name] = f
    return found


def main():
    # A hang ends the process, whatever thread holds what.
    signal.alarm(120)
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    known = scenarios()
    if name == "--list":
        print("\n".join(known))
        return
    if name not in known:
        sys.exit(f"{__doc__}\nno scenario {name!r}; there are {', '.join(known)}")
    Gst.init(None)
    try:
        said = known[name]()
    finally:
        # Whatever failed, its pipeline is taken down in order.
        for player in Player.all:
            player.stop()
    print(f"ok {name}{': ' + str(said) if said else ''}")


if __name__ == "__main__":
    main()
