#!/usr/bin/env python3
"""Runs a pipeline and shows the figures of its elements to a monitoring system, as OpenMetrics text.

    export GST_PLUGIN_PATH=$(scripts/build | tail -n 1)
    /usr/bin/python3 examples/python/metrics.py --port 9464 'videotestsrc is-live=true ! vp8enc deadline=1 \\
        ! sframeenc key-file=keys kid=1 ! sframedec key-file=keys ! fakesink'
    curl http://127.0.0.1:9464/metrics

Each number in the property `stats` of each element becomes a metric: gst_e2ee_sframedec_opened{element="sframedec0"}, whose
type is unknown to OpenMetrics because some of them count and some do not; a monitoring system takes the rate of those that
count. Messages of the elements are counted by name and cause. Nothing in them is secret: `stats` and messages have no keys.
It listens on this machine only, unless told otherwise. Ends with the pipeline, or at SIGINT.
"""

import argparse
import collections
import http.server
import re
import signal
import sys
import threading

import gi

gi.require_version("Gst", "1.0")
from gi.repository import GLib, Gst  # noqa: E402

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
OURS = re.compile(r"(sframe|rtpsframe|mls|compliance)")


def escaped(text):
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def metric_name(*parts):
    return re.sub(r"[^a-zA-Z0-9_]", "_", "_".join(parts))


class Figures:
    """What the elements of a pipeline count."""

    def __init__(self, pipeline):
        self.pipeline = pipeline
        self.mutex = threading.Lock()
        self.messages = collections.Counter()

    def heard(self, message):
        structure = message.get_structure()
        if message.type != Gst.MessageType.ELEMENT or structure is None or not OURS.match(structure.get_name()):
            return
        cause = structure.get_value("cause") if structure.has_field("cause") else ""
        count = structure.get_value("count") if structure.has_field("count") else 1
        with self.mutex:
            self.messages[(structure.get_name(), message.src.get_name(), str(cause))] += count

    def families(self):
        """name: [(labels, value)], of the elements in the pipeline and in its bins."""
        found = collections.defaultdict(list)
        elements = self.pipeline.iterate_recurse()
        # Elements may come and go meanwhile.
        while True:
            result, element = elements.next()
            if result == Gst.IteratorResult.RESYNC:
                elements.resync()
                found.clear()
                continue
            if result != Gst.IteratorResult.OK:
                return found
            factory = element.get_factory()
            if factory is None or not OURS.match(factory.get_name()):
                continue
            stats = element.get_property("stats")
            for index in range(stats.n_fields()):
                field = stats.nth_field_name(index)
                value = stats.get_value(field)
                if isinstance(value, (int, float)) and not isinstance(value, bool):
                    name = metric_name("gst_e2ee", factory.get_name(), field)
                    found[name].append(({"element": element.get_name()}, value))

    def text(self):
        lines = []

        def sample(name, labels, value):
            inside = ",".join(f'{label}="{escaped(text)}"' for label, text in labels.items())
            lines.append(f"{name}{{{inside}}} {value}")

        for name, samples in sorted(self.families().items()):
            lines.append(f"# TYPE {name} unknown")
            for labels, value in samples:
                sample(name, labels, value)
        lines.append("# TYPE gst_e2ee_messages counter")
        with self.mutex:
            counted = sorted(self.messages.items())
        for (message, element, cause), count in counted:
            labels = {"message": message, "element": element, "cause": cause}
            sample("gst_e2ee_messages_total", labels, count)
        lines.append("# EOF\n")
        return "\n".join(lines)


def serve(figures, address, port):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path != "/metrics":
                self.send_error(404, "there is only /metrics")
                return
            body = figures.text().encode()
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer((address, port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--port", type=int, default=9464, help="0: one that is free (default: 9464)")
    arguments.add_argument("--address", default="127.0.0.1", help="where to listen (default: 127.0.0.1)")
    arguments.add_argument("pipeline", help="as for gst-launch-1.0")
    options = arguments.parse_args()

    Gst.init(None)
    try:
        pipeline = Gst.parse_launch(options.pipeline)
    except GLib.Error as error:
        sys.exit(f"{error.message}")
    if not isinstance(pipeline, Gst.Pipeline):
        alone, pipeline = pipeline, Gst.Pipeline()
        pipeline.add(alone)
    figures = Figures(pipeline)
    server = serve(figures, options.address, options.port)
    print(f"http://{options.address}:{server.server_address[1]}/metrics", flush=True)

    loop = GLib.MainLoop()
    failed = []

    def heard(_, message):
        figures.heard(message)
        if message.type == Gst.MessageType.ERROR:
            failed.append(message.parse_error()[0].message)
        if message.type in (Gst.MessageType.ERROR, Gst.MessageType.EOS):
            loop.quit()

    bus = pipeline.get_bus()
    bus.add_signal_watch()
    bus.connect("message", heard)
    GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, signal.SIGINT, lambda: pipeline.send_event(Gst.Event.new_eos()))
    pipeline.set_state(Gst.State.PLAYING)
    loop.run()
    pipeline.set_state(Gst.State.NULL)
    server.shutdown()
    if failed:
        sys.exit(failed[0])


if __name__ == "__main__":
    main()
