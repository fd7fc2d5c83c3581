"""A headless Chromium over the DevTools protocol: open a page, click, type, evaluate, take pictures."""

import base64
import json
import pathlib
import shutil
import subprocess
import tempfile
import time
import urllib.request

import websocket

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
    "--hide-scrollbars",
]


class Browser:
    """One browser with one tab. Everything the page complains about is kept in `complaints`, every request in `requests`."""

    def __init__(self, program="chromium"):
        self.profile = tempfile.mkdtemp(prefix="densenet-view-")
        self.process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={self.profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.count = 0
        self.complaints, self.requests, self.events = [], [], []
        port = self._port()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
            pages = [page for page in json.load(answer) if page["type"] == "page"]
        self.socket = websocket.create_connection(pages[0]["webSocketDebuggerUrl"], timeout=120)
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.send("Browser.close")
        except Exception:
            self.process.terminate()
        self.process.wait(timeout=30)
        shutil.rmtree(self.profile, ignore_errors=True)

    def _port(self):
        file = pathlib.Path(self.profile) / "DevToolsActivePort"
        for _ in range(600):
            if file.exists() and file.read_text().strip():
                return int(file.read_text().split()[0])
            time.sleep(0.1)
        raise RuntimeError("the browser did not start")

    def send(self, method, **parameters):
        """One call; events that arrive meanwhile are looked at."""
        self.count += 1
        self.socket.send(json.dumps({"id": self.count, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == self.count:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return message["result"]
            self._event(message)

    def _event(self, message):
        method, parameters = message.get("method"), message.get("params", {})
        self.events.append(method)
        if method == "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning"):
            self.complaints.append(str([argument.get("value") for argument in parameters["args"]]))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.complaints.append(parameters["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"][:120])

    def size(self, width, height, scale=1, dark=False):
        """The window's size and the colours that the system prefers."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False)
        scheme = "dark" if dark else "light"
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def open(self, address):
        """Loads a page and waits until it says that it is ready."""
        self.send("Page.navigate", url=address)
        for _ in range(600):
            # `matches` and not a remembered element: the navigation may still be under way.
            if self.js("document.documentElement?.dataset.ready === 'true' && location.href !== 'about:blank'"):
                return
            time.sleep(0.1)
        raise RuntimeError(f"{address} never became ready: {self.complaints}")

    def js(self, expression):
        """The value of an expression in the page; promises are awaited."""
        result = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"]["exception"].get("description"))
        return result["result"].get("value")

    def busy_ms(self):
        """What the page's main thread has computed so far, in milliseconds of a processor; needs Performance.enable."""
        metrics = self.send("Performance.getMetrics")["metrics"]
        return 1000 * next(metric["value"] for metric in metrics if metric["name"] == "ThreadTime")

    def place(self, selector):
        """The middle of an element on the screen."""
        return self.js(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); if (!e) return null; const r = "
            "e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2, r.width, r.height]; })()"
        )

    def click(self, selector):
        """A real click in the middle of an element."""
        place = self.place(selector)
        if place is None:
            raise RuntimeError(f"{selector} is not there")
        self.click_at(*place[:2])

    def click_at(self, x, y):
        """A real click at a point."""
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def drag(self, x0, y0, x1, y1):
        """A drag with the left button."""
        self.send("Input.dispatchMouseEvent", type="mousePressed", x=x0, y=y0, button="left", clickCount=1)
        for step in (1, 2, 3):
            x, y = x0 + (x1 - x0) * step / 3, y0 + (y1 - y0) * step / 3
            self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y, button="left", buttons=1)
        self.send("Input.dispatchMouseEvent", type="mouseReleased", x=x1, y=y1, button="left", clickCount=1)

    def key(self, key, text=None):
        """A key, pressed and released."""
        codes = {"Enter": 13, "Escape": 27, "Tab": 9, " ": 32, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        number = codes.get(key, ord(key.upper()) if len(key) == 1 else 0)
        text = text or {"Enter": "\r", " ": " "}.get(key, key if len(key) == 1 else None)
        parameters = {"key": key, "windowsVirtualKeyCode": number}
        if text:
            parameters["text"] = text
        self.send("Input.dispatchKeyEvent", type="keyDown", **parameters)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=number)

    def type(self, text):
        """Text, letter by letter."""
        for letter in text:
            self.key(letter)

    def picture(self, path):
        """What the window shows, as a PNG."""
        data = self.send("Page.captureScreenshot", format="png")["data"]
        pathlib.Path(path).write_bytes(base64.b64decode(data))
