"""A report of `shanty report` (or a sheet of `shanty browse`) in headless Chromium: opens it in light and dark, 1200 and 390 pixels wide.

    python scripts/prove_report.py REPORT.html [MORE.html ...] [--pictures FOLDER]

Fails on anything in the console, on any request beside the file itself, on a page that is wider than its window, that is
1 MB or more, or that takes a second or more until all is drawn (the median of --rounds). Needs Chromium (CHROMIUM,
default: chromium), which it talks to through a pipe, and nothing else. --pictures keeps what it saw, to be looked at.
"""

import argparse
import base64
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

# All is drawn: the frame after the one in which the observers of sizes painted.
DRAWN = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now()))))"
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


class Browser:
    """Chromium's DevTools protocol: JSON texts, each with a zero byte behind it, on file descriptors 3 and 4."""

    def __init__(self, profile):
        ask, self.ask = os.pipe()
        self.told, tell = os.pipe()
        command = [os.environ.get("CHROMIUM", "chromium"), "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                   "--no-first-run", "--disable-extensions", f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"]
        # The shell puts both where Chromium expects them.
        line = f'exec 3<&{ask} 4>&{tell}; exec "$@"'
        self.process = subprocess.Popen(["bash", "-c", line, "bash", *command], pass_fds=(ask, tell), stderr=subprocess.DEVNULL)
        os.close(ask)
        os.close(tell)
        self.rest, self.number, self.events = b"", 0, []
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ["Page", "Runtime", "Log", "Network"]:
            self.page(f"{domain}.enable")

    def call(self, method, session=None, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params, **({"sessionId": session} if session else {})}
        os.write(self.ask, json.dumps(message).encode() + b"\0")
        while True:
            heard = self.hear()
            if heard.get("id") == self.number:
                if "error" in heard:
                    sys.exit(f"{method}: {heard['error']['message']}")
                return heard["result"]
            self.events.append(heard)

    def page(self, method, **params):
        return self.call(method, self.session, **params)

    def hear(self):
        while b"\0" not in self.rest:
            read = os.read(self.told, 1 << 20)
            if not read:
                sys.exit("the browser is gone")
            self.rest += read
        text, self.rest = self.rest.split(b"\0", 1)
        return json.loads(text)

    def value(self, expression):
        result = self.page("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        return result["result"].get("value")

    def open(self, url):
        """Milliseconds until all is drawn."""
        self.page("Page.navigate", url=url)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self.hear())
        return self.value(DRAWN)


def complaints(events, url):
    for event in events:
        params = event.get("params", {})
        if event.get("method") == "Runtime.consoleAPICalled":
            yield "console: " + " ".join(str(arg.get("value", arg.get("description"))) for arg in params["args"])
        if event.get("method") == "Runtime.exceptionThrown":
            yield "exception: " + params["exceptionDetails"].get("exception", {}).get("description", params["exceptionDetails"]["text"])
        if event.get("method") == "Log.entryAdded":
            yield f"{params['entry']['level']}: {params['entry']['text']}"
        if event.get("method") == "Network.requestWillBeSent":
            asked = params["request"]["url"]
            if asked != url and not asked.startswith("data:"):
                yield f"it asks for {asked[:100]}"


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("files", nargs="+", type=pathlib.Path)
    args.add_argument("--pictures", type=pathlib.Path)
    args.add_argument("--rounds", type=int, default=5)
    args = args.parse_args()
    wrong = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(profile)
        browser.open("about:blank")
        for path in args.files:
            url, times, wider = path.resolve().as_uri(), [], 0
            for theme in ["light", "dark"]:
                for width in [1200, 390]:
                    browser.page("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
                    browser.page("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
                    for _ in range(args.rounds):
                        browser.events = []
                        times.append(browser.open(url))
                        wrong += [f"{path.name}, {theme}, {width} px: {why}" for why in complaints(browser.events, url)]
                    wider = max(wider, browser.value(WIDER))
                    if args.pictures:
                        args.pictures.mkdir(parents=True, exist_ok=True)
                        shot = browser.page("Page.captureScreenshot", captureBeyondViewport=True)
                        (args.pictures / f"{path.stem}.{theme}.{width}.png").write_bytes(base64.b64decode(shot["data"]))
            size, took = path.stat().st_size, statistics.median(times)
            print(f"{path.name}: {size / 1e3:.0f} kB, all drawn after {took:.0f} ms ({min(times):.0f}–{max(times):.0f})")
            wrong += [f"{path.name}: it is {wider} pixels wider than its window"] if wider > 0 else []
            wrong += [f"{path.name}: it is larger than 1 MB"] if size >= 1e6 else []
            wrong += [f"{path.name}: it takes a second or more"] if took >= 1000 else []
        browser.call("Browser.close")
        browser.process.wait()
    sys.exit("\n".join(dict.fromkeys(wrong)) or 0)


if __name__ == "__main__":
    main()
