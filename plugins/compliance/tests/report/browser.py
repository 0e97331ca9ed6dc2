"""Shows a page in headless Chromium and says what it did there, as JSON: what the browser complained of, what the page asked
for, how large its drawings are, whether anything is cut off at the side, and its headings as a screen reader hears them.

    browser.py PAGE FOLDER WIDTH SCHEME [WIDTH SCHEME ...]

SCHEME is light, dark or print. Screenshots go into FOLDER as WIDTH-SCHEME.png, the printed page as print.pdf. Speaks the
browser's own protocol over its pipe; standard library only.
"""

import base64
import html.parser
import json
import os
import pathlib
import subprocess
import sys
import tempfile

LIMIT = 60  # Seconds; after that the browser is ended, and with it this.

LOOK = """
(() => {
  const box = (node) => { const of = node.getBoundingClientRect(); return [of.width, of.height]; };
  const wide = document.documentElement.clientWidth;
  const outside = [...document.querySelectorAll('body *')].filter((node) => {
    const of = node.getBoundingClientRect();
    return of.width > 0 && (of.right > wide + 1 || of.left < -1) && getComputedStyle(node).position !== 'absolute';
  });
  const narrow = [...document.querySelectorAll('main *')].filter((node) => {
    const of = node.getBoundingClientRect();
    return node.namespaceURI.endsWith('xhtml') && !node.closest('thead') && of.width > 0 && of.width < 50 && of.height > 120;
  });
  const texts = [...document.querySelectorAll('svg.drawing text')];
  const overlap = texts.filter((one, at) => texts.slice(at + 1).some((other) => {
    const a = one.getBoundingClientRect(), b = other.getBoundingClientRect();
    return a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 3 && b.top < a.bottom - 3;
  }));
  return JSON.stringify({
    title: document.title,
    width: wide,
    height: document.documentElement.scrollHeight,
    drawings: [...document.querySelectorAll('svg.drawing')].map(box),
    marks: [...document.querySelectorAll('svg.drawing > rect')].map(box).filter(([w, h]) => w < 0.5 || h < 1).length,
    outside: outside.map((node) => node.tagName + ': ' + node.textContent.slice(0, 60)),
    narrow: narrow.map((node) => node.tagName + ': ' + node.textContent.slice(0, 60)),
    overlap: overlap.map((node) => node.textContent),
    scripts: document.scripts.length,
    background: getComputedStyle(document.body).backgroundColor,
    verdict: document.querySelector('.verdict h2')?.textContent,
  });
})()
"""


class Browser:
    """Chromium, spoken to over its pipe."""

    def __init__(self, profile):
        to_read, to_browser = os.pipe()
        from_browser, to_write = os.pipe()
        os.set_inheritable(to_read, True)
        os.set_inheritable(to_write, True)

        def pipes():
            # The protocol's pipe is on 3 and 4; above those nothing can be in the way.
            ends = [os.dup(to_read), os.dup(to_write)]
            high = [fd if fd > 4 else os.dup(fd) for fd in ends]
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        self.process = subprocess.Popen(
            ["timeout", str(LIMIT), "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
             "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking", "--disable-sync",
             "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"],
            close_fds=False, preexec_fn=pipes, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        os.close(to_read)
        os.close(to_write)
        self.out = os.fdopen(to_browser, "wb", buffering=0)
        self.input = os.fdopen(from_browser, "rb")
        self.rest = b""
        self.number = 0
        self.session = None
        self.events = []

    def message(self):
        while b"\0" not in self.rest:
            read = self.input.read1(1 << 16)
            if not read:
                sys.exit("the browser ended")
            self.rest += read
        text, self.rest = self.rest.split(b"\0", 1)
        return json.loads(text)

    def ask(self, method, **parameters):
        self.number += 1
        request = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            request["sessionId"] = self.session
        self.out.write(json.dumps(request).encode() + b"\0")
        while True:
            message = self.message()
            if message.get("id") == self.number:
                if "error" in message:
                    sys.exit(f"{method}: {message['error']}")
                return message["result"]
            self.events.append(message)

    def wait(self, method):
        while True:
            for at, event in enumerate(self.events):
                if event.get("method") == method:
                    return self.events.pop(at)
            self.events.append(self.message())


class Elements(html.parser.HTMLParser):
    """What is opened and not closed, or closed and not opened; ids that are there twice, and references to none."""

    def __init__(self):
        super().__init__()
        self.opened, self.wrong, self.ids, self.named = [], [], set(), set()

    def handle_starttag(self, tag, attrs):
        if tag != "meta":
            self.opened.append(tag)
        for name, value in attrs:
            if name == "id" and value in self.ids:
                self.wrong.append(f"id {value} twice")
            if name == "id":
                self.ids.add(value)
            if name in ("aria-labelledby", "aria-describedby"):
                self.named.update(value.split())
            if name == "fill" and value.startswith("url(#"):
                self.named.add(value[5:-1])

    def handle_endtag(self, tag):
        if not self.opened or self.opened.pop() != tag:
            self.wrong.append(f"</{tag}> at {self.getpos()}")


def elements(page):
    parser = Elements()
    parser.feed(page.read_text())
    parser.close()
    return parser.wrong + parser.opened + sorted(parser.named - parser.ids)


def headings(browser):
    tree = browser.ask("Accessibility.getFullAXTree")["nodes"]
    value = lambda node, name: node.get(name, {}).get("value")
    level = lambda node: next((of["value"]["value"] for of in node.get("properties", []) if of["name"] == "level"), None)
    return {
        "headings": [[level(node), value(node, "name")] for node in tree if value(node, "role") == "heading"],
        "unnamed": sum(value(node, "role") in ("image", "img", "Image") and not value(node, "name") for node in tree
                       if not node.get("ignored")),
        "tables": sum(value(node, "role") == "table" for node in tree),
        "cells": sum(value(node, "role") in ("cell", "gridcell") for node in tree),
    }


def look(browser, page, folder, width, scheme):
    browser.events.clear()
    browser.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500)
    features = [{"name": "prefers-color-scheme", "value": "dark" if scheme == "dark" else "light"}]
    browser.ask("Emulation.setEmulatedMedia", media="print" if scheme == "print" else "screen", features=features)
    browser.ask("Page.navigate", url=page.as_uri())
    browser.wait("Page.loadEventFired")
    seen = json.loads(browser.ask("Runtime.evaluate", expression=LOOK)["result"]["value"])
    seen |= headings(browser)
    shot = browser.ask("Page.captureScreenshot", captureBeyondViewport=True,
                       clip={"x": 0, "y": 0, "width": width, "height": min(seen["height"], 16000), "scale": 1})
    (folder / f"{width}-{scheme}.png").write_bytes(base64.b64decode(shot["data"]))
    if scheme == "print":
        pdf = browser.ask("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
        (folder / "print.pdf").write_bytes(base64.b64decode(pdf["data"]))
    asked = [event["params"]["request"]["url"] for event in browser.events
             if event.get("method") == "Network.requestWillBeSent"]
    said = [event["params"]["entry"]["text"] for event in browser.events if event.get("method") == "Log.entryAdded"]
    said += [str(event["params"]) for event in browser.events
             if event.get("method") in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown")]
    return seen | {"scheme": scheme, "unbalanced": elements(page), "asked": [url for url in asked if url != page.as_uri()], "said": said}


def main():
    page, folder = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])
    views = list(zip(map(int, sys.argv[3::2]), sys.argv[4::2]))
    with tempfile.TemporaryDirectory() as profile:
        browser = Browser(profile)
        try:
            target = browser.ask("Target.createTarget", url="about:blank")["targetId"]
            browser.session = browser.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Log", "Runtime", "Network", "Accessibility"):
                browser.ask(f"{domain}.enable")
            print(json.dumps([look(browser, page, folder, width, scheme) for width, scheme in views]))
        finally:
            browser.process.terminate()
            browser.process.wait()


main()
