"""Firefox by its own remote protocol, Marionette, for Selenium: Debian has no geckodriver, which only translates.

The protocol (searchfox.org, remote/marionette): on a TCP port, messages of the form SIZE:JSON, a command [0, id, name,
parameters] and its answer [1, id, error, result].
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time

from selenium import webdriver
from selenium.webdriver.remote.command import Command

# What Selenium calls a command, what Firefox does, and what of the answer is the value.
NAMES = {
    Command.NEW_SESSION: "NewSession",
    Command.GET: "Navigate",
    Command.REFRESH: "Refresh",
    Command.GET_CURRENT_URL: "GetCurrentURL",
    Command.GET_TITLE: "GetTitle",
    Command.W3C_GET_CURRENT_WINDOW_HANDLE: "GetWindowHandle",
    Command.W3C_GET_WINDOW_HANDLES: "GetWindowHandles",
    Command.SWITCH_TO_WINDOW: "SwitchToWindow",
    Command.SWITCH_TO_FRAME: "SwitchToFrame",
    Command.CLOSE: "CloseWindow",
    Command.SET_WINDOW_RECT: "SetWindowRect",
    Command.SET_TIMEOUTS: "SetTimeouts",
    Command.W3C_EXECUTE_SCRIPT: "ExecuteScript",
    Command.W3C_EXECUTE_SCRIPT_ASYNC: "ExecuteAsyncScript",
    Command.FIND_ELEMENT: "FindElement",
    Command.FIND_ELEMENTS: "FindElements",
    Command.FIND_CHILD_ELEMENT: "FindElement",
    Command.FIND_CHILD_ELEMENTS: "FindElements",
    Command.CLICK_ELEMENT: "ElementClick",
    Command.SEND_KEYS_TO_ELEMENT: "ElementSendKeys",
    Command.GET_ELEMENT_TEXT: "GetElementText",
    Command.GET_ELEMENT_TAG_NAME: "GetElementTagName",
    Command.GET_ELEMENT_RECT: "GetElementRect",
    Command.SCREENSHOT: "TakeScreenshot",
    Command.ELEMENT_SCREENSHOT: "TakeScreenshot",
    Command.W3C_ACTIONS: "PerformActions",
    Command.W3C_CLEAR_ACTIONS: "ReleaseActions",
    Command.W3C_GET_ALERT_TEXT: "GetAlertText",
    Command.W3C_DISMISS_ALERT: "DismissAlert",
    Command.W3C_ACCEPT_ALERT: "AcceptAlert",
}
PREFERENCES = {
    "marionette.port": 0,  # any; the profile's MarionetteActivePort says which
    "media.peerconnection.ice.loopback": True,  # WebRTC may use 127.0.0.1, where the test listens
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.getAddons.showPane": False,
    "services.settings.server": "data:,",
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "signon.rememberSignons": False,  # its question takes the keyboard
    "ui.systemUsesDarkTheme": 0,
}


class Marionette:
    """What webdriver.Remote asks of a connection."""

    client_config = None

    def __init__(self, profile):
        end = time.monotonic() + 60
        while True:
            try:
                self.socket = socket.create_connection(("127.0.0.1", int((profile / "MarionetteActivePort").read_text())), 180)
                break
            except (OSError, ValueError):
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)
        self.input = self.socket.makefile("rb")
        self.count = 0
        self.receive()  # it introduces itself

    def receive(self):
        size = b""
        while not size.endswith(b":"):
            byte = self.input.read(1)
            if not byte:
                raise ConnectionError("Firefox has gone")
            size += byte
        return json.loads(self.input.read(int(size[:-1])))

    def send(self, name, parameters):
        """(error, result)"""
        self.count += 1
        data = json.dumps([0, self.count, name, parameters]).encode()
        self.socket.sendall(b"%d:%s" % (len(data), data))
        return self.receive()[2:]

    def execute(self, command, parameters=None):
        parameters = dict(parameters or {})
        parameters.pop("sessionId", None)
        if command in (Command.FIND_CHILD_ELEMENT, Command.FIND_CHILD_ELEMENTS):
            parameters["element"] = parameters.pop("id")
        if command == Command.SCREENSHOT:
            parameters["full"] = False
        if command == Command.QUIT:
            name = "Marionette:Quit"
            parameters = {"flags": ["eForceQuit"]}
        else:
            name = "WebDriver:" + NAMES[command]
        error, result = self.send(name, parameters)
        if error:
            return {"status": 500, "value": json.dumps({"value": error})}
        if isinstance(result, dict) and set(result) == {"value"}:
            result = result["value"]
        return {"success": 0, "value": result}

    def close(self):
        self.socket.close()


class Firefox(webdriver.Remote):
    """Headless, with a profile of its own, and its log of names that it looks up in `names`."""

    def __init__(self, profile, names, environment, size=(1300, 1000), preferences=()):
        profile.mkdir()
        lines = (f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in {**PREFERENCES, **dict(preferences)}.items())
        (profile / "user.js").write_text("".join(lines))
        self.process = subprocess.Popen(
            ["firefox-esr", "--headless", "--marionette", "--remote-allow-system-access", "--no-remote", "--profile", str(profile)],
            env={
                **environment,
                "MOZ_HEADLESS_WIDTH": str(size[0]),
                "MOZ_HEADLESS_HEIGHT": str(size[1]),
                "MOZ_LOG": "nsHostResolver:5",
                "MOZ_LOG_FILE": str(names),
                "MOZ_CRASHREPORTER_DISABLE": "1",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=open(profile / "stderr", "wb"),
            start_new_session=True,
        )
        try:
            super().__init__(Marionette(profile), options=webdriver.FirefoxOptions())
            self._is_remote = False  # a file to choose is on this host
            self.set_script_timeout(60)
        except BaseException:
            self.end()
            raise

    def in_the_window(self, script, *arguments):
        """Runs it around the page, where Firefox's own parts are."""
        self.command_executor.send("Marionette:SetContext", {"value": "chrome"})
        try:
            return self.execute_script(script, *arguments)
        finally:
            self.command_executor.send("Marionette:SetContext", {"value": "content"})

    def end(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def quit(self):
        with contextlib.suppress(OSError):
            self.execute(Command.QUIT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            pass
        self.end()
        self.command_executor.close()
