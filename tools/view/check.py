"""Drives the viewer in headless Chromium; see README.md. Exits with 1 where something is not as it should be."""

import argparse
import array
import json
import math
import pathlib
import statistics
import struct
import subprocess
import sys
import tempfile

from browser import Browser

FIRST_PAINT_MS = 1000
OPEN_BLOCK_MS = 200
WIDTHS = ((1280, 800), (400, 860))

failures = []


def check(condition, what):
    print(("  ok    " if condition else "  FAIL  ") + what)
    if not condition:
        failures.append(what)


def npy(path, shape, values):
    """A .npy file of float32."""
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {tuple(shape)}, }}"
    head = head.ljust((10 + len(head) + 1 + 63) // 64 * 64 - 11) + "\n"
    body = array.array("f", values).tobytes()
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + body)


def nifti(path, side, values):
    """A NIfTI file of float32."""
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, 3, side, side, side, 1, 1, 1, 1)
    struct.pack_into("<2h", head, 70, 16, 32)
    struct.pack_into("<8f", head, 76, 1, 1, 1, 1, 1, 1, 1, 1)
    struct.pack_into("<2f", head, 108, 352, 1)
    head[344:348] = b"n+1\0"
    path.write_bytes(bytes(head) + array.array("f", values).tobytes())


def make_pages(densenet, place):
    """Every kind of page, as files."""

    def run(*words):
        subprocess.run([densenet, *map(str, words)], check=True, cwd=place, stderr=subprocess.DEVNULL)

    make_large(run)
    run("init", "densenet121", "--num-classes", "12", "-o", "model.safetensors")
    wave = [math.sin(x / 9) * math.cos(y / 13 + c) for c in range(3) for y in range(160) for x in range(224)]
    npy(place / "wave.npy", (3, 160, 224), wave)
    run("view", "model.safetensors", "--image", "wave.npy", "--html", "picture.html")
    run("init", "densenet121", "--dims", "3", "--num-classes", "2", "-o", "plain.safetensors")
    steps = {"channels": 1, "mean": [0], "std": [1], "volume": {"size": {"resize": [64, 80, 72]}, "normalize": "zscore"}}
    (place / "steps.json").write_text(json.dumps(steps))
    run("import", "plain.safetensors", "--preprocessing", "steps.json", "-o", "volume.safetensors")
    ball = [math.exp(-((x - 20) ** 2 + (y - 28) ** 2 + (z - 24) ** 2) / 90) for z in range(48) for y in range(48) for x in range(48)]
    nifti(place / "ball.nii", 48, ball)
    run("view", "volume.safetensors", "--image", "ball.nii", "--html", "volume.html")
    run("export", "model.safetensors", "-o", "model.onnx")
    run("view", "model.onnx", "--no-time", "--html", "onnx.html")
    # An operator that no DenseNet has makes it a plain graph.
    content = (place / "model.onnx").read_bytes()
    (place / "other.onnx").write_bytes(content.replace(b"Relu", b"Tanh", 1))
    run("view", "other.onnx", "--html", "graph.html")


def make_large(run):
    """The pages that `speed` measures."""
    run("view", "densenet264", "--html", "preset.html")
    run("init", "densenet264", "-o", "large.safetensors")
    run("view", "large.safetensors", "--no-time", "--html", "weights.html")
    run("init", "densenet264", "--dims", "3", "-o", "volumes.safetensors")
    run("view", "volumes.safetensors", "--no-time", "--html", "weights-3d.html")


HEADING = "document.querySelector('#details h2').textContent"
TRANSFORM = "document.querySelector('#drawing > g').getAttribute('transform')"


def speed(browser, place):
    """Medians count on a machine that does nothing else; other programs can only add, so the limits hold for the best."""
    print("speed, densenet264")
    browser.size(1280, 800)
    for name in ("preset.html", "weights.html", "weights-3d.html"):
        paints = []
        for _ in range(9):
            browser.open(f"file://{place}/{name}")
            browser.js("new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))")
            paints.append(browser.js("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
        check(min(paints) < FIRST_PAINT_MS, f"{name}: first paint in {said(paints)}, less than {FIRST_PAINT_MS}")
    # Until the frame that shows it is made: the second animation frame after the click begins behind it.
    opening = """new Promise(done => {
        const block = document.querySelector('[data-id="stage:5"]');
        const start = performance.now();
        block.dispatchEvent(new MouseEvent('click', { bubbles: true }));
        requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - start)));
    })"""
    browser.send("Performance.enable", timeDomain="threadTicks")
    for name in ("weights.html", "weights-3d.html"):
        times, busy = [], []
        for _ in range(9):
            browser.open(f"file://{place}/{name}")
            browser.js("new Promise(done => setTimeout(done, 300))")
            before = browser.busy_ms()
            times.append(browser.js(opening))
            busy.append(browser.busy_ms() - before)
        check(min(times) < OPEN_BLOCK_MS, f"{name}: 64 layers open in {said(times)}, less than {OPEN_BLOCK_MS}; {statistics.median(busy):.0f} ms of work")
        count = browser.js("document.querySelectorAll('[data-id^=\"dense:2:\"].item').length")
        check(count == 64, f"it shows its {count} layers")


def said(times):
    return f"{statistics.median(times):.0f} ms ({min(times):.0f} to {max(times):.0f}, {len(times)} times)"


def mouse(browser, place):
    print("mouse")
    browser.size(1280, 800)
    browser.open(f"file://{place}/weights.html")
    browser.click('[data-id="stage:1"].item')
    check(browser.js(HEADING) == "denseblock1", "a click on a block selects it")
    check(browser.js("document.querySelector('[data-id=\"stage:1\"]').getAttribute('aria-expanded')") == "true", "and opens it")
    browser.click('[data-id="dense:0:3"].item rect.box')
    check(browser.js(HEADING) == "denseblock1.denselayer4", "a click on a layer selects it")
    check("reads 0–159" in browser.js("document.querySelector('.lit').textContent"), "its channels light up: reads 0–159")
    check("adds 160–191" in browser.js("document.querySelector('.lit').textContent"), "adds 160–191")
    check(browser.js("document.querySelectorAll('#details .histogram').length") >= 2, "its weights have histograms")
    browser.click("#details .ops button[data-id^='layer:']")
    check(browser.js(HEADING) == "denseblock1.denselayer4.norm1", "its operations can be selected")
    before = browser.js(TRANSFORM)
    browser.drag(300, 650, 420, 600)
    check(browser.js(TRANSFORM) != before, "a drag moves the drawing")
    check(browser.js(HEADING) == "denseblock1.denselayer4.norm1", "and selects nothing")
    before = browser.js(TRANSFORM)
    browser.send("Input.dispatchMouseEvent", type="mouseWheel", x=400, y=400, deltaX=0, deltaY=-200, modifiers=2)
    check(browser.js(TRANSFORM).split("scale")[1] != before.split("scale")[1], "Ctrl and the wheel zoom")
    browser.click(".zoom button:last-child")
    browser.click('[data-toggle="1"]')
    check(browser.js("document.querySelectorAll('[data-id^=\"dense:\"].item').length") == 0, "the minus closes the block")
    browser.click("#tab-weights")
    check(browser.js("document.querySelectorAll('#view-weights canvas').length") > 64, "maps of weights and kernels are drawn")
    place_of_map = browser.place("#view-weights canvas")
    browser.click_at(place_of_map[0] + 40, place_of_map[1] - 40)
    check(browser.js(HEADING).startswith("denseblock1.denselayer"), "a click in the map of weights selects the reader")
    browser.click("#tab-costs")
    browser.click("#view-costs button[data-id='stage:3']")
    check(browser.js(HEADING) == "denseblock2", "a click on a bar selects its stage")
    browser.open(f"file://{place}/preset.html")
    browser.click("#tab-costs")
    labels = browser.js("[...document.querySelectorAll('#view-costs figure:last-child .label')].map((e) => e.textContent)")
    check(labels[0] == "stem" and labels[-1] == "norm5 + classifier", "the last norm and the classifier share a bar of time")
    widths = browser.js("[...document.querySelectorAll('#view-costs figure:last-child .bar i')].map((e) => e.getBoundingClientRect().width)")
    check(len(widths) == len(labels) and min(widths) >= 1, "every stage has its time")


def keyboard(browser, place):
    print("keyboard")
    browser.size(1280, 800)
    browser.open(f"file://{place}/weights.html")
    browser.key("/")
    browser.type("block4 layer40 conv2")
    check(browser.js("document.querySelector('#found').children.length") >= 1, "search finds")
    browser.key("Enter")
    check(browser.js(HEADING) == "denseblock4.denselayer40.conv2", f"Enter goes there: {browser.js(HEADING)}")
    check(browser.js("document.querySelector('[data-id=\"dense:3:39\"]').getAttribute('aria-selected')") == "true", "and shows its layer")
    box = browser.place('[data-id="dense:3:39"]')
    check(0 < box[0] < 910 and 100 < box[1] < 800, "which is in sight")
    browser.js("document.querySelector('[data-id=\"dense:3:39\"]').focus()")
    browser.key("ArrowRight")
    check(browser.js(HEADING) == "denseblock4.denselayer41", "right walks on")
    browser.key("Escape")
    check(browser.js(HEADING) == "denseblock4", "Escape leads to the block")
    browser.key("Escape")
    check(browser.js("document.activeElement.getAttribute('aria-expanded')") == "false", "and closes it")
    browser.key("ArrowLeft")
    check(browser.js(HEADING) == "transition3", "left walks back")
    browser.key("ArrowLeft")
    browser.key("ArrowDown")
    check(browser.js(HEADING) == "denseblock3.denselayer1", "down enters a block")
    # From the top of the page, Tab reaches everything and the ring is seen.
    browser.open(f"file://{place}/preset.html")
    reached = []
    for _ in range(12):
        browser.key("Tab")
        reached.append(browser.js("document.activeElement.id || document.activeElement.dataset.id || document.activeElement.textContent.slice(0, 12)"))
    for wanted in ("search", "copy", "theme", "tab-network", "stage:0"):
        check(wanted in reached, f"Tab reaches {wanted}")
    browser.js("document.querySelector('#tab-network').focus()")
    browser.key("ArrowRight")
    check(browser.js("document.querySelector('#tab-costs').getAttribute('aria-selected')") == "true", "arrows change the tab")


def copying(browser, place):
    print("copying")
    browser.size(1280, 800)
    browser.send("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    browser.open(f"file://{place}/preset.html")
    browser.click('[data-id="stage:1"].item')
    browser.click("#copy")
    browser.click("#copy-menu button:first-child")
    text = browser.js("new Promise(done => setTimeout(done, 300)).then(() => navigator.clipboard.readText())")
    problem = browser.js(f"new DOMParser().parseFromString({text!r}, 'image/svg+xml').querySelector('parsererror')?.textContent ?? null")
    check(text.startswith("<svg") and problem is None, "Copy SVG: well-formed")
    check("var(" not in text and 'fill="rgb(' in text, "its colours are filled in")
    (place / "copied.svg").write_text(text)
    browser.click("#copy")
    browser.click("#copy-menu button:nth-child(2)")
    kind = "new Promise(done => setTimeout(done, 1500)).then(() => navigator.clipboard.read()).then(items => items[0].types.join())"
    check("image/png" in browser.js(kind), "Copy PNG: an image is on the clipboard")
    check(browser.js("document.querySelector('#status').textContent").startswith("copied"), "and the page says so")


def pictures_of_maps(browser, place):
    print("pictures and volumes")
    for name in ("picture.html", "volume.html"):
        browser.size(1280, 800)
        browser.open(f"file://{place}/{name}")
        check(browser.js("document.querySelectorAll('.tiles canvas').length") >= 64, f"{name}: the stem's maps")
        browser.js("(() => { const s = document.querySelector('#maps-stage'); s.value = 1; s.dispatchEvent(new Event('change')); })()")
        check(browser.js("document.querySelectorAll('.maps h3').length") == 7, f"{name}: a block's maps come by their layers")
        check(browser.js("document.querySelectorAll('.picture canvas').length") == 2, f"{name}: a class map lies over the picture")
        check(browser.js("document.querySelectorAll('#view-picture .bars li').length") >= 2, f"{name}: classes have their bars")
        sliders = browser.js("document.querySelectorAll('#view-picture input[type=range]').length")
        check(sliders == (3 if name == "volume.html" else 1), f"{name}: {sliders} sliders")
        legend = "document.querySelector('.picture + .hint').textContent"
        check(browser.js(legend).startswith("map of "), f"{name}: {browser.js(legend)}")
    # The slider is the same after it was moved: dragging goes on.
    slider = "document.querySelector('.maps').parentElement.querySelector('input[type=range]')"
    browser.js(f"(() => {{ window.slider = {slider}; slider.value = 3; slider.dispatchEvent(new Event('input')); }})()")
    check(browser.js(f"window.slider === {slider} && slider.parentElement.textContent.startsWith('slice 4 of ')"), "volume.html: slices are leafed through")


def plain_graph(browser, place):
    print("ONNX")
    browser.size(1280, 800)
    browser.open(f"file://{place}/onnx.html")
    check("recognised as a DenseNet" in browser.js("document.querySelector('#origin').textContent"), "a DenseNet says so")
    browser.open(f"file://{place}/graph.html")
    check("plain graph" in browser.js("document.querySelector('#origin').textContent"), "another graph says so")
    check("Tanh" in browser.js("document.querySelector('#details').textContent"), "and why")
    drawn = browser.js("document.querySelectorAll('.graph-node').length")
    check(0 < drawn < 100, f"only what is in sight is drawn: {drawn} nodes")
    browser.key("/")
    browser.type("denseblock4 denselayer16 conv2")
    browser.key("Enter")
    check(browser.js(HEADING) == "Conv", "search goes to a node")
    check(browser.js("document.querySelector('.graph-node.picked') !== null"), "and shows it")
    browser.js("document.querySelector('.graph-node.picked').focus()")
    browser.key("ArrowDown")
    check(browser.js(HEADING) == "Concat", "down follows the edge")
    browser.click(".zoom button:last-child")
    browser.js("new Promise(done => requestAnimationFrame(() => setTimeout(done, 100)))")
    check(browser.js("document.querySelectorAll('.graph-node').length") < 701, "all in sight stays light")


CONTRAST = """(() => {
    const probe = document.createElement('i');
    document.body.append(probe);
    const light = (name) => {
        probe.style.color = `var(${name})`;
        const parts = getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3).map((v) => {
            const s = v / 255;
            return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
    };
    const ratio = (a, b) => {
        const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
        return (x + 0.05) / (y + 0.05);
    };
    const pairs = [['--text', '--ground'], ['--text', '--raised'], ['--quiet', '--ground'], ['--quiet', '--raised'], ['--quiet', '--sunken'],
        ['--accent', '--raised'], ['--on-accent', '--accent'], ['--text', '--accent-soft']];
    const found = pairs.map(([a, b]) => [`${a} on ${b}`, ratio(a, b)]);
    probe.remove();
    return found;
})()"""

UNNAMED = """[...document.querySelectorAll('button, input, select, [role=treeitem], [role=img], [role=tab]')]
    .filter((e) => !(e.getAttribute('aria-label') || e.textContent.trim() || e.closest('label')?.textContent.trim())).length"""

DOUBLED = """(() => { const ids = [...document.querySelectorAll('[id]')].map((e) => e.id); return ids.length - new Set(ids).size; })()"""


def accessible(browser, place):
    print("accessibility")
    for dark in (False, True):
        browser.size(1280, 800, dark=dark)
        browser.open(f"file://{place}/picture.html")
        for pair, ratio in browser.js(CONTRAST):
            check(ratio >= 4.5, f"{'dark' if dark else 'light'}: contrast of {pair} is {ratio:.1f}")
    for name in ("weights.html", "picture.html", "graph.html"):
        browser.open(f"file://{place}/{name}")
        for tab in ("network", "costs", "weights"):
            if name != "graph.html":
                browser.click(f"#tab-{tab}")
        if name != "graph.html":
            browser.click("#tab-network")
            browser.click('[data-id="stage:1"].item')
        check(browser.js(UNNAMED) == 0, f"{name}: everything has a name")
        check(browser.js(DOUBLED) == 0, f"{name}: no id stands twice")


def looks(browser, place, pictures):
    """Screenshots to be looked at, and no page wider than its window."""
    print("looks")
    tours = {
        "preset.html": [("overview", []), ("costs", ["#tab-costs"])],
        "weights.html": [("block", ['[data-id="stage:3"].item', '[data-id="dense:1:7"].item rect.box']), ("weights", ["#tab-weights"]), ("large-block", ['[data-id="stage:5"].item'])],
        "picture.html": [("picture", [])],
        "volume.html": [("volume", []), ("volume-network", ["#tab-network"])],
        "weights-3d.html": [("stem-3d", ['[data-id="stage:0"].item']), ("weights-3d", ["#tab-weights"])],
        "graph.html": [("graph", [])],
    }
    for width, height in WIDTHS:
        for dark in (False, True):
            browser.size(width, height, dark=dark)
            for name, tour in tours.items():
                for title, clicks in tour:
                    browser.open(f"file://{place}/{name}")
                    for selector in clicks:
                        # Stages may be out of sight in a narrow window: there the click needs no place.
                        browser.js(f"document.querySelector({selector!r}).dispatchEvent(new MouseEvent('click', {{ bubbles: true }}))")
                    browser.js("new Promise(done => setTimeout(done, 150))")
                    wide = browser.js("document.documentElement.scrollWidth")
                    if wide > width:
                        check(False, f"{title} at {width}: {wide} pixels wide")
                    if pictures:
                        browser.picture(pictures / f"{title}-{width}-{'dark' if dark else 'light'}.png")
    check(True, f"pictures at {' and '.join(str(w) for w, _ in WIDTHS)} pixels, light and dark")


def served(browser, densenet, place):
    print("server")
    words = [densenet, "view", "densenet121", "--no-time", "--no-open", "--port", "0"]
    server = subprocess.Popen(words, cwd=place, stderr=subprocess.PIPE, text=True)
    try:
        address = server.stderr.readline().split()[0]
        browser.requests.clear()
        browser.open(address)
        browser.open(address.replace("127.0.0.1", "localhost"))
        browser.js("new Promise(done => setTimeout(done, 300))")
        strangers = [url for url in browser.requests if not url.startswith(("http://127.0.0.1:", "http://localhost:", "data:", "blob:"))]
        check(not strangers and len(browser.requests) <= 4, f"the page asks for nothing else: {browser.requests}")
    finally:
        server.terminate()
    check(server.wait(timeout=30) == 143, "SIGTERM ends it with 143")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--densenet", default="target/release/densenet", help="the program to check")
    parser.add_argument("--chromium", default="chromium", help="the browser")
    parser.add_argument("--pictures", type=pathlib.Path, help="a folder for screenshots")
    parser.add_argument("--speed", action="store_true", help="measure alone")
    given = parser.parse_args()
    densenet = str(pathlib.Path(given.densenet).resolve())
    if given.pictures:
        given.pictures.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, Browser(given.chromium) as browser:
        place = pathlib.Path(folder)
        if given.speed:
            make_large(lambda *words: subprocess.run([densenet, *words], check=True, cwd=place, stderr=subprocess.DEVNULL))
            speed(browser, place)
            sys.exit(bool(failures))
        make_pages(densenet, place)
        for part in (speed, mouse, keyboard, copying, pictures_of_maps, plain_graph, accessible):
            part(browser, place)
        looks(browser, place, given.pictures)
        strangers = [url for url in browser.requests if not url.startswith(("file://", "data:", "blob:"))]
        check(not strangers, f"no page asked for anything: {strangers[:3]}")
        served(browser, densenet, place)
        check(not browser.complaints, f"nothing in the console: {browser.complaints[:3]}")
        if given.pictures and (place / "copied.svg").exists():
            (given.pictures / "copied.svg").write_text((place / "copied.svg").read_text())
    print(f"{len(failures)} failed" if failures else "all as it should be")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
