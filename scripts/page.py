#!/usr/bin/env python3
"""Tests the page of an agent in Chromium. Started by page.sh."""

import argparse
import asyncio
import contextlib
import http.client
import importlib.util
import json
import pathlib
import shutil
import sqlite3
import sys
import threading
import time
import urllib.request
import uuid

from lab import processes
from lab.answers import MODEL, Order
from lab.parts import run
from lab.processes import Failed, Process, binary, free_port, get_json, python, say, wait_until
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

FLAGS = """--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars --disable-sync
  --disable-background-networking --disable-component-update""".split()
# How wide the page is, and how it is asked to look.
LOOKS = {"light": (1200, "light"), "dark": (1200, "dark"), "narrow": (360, "light")}


class Scene:
    """A coordinator, a server and an agent, of which each can be stopped and started again at the same address."""

    def __init__(self, directory, real=None):
        self.directory = directory
        self.real = real
        self.ports = {name: free_port() for name in ("coordinator", "server", "page")}
        self.key = directory / "identity.key"
        self.url = f"http://127.0.0.1:{self.ports['page']}/"
        self.server = self.coordinator = self.agent = None

    def log(self, name):
        return self.directory / f"{name}.log"

    def start_server(self):
        if self.real:
            return
        self.server = python("server", "backend", [self.ports["server"]], self.log("server"))
        self.server.wait_for("listening")

    def start_coordinator(self):
        listen = f"127.0.0.1:{self.ports['coordinator']}"
        self.coordinator = Process("coordinator", [binary(), "coordinator", "--listen", listen], self.log("coordinator"))
        self.coordinator.wait_for("coordinator listening")

    def start_agent(self):
        env = {
            "OUTPOST_COORDINATOR_URL": f"ws://127.0.0.1:{self.ports['coordinator']}/agent",
            "OUTPOST_IDENTITY_PATH": str(self.key),
            "OUTPOST_BACKENDS": self.real or f"gpu-box@openai=http://127.0.0.1:{self.ports['server']}",
            "OUTPOST_STATUS_ADDR": f"127.0.0.1:{self.ports['page']}",
            "OUTPOST_DISCOVERY_INTERVAL": "1s",
        }
        self.agent = Process("agent", [binary(), "run"], self.log("agent"), env)
        self.agent.wait_for("status page")

    def ask(self, order):
        """Sends a request in a thread of its own, and forgets its answer."""
        return self.post(order.body(stream=True))

    def post(self, body):
        body = json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.ports['coordinator']}/v1/chat/completions"
        request = urllib.request.Request(url, body, {"content-type": "application/json"})

        def work():
            with contextlib.suppress(OSError, http.client.HTTPException):
                urllib.request.urlopen(request, timeout=60).read()

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return thread


class Page:
    """The page in a browser of its own."""

    def __init__(self, url, look="light"):
        self.url = url
        self.width, scheme = LOOKS[look]
        options = Options()
        for flag in FLAGS:
            options.add_argument(flag)
        options.binary_location = shutil.which("chromium")
        self.driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        self.size(900)
        self.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.driver.get(url)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.driver.quit()

    def command(self, name, **arguments):
        self.driver.execute_cdp_cmd(name, arguments)

    def size(self, height):
        self.command("Emulation.setDeviceMetricsOverride", width=self.width, height=height, deviceScaleFactor=1, mobile=False)

    def text(self, css):
        return self.driver.find_element(By.CSS_SELECTOR, css).text

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def until(self, css, words, limit=30):
        def there():
            text = self.run("return document.querySelector(arguments[0])?.innerText ?? ''", css)
            return words in text

        try:
            wait_until(there, limit, f"{words!r} in {css}", every=0.1)
        except Failed as failure:
            raise Failed(f"{failure}; there was: {self.text(css)!r}") from None

    def says(self, words, level, limit=30):
        """Waits for a sentence of state."""
        self.until("#sentence", words, limit)
        found = self.run("return document.getElementById('state').dataset.level")
        if found != level:
            raise Failed(f"{words!r} is shown as {found}, not as {level}")
        if (level == "good") != (self.text("#advice") == ""):
            raise Failed(f"the advice of {words!r} is {self.text('#advice')!r}")

    def press(self, order):
        button = self.driver.find_element(By.CSS_SELECTOR, f"[data-order={order}]")
        wait_until(button.is_displayed, 30, f"button {order}", every=0.1)
        button.click()

    def complaints(self):
        """What the browser has complained about, but for connections that a test breaks."""
        log = [entry["message"] for entry in self.driver.get_log("browser")]
        return [line for line in log if "net::ERR" not in line]


def need(holds, otherwise):
    if not holds:
        raise Failed(otherwise)


async def states(directory):
    scene = Scene(directory)
    scene.start_agent()
    with Page(scene.url) as page:
        page.says("Not connected to 127.0.0.1:", "bad")
        page.until("#advice", "OUTPOST_COORDINATOR_URL")
        scene.start_coordinator()
        page.says("but no model is on offer: gpu-box is down", "bad", limit=90)
        scene.start_server()
        page.says("Ready: 1 model on offer, connected to", "good")
        request = scene.ask(Order("shown", events=60, gap_ms=100))
        page.says("Working: 1 job, ", "good")
        page.until("#sentence", "tokens/s")
        page.until("#jobs tbody", MODEL)
        page.until("#jobs tbody", "gpu-box")
        need("shown" not in page.run("return document.body.innerText"), "the page shows a prompt")
        request.join()
        page.says("Ready: 1 model", "good")
        page.until("#jobs", "No job runs.")
        need(not page.driver.find_element(By.ID, "switches").is_displayed(), "there are switches without a token")
        switches(scene)
        page.says("Ready: 1 model", "good")
        scene.server.kill()
        page.says("but no model is on offer: gpu-box is down", "bad")
        page.until("#problems", "server gpu-box down")
        scene.start_server()
        page.says("Ready: 1 model", "good")
        scene.coordinator.kill()
        page.says("Not connected to 127.0.0.1:", "bad")
        page.until("#problems", "connection to the coordinator lost")
        need(page.complaints() == [], f"the browser complains: {page.complaints()}")
        scene.agent.kill()
        page.until("#live", "The agent does not answer")
        scene.start_agent()
        scene.start_coordinator()
        page.says("Ready: 1 model", "good", limit=90)
        need(not page.driver.find_element(By.ID, "live").is_displayed(), "the page still says that there is no answer")


def switches(scene):
    """The switches of a page that was opened with the token, and with a wrong one."""
    token = (scene.directory / "identity.key.token").read_text().strip()
    with Page(f"{scene.url}#token={token}") as page:
        page.press("hour")
        page.says("Paused by you for another 60 minutes: nothing is offered, connected to", "good")
        need("token" not in page.driver.current_url, "the token stays in the address")
        page.press("resume")
        page.says("Ready: 1 model", "good")
        page.press("pause")
        page.says("Paused by you: nothing is offered", "good")
        page.driver.refresh()
        page.press("resume")
        page.says("Ready: 1 model", "good")
    with Page(f"{scene.url}#token=wrong") as page:
        page.press("pause")
        page.until("#refused", "run `outpost open`")
        page.says("Ready: 1 model", "good")


def seed(key, rows):
    """Puts jobs into the ledger: (seconds ago, model, outcome, cause, first byte in ms, prompt tokens, generated tokens)."""
    with contextlib.closing(sqlite3.connect(f"{key}.ledger")) as ledger, ledger:
        for at, (ago, model, outcome, cause, first, prompt, generated) in enumerate(rows):
            micros = int((time.time() - ago) * 1e6) + at
            earned = (prompt * 500_000 + generated * 750_000) // 1000
            values = (micros, str(uuid.uuid4()), "c:1", model, "/v1/chat/completions", "gpu-box", outcome, cause, first, 5000)
            values += (prompt, prompt // 2, generated, 500_000, 750_000, earned)
            ledger.execute(f"INSERT INTO jobs VALUES ({','.join('?' * len(values))})", values)


async def past(directory):
    scene = Scene(directory)
    scene.start_server()
    scene.start_coordinator()
    scene.start_agent()
    rows = [(3 * 3600, "llama", "done", None, 100 * n, 1000, 600) for n in range(1, 12)]
    rows += [(5 * 3600, "qwen", "failed", "deadline", None, 0, 0)] * 3 + [(9 * 86400, "old", "done", None, 50, 10, 10)]
    seed(scene.key, rows)
    with Page(scene.url) as page:
        page.until("#past-tiles", "11\njobs done")
        page.until("#past-tiles", "$0.0104")
        page.until("#models", "llama")
        need("old" not in page.text("#models"), "a job of 9 days ago counts in 24 hours")
        page.until("#outcomes", "failed: deadline")
        xs, done, failed = page.run("return charts['chart-jobs'].data")
        need(len(xs) == 144 and sum(done) == 11 and sum(failed) == 3, f"the chart has {sum(done)} done, {sum(failed)} failed")
        need(abs(xs[done.index(max(done))] - (time.time() - 3 * 3600)) < 1200, "the jobs are at the wrong time")
        medians, tails = (page.run(f"return charts['chart-first'].data[{line}].filter((it) => it !== null)") for line in (1, 2))
        need(medians[:1] == [0.6] and tails[:1] == [1.1], f"first bytes: {medians}, {tails}")
        page.driver.find_element(By.CSS_SELECTOR, "[data-span=month]").click()
        page.until("#past-tiles", "12\njobs done")
        page.until("#models", "old")
        need(len(page.run("return charts['chart-jobs'].data[0]")) == 120, "30 days are not 120 points")
        need(page.complaints() == [], f"the browser complains: {page.complaints()}")


def axe():
    """The text of axe-core. Only that file of the package is used: the rest needs another browser."""
    package = pathlib.Path(importlib.util.find_spec("axe_playwright_python").origin).parent
    return (package / "axe.min.js").read_text()


def looks(screenshots):
    async def part(directory):
        scene = Scene(directory)
        scene.start_server()
        scene.start_coordinator()
        scene.start_agent()
        scene.agent.wait_for("capabilities sent")
        generated = [(n * 613 % 86000 + 60, "llama3.2:3b", "done", None, 80 + n * 37 % 400, 900, 200 + n % 90) for n in range(400)]
        failed = [(n * 9973 % 86000, "qwen2.5:7b", "failed", "deadline", None, 0, 0) for n in range(12)]
        seed(scene.key, generated + failed)
        requests = [scene.ask(Order(f"r{n}", events=400, gap_ms=30 + 10 * n)) for n in range(3)]
        backgrounds = {}
        for look in LOOKS:
            with Page(scene.url, look) as page:
                page.says("Working: ", "good")
                page.until("#past-tiles", "jobs done")
                time.sleep(1.5)  # Until the streams have a rate worth a picture.
                width = page.run("return document.documentElement.scrollWidth")
                need(width <= LOOKS[look][0], f"{look}: the page is {width} pixels wide")
                backgrounds[look] = page.run("return getComputedStyle(document.documentElement).backgroundColor")
                page.run(axe())
                result = page.driver.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
                violations = [(it["id"], [node["html"][:120] for node in it["nodes"]]) for it in result["violations"]]
                need(not violations, f"{look}: axe finds {violations}")
                need(len(result["passes"]) > 20, f"{look}: axe has looked at {len(result['passes'])} rules only")
                there = page.run("return performance.getEntriesByType('resource').map((it) => new URL(it.name).host)")
                need(set(there) == {scene.url.split("/")[2]}, f"the page asks {set(there)}")
                if screenshots:
                    page.size(page.run("return document.documentElement.scrollHeight"))
                    time.sleep(0.5)  # The charts are drawn anew a moment after a change of size.
                    page.driver.save_screenshot(str(screenshots / f"page-{look}.png"))
        need(backgrounds["dark"] != backgrounds["light"], f"dark is as light: {backgrounds}")
        keyboard(scene)
        headers(scene)
        for request in requests:
            request.join()

    return part


# What is asked of a real model, each as often as it takes to have jobs in the picture.
QUESTIONS = ["Tell a long story about a lighthouse.", "Explain at length how a bicycle stays upright.", "Describe a walk through a forest."]


def pictures(screenshots, real):
    """The page of an agent with a real model, which has worked some jobs and works others."""

    async def part(directory):
        scene = Scene(directory, real)
        scene.start_coordinator()
        scene.start_agent()
        scene.agent.wait_for("capabilities sent")
        status = get_json(("127.0.0.1", scene.ports["page"]), "/status")
        models = [model for backend in status["backends"].values() for model in backend["models"]]

        def question(n, tokens):
            messages = [{"role": "user", "content": QUESTIONS[n % len(QUESTIONS)]}]
            return {"model": models[0], "messages": messages, "stream": True, "max_tokens": tokens, "ignore_eos": True}

        for n in range(12):
            scene.post(question(n, 60 + 20 * n)).join()
        for look in LOOKS:
            running = [scene.post(question(n, 1200)) for n in range(3)]
            with Page(scene.url, look) as page:
                page.until("#sentence", "tokens/s")
                page.until("#past-tiles", "jobs done")
                time.sleep(3)  # Until the streams have a rate worth a picture.
                page.size(page.run("return document.documentElement.scrollHeight"))
                time.sleep(0.5)  # The charts are drawn anew a moment after a change of size.
                page.driver.save_screenshot(str(screenshots / f"page-{look}.png"))
            for request in running:
                request.join()

    return part


def keyboard(scene):
    """Everything that can be pressed can be reached by the Tab key, and pressed by Enter."""
    with Page(scene.url) as page:
        page.until("#past-tiles", "jobs done")
        for _ in range(20):
            page.driver.switch_to.active_element.send_keys(Keys.TAB)
            if page.run("return document.activeElement.dataset.span") == "month":
                page.driver.switch_to.active_element.send_keys(Keys.ENTER)
                need(page.run("return document.activeElement.getAttribute('aria-pressed')") == "true", "Enter presses nothing")
                return
        raise Failed("the Tab key does not reach the choice of 30 days")


def headers(scene):
    answer = urllib.request.urlopen(scene.url)
    policy = answer.headers["content-security-policy"]
    need("default-src 'none'" in policy and "unsafe" not in policy, f"the policy is {policy}")
    foreign = urllib.request.Request(scene.url, headers={"host": "evil.example"})
    try:
        status = urllib.request.urlopen(foreign).status
    except urllib.error.HTTPError as error:
        status = error.code
    need(status == 403, f"a foreign Host is answered with {status}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--screenshots", type=pathlib.Path, metavar="DIR", help="where to put pictures of the page")
    parser.add_argument("--real", metavar="BACKEND", help="only pictures, of an agent with this backend, as in OUTPOST_BACKENDS")
    options = parser.parse_args()
    screenshots = options.screenshots
    if options.real:
        return asyncio.run(run("page", [("pictures with a real model", pictures(screenshots, options.real))]))
    parts = [
        ("sentences of state, live, and after the agent was gone", states),
        ("24 hours and 30 days", past),
        ("light, dark and narrow; axe-core; keyboard; headers", looks(screenshots)),
    ]

    async def apart(directory, number, part):
        own = directory / str(number)
        own.mkdir()
        await part(own)
        processes.stop_all()

    numbered = [(title, lambda directory, n=n, part=part: apart(directory, n, part)) for n, (title, part) in enumerate(parts)]
    say(f"binary {binary()}")
    return asyncio.run(run("page", numbered))


if __name__ == "__main__":
    sys.exit(main())
