#!/usr/bin/env python3
# What is in a calendar (.ics) today and tomorrow.
# looop: interval=300s timeout=60s trust=untrusted env=HTTP_PROXY,HTTPS_PROXY,NO_PROXY,SSL_CERT_FILE
#
# Needs: python3 (3.9 or later).
# Wakes the loop: an event of these days that is new, gone, or at another time, and each midnight. Places are detail.
# An event counts on the day on which it begins. Rules that repeat by "the second Monday" and the like are only counted.
# Untrusted, because whoever invites you writes the words.

# setting: the calendar: a file, or an address that begins with https://
CALENDAR = '~/calendar.ics'
# setting: how many days count, today included
DAYS = '2'

import datetime
import json
import os
import re
import sys
import urllib.request
import zoneinfo

CALENDAR_BYTES = 8_000_000
STEPS = 20_000  # repetitions that are looked at for one event
FREQUENCIES = ["DAILY", "WEEKLY", "MONTHLY", "YEARLY"]
UNKNOWN_ZONES = set()
WEEKDAYS = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"]


def text(value, limit):
    """A value from a stranger as plain text: no control characters, and not long."""
    value = re.sub(r"\\([nN,;\\])", lambda m: " " if m[1] in "nN" else m[1], value or "")
    return re.sub(r"[\x00-\x1f\x7f\ud800-\udfff]+", " ", value).strip()[:limit]


def load():
    if re.match(r"https?://", CALENDAR):
        with urllib.request.urlopen(CALENDAR, timeout=20) as answer:
            document = answer.read(CALENDAR_BYTES + 1)
    else:
        path = os.path.expanduser(CALENDAR)
        if not os.path.isfile(path):
            raise ValueError("there is no such file")
        with open(path, "rb") as file:
            document = file.read(CALENDAR_BYTES + 1)
    if len(document) > CALENDAR_BYTES:
        raise ValueError("it is larger than 8 MB")
    document = document.decode("utf-8", "replace")
    if "BEGIN:VCALENDAR" not in document:
        raise ValueError("it is no calendar")
    return document


def events(document):
    """Each event as its fields: name to a list of (parameters, value). A line that begins with a blank goes on."""
    event, depth = None, 0
    for line in re.sub(r"\r?\n[ \t]", "", document).splitlines():
        name, _, value = line.partition(":")
        if '"' in name:  # a parameter in quotes may hold a colon
            match = re.match(r'((?:[^":]|"[^"]*")*):(.*)', line)
            name, value = match.groups() if match else (name, value)
        name, *parameters = name.upper().split(";")
        if name == "BEGIN":
            event, depth = ({}, 0) if value == "VEVENT" else (event, depth + 1)
        elif name == "END" and event is not None:
            if value == "VEVENT":
                yield event
                event = None
            depth -= 1
        elif event is not None and depth <= 0:
            # Zones are the one parameter whose letters count.
            zone = re.search(r'TZID="?([^";:]+)', line.split(":")[0] if '"' not in line else line, re.I)
            event.setdefault(name, []).append((zone[1] if zone else "", value))


def parse(zone, value):
    """A date or a time of the calendar: as it stands there, and its zone, None for the one of this machine."""
    match = re.fullmatch(r"(\d{4})(\d\d)(\d\d)(?:T(\d\d)(\d\d)(\d\d)(Z?))?", value.strip())
    if not match:
        raise ValueError("a time is not understood")
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    time = datetime.datetime(year, month, day, hour, minute, min(second, 59))
    if match[7]:
        return time, datetime.timezone.utc
    try:
        return time, zoneinfo.ZoneInfo(zone) if zone and match[4] else None
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        UNKNOWN_ZONES.add(text(zone, 40))  # told besides, since the time is then taken as one of this machine
        return time, None


def here(time, zone):
    """The same moment on the clock of this machine."""
    return time.replace(tzinfo=zone).astimezone().replace(tzinfo=None) if zone else time


def moment(zone, value):
    return here(*parse(zone, value))


def rule_of(event):
    value = event.get("RRULE", [("", "")])[0][1]
    return dict(part.split("=", 1) for part in value.upper().split(";") if "=" in part)


def known_of(first, rule):
    """The parts of a rule that are understood here; of the others, those that only repeat what its first day says."""
    known = {"FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST"} if rule.get("FREQ") in FREQUENCIES else set()
    known |= {"BYDAY"} if rule.get("FREQ") == "WEEKLY" else set()
    known |= {"BYMONTHDAY"} if rule.get("BYMONTHDAY") == str(first.day) else set()
    return known | ({"BYMONTH"} if rule.get("BYMONTH") == str(first.month) else set())


def starts(event, until):
    """The times at which an event begins, up to `until`; None behind them where its rule is more than is known here."""
    zone, value = event["DTSTART"][0]
    (first, where), rule = parse(zone, value), rule_of(event)
    without = {moment(zone, one) for zone, many in event.get("EXDATE", []) for one in many.split(",")}
    frequency, every = rule.get("FREQ"), max(1, int(rule.get("INTERVAL", 1)))
    known = known_of(first, rule)
    left = int(rule.get("COUNT", STEPS)) if frequency else 1
    end = min(until, moment("", rule["UNTIL"])) if "UNTIL" in rule else until
    days = [WEEKDAYS.index(day) for day in rule.get("BYDAY", "").split(",") if day in WEEKDAYS]
    for step in range(STEPS):
        for stated in step_of(first, frequency, every * step, days):
            if stated is None or stated < first:
                continue
            time = here(stated, where)
            if time > end or left <= 0:
                return
            left -= 1
            if time not in without:
                yield time
        if frequency is None or not set(rule) <= known:
            break
    if frequency is not None:
        yield None


def value(event, name, limit):
    """A field of an event as plain text; empty where there is none."""
    return text(event.get(name, [("", "")])[0][1], limit)


def step_of(first, frequency, count, days):
    """The times of one step of a rule."""
    if frequency == "WEEKLY":
        monday = first - datetime.timedelta(days=first.weekday()) + datetime.timedelta(weeks=count)
        return [monday + datetime.timedelta(days=day) for day in sorted(days or [first.weekday()])]
    if frequency in ("MONTHLY", "YEARLY"):
        months = first.month - 1 + count * (12 if frequency == "YEARLY" else 1)
        try:
            return [first.replace(year=first.year + months // 12, month=months % 12 + 1)]
        except ValueError:
            return [None]  # that month has no such day
    return [first + datetime.timedelta(days=count)]


def main():
    try:
        document = load()
        today = datetime.datetime.combine(datetime.date.today(), datetime.time())
        end = today + datetime.timedelta(days=max(1, int(DAYS))) - datetime.timedelta(seconds=1)
    except (OSError, ValueError, OverflowError) as error:
        sys.exit(f"could not read the calendar {CALENDAR}: {text(str(error), 300)}")
    found, odd, own = [], 0, set()
    for event in events(document):
        try:
            if "RECURRENCE-ID" in event:  # one repetition that was moved: it stands for itself
                own.add((value(event, "UID", 500), moment(*event["RECURRENCE-ID"][0])))
        except (ValueError, OverflowError, OSError):
            odd += 1
    for event in events(document):
        if value(event, "STATUS", 20).upper() == "CANCELLED":
            continue
        try:
            for time in starts(event, end):
                if time is None:
                    odd += 1
                elif time >= today and ("RECURRENCE-ID" in event or (value(event, "UID", 500), time) not in own):
                    found.append((time, event))
        except (KeyError, ValueError, OverflowError, OSError):
            odd += 1
    found.sort(key=lambda pair: pair[0])

    def row(time, event):
        return {"start": time.strftime("%Y-%m-%dT%H:%M"), "what": value(event, "SUMMARY", 60)}

    listed = [row(time, event) for time, event in found[:25]]
    items = [{**one, "where": value(event, "LOCATION", 80)} for one, (_, event) in zip(listed, found)]
    while len(json.dumps([listed, items])) > 7000 and items:
        items.pop()
    detail = {"not_understood": odd, "unknown_zones": sorted(UNKNOWN_ZONES)[:3], "items": items}
    print(json.dumps({"signal": {"count": len(found), "events": listed}, "detail": detail}))


main()
