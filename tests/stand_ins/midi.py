"""Piano pieces as MIDI files, with all that makes turning pedalled notes into sounding ones hard."""

from __future__ import annotations

import struct

import numpy as np

from tests.stand_ins.sounds import generator

TICKS_PER_QUARTER = 384
TICKS_PER_SECOND = 768  # 120 quarters a minute
NOTE_ON, NOTE_OFF, CONTROL, PROGRAM = 0x90, 0x80, 0xB0, 0xC0
SUSTAIN, SOFT = 64, 67
TEMPO = b"\xff\x51\x03" + (500_000).to_bytes(3, "big")  # microseconds a quarter
FOUR_FOUR = b"\xff\x58\x04\x04\x02\x18\x08"

Events = list[tuple[int, bytes]]


def piece(name: str, seconds: float, *, repeats_tempo: bool) -> bytes:
    """A MIDI file that depends on its name and length alone; the tempo may be told twice.

    Pedal values lie on both sides of 64; pedals move at the tick of a note, notes sound again while the
    pedal holds them, overlap with themselves, end as note-ons of velocity 0 or lie outside a piano.
    """
    head: Events = [(0, TEMPO), (0, FOUR_FOUR), *[(0, TEMPO)] * repeats_tempo]
    draw, last = generator(name), int(seconds * TICKS_PER_SECOND)
    notes = _notes(draw, last)
    events = [*notes, *_pedals(draw, last), *_pedals_at_onsets(notes)]
    # The sort is stable: what happens at one tick stays in the order of drawing, and the goldens need that.
    events.sort(key=lambda event: event[0])
    header = struct.pack(">4sIHHH", b"MThd", 6, 1, 2, TICKS_PER_QUARTER)
    return header + _track(head) + _track([(0, bytes([PROGRAM, 0])), *events])


def _notes(draw: np.random.RandomState, last: int) -> Events:
    """Pairs of onset and end."""
    events: Events = []
    pitches = draw.choice(np.arange(30, 96), 9, replace=False)
    tick = draw.randint(0, 300)
    while tick < last - 200:
        pitch = pitches[draw.randint(9)]
        end = min(tick + draw.randint(40, 900), last)
        events.append((tick, bytes([NOTE_ON, pitch, draw.randint(20, 110)])))
        events.append((end, bytes([NOTE_ON, pitch, 0] if draw.randint(2) else [NOTE_OFF, pitch, 64])))
        tick += draw.randint(0, 260)
    for pitch, start, end in ((20, 384, 700), (109, 384, 700), (60, last - 150, last)):
        events += [(start, bytes([NOTE_ON, pitch, 60])), (end, bytes([NOTE_OFF, pitch, 64]))]
    return events


def _pedals(draw: np.random.RandomState, last: int) -> Events:
    events: Events = []
    tick, is_released_at_last = 100, draw.randint(2) == 0
    while tick < last - 100:
        events.append((tick, bytes([CONTROL, SUSTAIN, draw.choice([64, 90, 127, 65])])))
        events.append((tick + draw.randint(20, 60), bytes([CONTROL, SUSTAIN, 100])))
        release = tick + draw.randint(80, 1500)
        if release < last - 50:
            events.append((release, bytes([CONTROL, SUSTAIN, draw.choice([0, 30, 63])])))
        elif is_released_at_last:
            events.append((last, bytes([CONTROL, SUSTAIN, 0])))
        tick = release + draw.randint(10, 200)
    return events


def _pedals_at_onsets(notes: Events) -> Events:
    events: Events = []
    for i, (tick, _) in enumerate(notes[:12:2]):
        is_down = i % 2 == 0
        events.append((tick, bytes([CONTROL, SUSTAIN, 127 * is_down])))
        events.append((tick, bytes([CONTROL, SOFT, 127 * (not is_down)])))
    return events


def _track(events: Events) -> bytes:
    out, now = bytearray(), 0
    for tick, message in [*events, (events[-1][0] + 1, b"\xff\x2f\x00")]:
        out += _delay(tick - now) + message
        now = tick
    return struct.pack(">4sI", b"MTrk", len(out)) + out


def _delay(ticks: int) -> bytes:
    """Seven bits a byte, the highest first; the eighth bit says that more follow."""
    out = [ticks & 127]
    while ticks := ticks >> 7:
        out.insert(0, ticks & 127 | 128)
    return bytes(out)
