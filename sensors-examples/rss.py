#!/usr/bin/env python3
# What is new in RSS and Atom feeds.
# looop: interval=900s timeout=60s trust=untrusted env=HTTP_PROXY,HTTPS_PROXY,NO_PROXY,SSL_CERT_FILE
#
# Needs: python3 (3.8 or later).
# Wakes the loop: an entry that is new among the latest ones of a feed. Titles, links and times are detail.
# Untrusted, because whoever writes a feed chooses its words.

# needed setting: the addresses of the feeds, at most 8, with spaces between
FEEDS = ''

import hashlib
import json
import re
import sys
import urllib.request
import xml.etree.ElementTree as ElementTree

LATEST = 10  # entries of each feed that count
FEED_BYTES = 4_000_000


def text(value, limit):
    """A value from a stranger as plain text: no control characters, and not long."""
    return re.sub(r"[\x00-\x1f\x7f\ud800-\udfff]+", " ", value or "").strip()[:limit]


def read(address):
    if not address.startswith(("http://", "https://")):
        raise ValueError("the address of a feed begins with http:// or https://")
    request = urllib.request.Request(address, headers={"User-Agent": "looop-sensor"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        document = answer.read(FEED_BYTES + 1)
    if len(document) > FEED_BYTES:
        raise ValueError("the feed is larger than 4 MB")
    if b"<!ENTITY" in document:
        raise ValueError("the feed defines entities, which no feed needs")
    return ElementTree.fromstring(document)


def entries(root):
    """The entries of a feed, RSS or Atom, whatever its namespaces are called."""
    for node in root.iter():
        node.tag = node.tag.rsplit("}", 1)[-1] if isinstance(node.tag, str) else ""
    if root.tag not in ("rss", "RDF", "feed"):
        raise ValueError("it is no feed")
    for node in [*root.iter("item"), *root.iter("entry")]:
        field = {child.tag: (child.text or child.get("href") or "") for child in reversed(list(node))}
        link = field.get("link", "")
        time = field.get("pubDate") or field.get("updated") or field.get("date", "")
        identity = field.get("guid") or field.get("id") or link or field.get("title", "")
        yield {
            "id": hashlib.sha256(identity.encode("utf-8", "replace")).hexdigest()[:8],
            "title": text(field.get("title"), 100),
            "link": text(link, 150),
            "time": text(time, 40),
        }


def main():
    addresses = FEEDS.split()[:8]
    if not addresses:
        sys.exit("set FEEDS at the top of this sensor")
    latest, ranked = {}, []
    for address in addresses:
        try:
            found = list(entries(read(address)))[:LATEST]
        except (OSError, ValueError, ElementTree.ParseError) as error:
            sys.exit(f"could not read the feed {address}: {text(str(error), 300)}")
        # Sorted, so that a feed which tells the same in another order is the same.
        latest[address[:150]] = sorted(entry["id"] for entry in found)
        ranked += [(rank, {"feed": address[:150], **entry}) for rank, entry in enumerate(found)]
    # The detail gives way where the reading would be large: the last entries of each feed first.
    items = [item for _, item in sorted(ranked, key=lambda pair: pair[0])]
    while len(json.dumps([latest, items])) > 7800 and items:
        items.pop()
    print(json.dumps({"signal": {"latest": latest}, "detail": {"items": items}}))


main()
