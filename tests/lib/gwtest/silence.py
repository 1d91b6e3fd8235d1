# SPDX-License-Identifier: Apache-2.0
"""How long a guest was not heard around a migration, and whether it went on where it was."""
import collections

from .serial import Line, parse_tick

# longest: seconds between the two ticks farthest apart; at: host time of the first of them
# handover: seconds between the last tick of the source and the first of the destination; None without both
# jumps: [(seq before, seq after)] that do not follow each other; errors: lines in which the guest complains
# errors_counted: what the last tick says; across: whether both sides were heard
Silence = collections.namedtuple("Silence", "longest at handover jumps errors errors_counted across ticks")


def joined(source, destination):
    """The lines of both consoles as one guest said them: a line may begin on one and end on the other."""
    before, after = source.lines, destination.lines
    if source.rest and after:
        after[0] = Line(after[0].time, source.rest + after[0].text)
    elif source.rest:
        after = [Line(before[-1].time if before else 0.0, source.rest + destination.rest)]
    return before + after


def measure(source, destination=None, since=None, until=None):
    """Looks at the ticks of a guest between two host times (time.monotonic()). `source` and `destination` are Serials;
    without a destination it is about a guest that stayed."""
    lines = joined(source, destination) if destination else source.lines
    window = [line for line in lines
              if (since is None or line.time >= since) and (until is None or line.time <= until)]
    ticks = [t for t in map(parse_tick, window) if t]
    longest, at, jumps = 0.0, None, []
    for one, two in zip(ticks, ticks[1:]):
        if two.seq != one.seq + 1:
            jumps.append((one.seq, two.seq))
        if two.time - one.time > longest:
            longest, at = two.time - one.time, one.time
    errors = source.errors() + (destination.errors() if destination else [])
    last = [t for t in ticks if t.time <= source.lines[-1].time] if source.lines else []
    handover = None
    if destination and last and len(last) < len(ticks):
        handover = ticks[len(last)].time - last[-1].time
    across = bool(destination and source.ticks() and len(destination.ticks()) > 1)
    return Silence(longest, at, handover, jumps, errors, ticks[-1].errors if ticks else 0, across, ticks)
