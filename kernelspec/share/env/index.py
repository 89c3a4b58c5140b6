"""Prints what pip's own configuration says about package indexes, as JSON.

Run by `cellwall env` on the host, as `/usr/bin/python3 -I -S`: standard library alone, no site-packages, nothing that a
package could have put in the way. The files, their order and the meaning of their sections are those of `pip install`
(https://pip.pypa.io/en/stable/topics/configuration/; pip._internal.configuration), without the file of a virtual environment,
where a package can put one, and without relative places, which lie where a notebook does
(https://specifications.freedesktop.org/basedir-spec/latest/ has them ignored too). Proxies are chosen as pip's requests
chooses them. Standard input is a JSON list of URLs that may be asked for besides those of the configuration.
"""
import configparser
import contextlib
import ipaddress
import json
import os
import sys
import urllib.parse

LISTS = ("extra-index-url", "find-links", "trusted-host")
TEXTS = ("index-url", "cert", "client-cert", "proxy", "no-index")
SECTIONS = ("global", "install")  # of all files the second counts before the first


def files():
    named = os.environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return []
    home = os.path.expanduser("~")
    config = os.environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(config):
        config = os.path.join(home, ".config")
    places = [os.path.join(os.path.expanduser(place), "pip", "pip.conf")
              for place in (os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")]
    places.append("/etc/pip.conf")
    if not (named and os.path.exists(named)):  # then the user's own are not read
        places += [os.path.join(home, ".pip", "pip.conf"), os.path.join(config, "pip", "pip.conf")]
    return [place for place in places if os.path.isabs(place)] + ([named] if named else [])


def read(name, found):
    """Adds what one file says to {section: {key: value}}."""
    parser = configparser.RawConfigParser()
    try:
        with open(name, encoding="utf-8") as file:
            parser.read_file(file)
    except (FileNotFoundError, NotADirectoryError):
        return
    for section in SECTIONS:
        if parser.has_section(section):
            for key, value in parser.items(section):
                key = key.lower().replace("_", "-")
                found[section][key[2:] if key.startswith("--") else key] = value


def environment_proxies():
    """{scheme: URL}: a name in small letters counts before one in capitals, also when it is empty."""
    proxies = {}
    for capitals in (True, False):
        for name, value in os.environ.items():
            scheme = name.lower()[:-6]
            if not name.lower().endswith("_proxy") or (not capitals and name[-6:] != "_proxy"):
                continue
            if value:
                proxies[scheme] = value
            elif not capitals:
                proxies.pop(scheme, None)
    return proxies


def is_bypassed(host, port, names):
    """Does no_proxy name it: an IPv4 address by itself or its network, another host by the end of its name, the port behind it or not?"""
    if names.strip() == "*":
        return True
    for name in filter(None, names.replace(" ", "").lower().split(",")):
        try:
            address = ipaddress.IPv4Address(host)
        except ValueError:
            if any(text.endswith(name) for text in (host, f"{host}:{port}", "." + host)):
                return True
            continue
        with contextlib.suppress(ValueError):
            if address in ipaddress.IPv4Network(name, strict=False):
                return True
    return False


def way_to(url, proxy, proxies):
    """The proxy that leads to a URL, "" for none. pip's own option is for all, whatever no_proxy says."""
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        return ""  # what is no URL is refused by who asked
    if not proxy and not is_bypassed(host, port, proxies.get("no", "")):
        proxy = proxies.get(parts.scheme, proxies.get("all", ""))
    return proxy if not proxy or "://" in proxy else "http://" + proxy


def main():
    sections = {section: {} for section in SECTIONS}
    for name in files():
        try:
            read(name, sections)
        except configparser.Error as error:  # its text has the line, which can hold a password
            line = getattr(error, "lineno", None) or error.errors[0][0]
            json.dump({"error": f"{name}, line {line}: {type(error).__name__}"}, sys.stdout)
            sys.exit()
        except (OSError, UnicodeDecodeError) as error:
            json.dump({"error": f"{name}: {error}"}, sys.stdout)
            sys.exit()
    found = {}
    for section in SECTIONS:
        found.update((key, value) for key, value in sections[section].items() if key in LISTS + TEXTS and value)
    for key in LISTS + TEXTS:
        value = os.environ.get("PIP_" + key.upper().replace("-", "_"))
        if value:
            found[key] = value
    for key in LISTS:
        found[key] = found.get(key, "").split()
    found["find-links"] = [os.path.expanduser(link) for link in found["find-links"]]
    found["no-index"] = found.get("no-index", "").strip().lower() in ("1", "true", "yes", "on", "y", "t")
    found["cert"] = os.path.expanduser(found.get("cert", ""))
    if not found["cert"]:
        found["cert"] = next((os.environ[key] for key in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE") if os.environ.get(key)), "")
    urls = [found.get("index-url", ""), *found["extra-index-url"], *found["find-links"], *json.load(sys.stdin)]
    proxies = environment_proxies()
    found["ways"] = {url: way_to(url, found.get("proxy", ""), proxies) for url in urls}
    json.dump(found, sys.stdout)


main()
