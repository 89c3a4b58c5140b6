"""Prints what pip's own configuration says about package indexes, as JSON.

Run by `cellwall env` on the host, as `/usr/bin/python3 -I -S`: standard library alone, no site-packages, nothing that a
package could have put in the way. The files, their order and the meaning of their sections are those of
https://pip.pypa.io/en/stable/topics/configuration/ (the configuration of a virtual environment is not read).
"""
import configparser
import json
import os
import sys

LISTS = ("extra-index-url", "find-links", "trusted-host")
TEXTS = ("index-url", "cert", "proxy", "no-index")


def files():
    named = os.environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return []
    home = os.path.expanduser("~")
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    places = [os.path.join(place, "pip", "pip.conf") for place in reversed((os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":"))]
    places += ["/etc/pip.conf", os.path.join(home, ".pip", "pip.conf"), os.path.join(config, "pip", "pip.conf")]
    return places + ([named] if named else [])


def main():
    found = {}
    for name in files():
        parser = configparser.RawConfigParser()
        try:
            with open(name, encoding="utf-8") as file:
                parser.read_file(file)
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError, configparser.Error) as error:
            json.dump({"error": f"{name}: {error}"}, sys.stdout)
            sys.exit()
        for section in ("global", "download", "install"):
            if parser.has_section(section):
                for key, value in parser.items(section):
                    key = key.replace("_", "-").lower()
                    if key in LISTS + TEXTS:
                        found[key] = value
    for key in LISTS + TEXTS:
        value = os.environ.get("PIP_" + key.upper().replace("-", "_"))
        if value:
            found[key] = value
    for key in LISTS:
        found[key] = found.get(key, "").split()
    found["no-index"] = found.get("no-index", "").strip().lower() in ("1", "true", "yes", "on", "y", "t")
    if not found.get("proxy"):
        found["proxy"] = next((os.environ[key] for key in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "http_proxy")
                               if os.environ.get(key)), "")
    if not found.get("cert"):
        found["cert"] = next((os.environ[key] for key in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE") if os.environ.get(key)), "")
    json.dump(found, sys.stdout)


main()
