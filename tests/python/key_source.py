"""A key source in Python: the key contract (plugins/common/src/key_source.rs) is made of plain GObject calls, so any
language can implement it. This one hands out ranges of counters and notes who asked for what."""

import ctypes
import hashlib
import threading

import gi

gi.require_version("Gst", "1.0")
from gi.repository import GLib, GObject, Gst  # noqa: E402

CONTEXT = "gst.sframe.keyring/"
AES_128_GCM = 4


def u64(n):
    return GObject.Value(GObject.TYPE_UINT64, n)


def u32(n):
    return GObject.Value(GObject.TYPE_UINT, n)


def structure(name, fields):
    made = Gst.Structure.new_empty(name)
    for key, value in fields.items():
        if value is not None:
            made.set_value(key, value)
    return made


def base_key(kid):
    return hashlib.sha256(f"base key {kid}".encode()).digest()[:16]


ACTION = GObject.SignalFlags.RUN_LAST | GObject.SignalFlags.ACTION
PLAIN = GObject.SignalFlags.RUN_LAST
SIGNALS = {
    "sender-key": (ACTION, Gst.Structure, (str,)),
    "receiver-key": (ACTION, Gst.Structure, (GObject.TYPE_UINT64,)),
    "frame-opened": (ACTION, None, (GObject.TYPE_UINT64,)),
    "room-state": (ACTION, Gst.Structure, (GObject.TYPE_UINT64,)),
    "sign": (ACTION, GLib.Bytes, (str, GLib.Bytes)),
    "keys-changed": (PLAIN, None, (GObject.TYPE_UINT64,)),
    "room-changed": (PLAIN, None, (GObject.TYPE_UINT64,)),
}


class KeySource(Gst.Object):
    """Hands out a range of counters of the current KID to each sender that asks, never one twice."""

    __gsignals__ = SIGNALS

    def __init__(self, kid=1, span=1 << 32):
        super().__init__()
        self.mutex = threading.Lock()
        self.kid = kid
        self.span = span
        self.next_counter = {}
        self.ranges = []
        self.streams = []
        self.asked_for = []
        self.opened = []
        self.sends = True
        self.receives = True
        # What the scenarios break: fields that replace the right ones, None leaves one out.
        self.sender_fields = {}
        self.receiver_fields = {}
        self.sender_name = "sframe-sender-key"
        self.receiver_name = "sframe-receiver-key"

    def do_sender_key(self, stream):
        with self.mutex:
            self.streams.append(stream)
            if not self.sends:
                return None
            first = self.next_counter.get(self.kid, 0)
            end = first + self.span
            self.next_counter[self.kid] = end
            self.ranges.append((self.kid, first, end))
            fields = {
                "kid": u64(self.kid),
                "cipher-suite": u32(AES_128_GCM),
                "base-key": GLib.Bytes.new(base_key(self.kid)),
                "counter": u64(first),
                "counter-end": u64(end),
                "epoch": u64(self.kid * 10),
            }
        return structure(self.sender_name, fields | self.sender_fields)

    def do_receiver_key(self, kid):
        with self.mutex:
            self.asked_for.append(kid)
            if not self.receives:
                return None
        fields = {
            "cipher-suite": u32(AES_128_GCM),
            "base-key": GLib.Bytes.new(base_key(kid)),
            "epoch": u64(kid * 10),
            "leaf": u32(3),
            "sender": "ann",
        }
        return structure(self.receiver_name, fields | self.receiver_fields)

    def do_frame_opened(self, kid):
        with self.mutex:
            self.opened.append(kid)

    def do_room_state(self, epoch):
        return None

    def do_sign(self, purpose, data):
        return None

    def rotate(self):
        with self.mutex:
            self.kid += 1
            epoch = self.kid * 10
        # Outside the lock: the elements ask at once.
        self.emit("keys-changed", epoch)


# PyGObject copies what gst_context_writable_structure returns, so a value set there is lost. Its own hash() of a boxed
# value is the address; the calls themselves are the C library's.
GST = ctypes.CDLL("libgstreamer-1.0.so.0")
GST.gst_context_writable_structure.restype = ctypes.c_void_p
GST.gst_context_writable_structure.argtypes = [ctypes.c_void_p]
GST.gst_structure_set_value.restype = None
GST.gst_structure_set_value.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]


def context(source, keyring="default", field="keyring"):
    made = Gst.Context.new(CONTEXT + keyring, True)
    kind = next(kind for kind in (str, Gst.Object, GObject.Object) if isinstance(source, kind))
    value = GObject.Value(kind, source)
    GST.gst_structure_set_value(GST.gst_context_writable_structure(hash(made)), field.encode(), hash(value))
    return made
