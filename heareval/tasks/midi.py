"""Read the notes of a MIDI file, as written and as the sustain pedal prolongs them.

The library mido parses the messages; this module interprets them by the rules of the published benchmark.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heareval.errors import HearevalError

DEFAULT_TEMPO_US = 500_000  # microseconds per quarter note: 120 beats per minute
DRUM_CHANNEL = 9
SUSTAIN_CONTROLLER = 64
PEDAL_DOWN_FROM = 64

# The order of simultaneous events.
_PEDAL_DOWN, _PEDAL_UP, _NOTE_ON, _NOTE_OFF = range(4)


@dataclass(frozen=True)
class Note:
    """A note; times in seconds from the beginning of the file, pitch and velocity as MIDI numbers."""

    onset_s: float
    offset_s: float
    pitch: int
    velocity: int


@dataclass(frozen=True)
class PedalMove:
    """A pedal message: from this time in seconds on, the sustain pedal is down or up."""

    time_s: float
    is_down: bool


@dataclass(frozen=True)
class Performance:
    """The notes of a MIDI file.

    Args:
        notes: as written, instrument by instrument, in the order in which they end.
        sustained: the same notes with the sustain pedal applied; some may have disappeared.
    """

    notes: tuple[Note, ...]
    sustained: tuple[Note, ...]


@dataclass(frozen=True)
class _Press:
    """A pressed key."""

    tick: int
    velocity: int


@dataclass(frozen=True)
class _Instrument:
    """The notes and pedal moves of one program on one channel of one track."""

    is_drum: bool
    pedal: list[PedalMove]
    notes: list[Note] = field(default_factory=list)


@dataclass(frozen=True)
class _TempoSegment:
    """A stretch of constant tempo."""

    start_tick: int
    start_s: float
    tick_s: float

    def seconds(self, tick: int) -> float:
        """Convert a tick of this stretch to seconds from the beginning of the file."""
        return self.start_s + self.tick_s * (tick - self.start_tick)


@dataclass(frozen=True)
class _Clock:
    """The tempo segments of a file in their order, with the ticks at which they start."""

    segments: list[_TempoSegment]
    start_ticks: list[int]

    def seconds(self, tick: int) -> float:
        """Convert any tick to seconds from the beginning of the file."""
        return self.segments[bisect_right(self.start_ticks, tick) - 1].seconds(tick)


def read_notes(path: Path) -> Performance:
    """Return the notes of a MIDI file, of all instruments and pitches.

    Raises:
        HearevalError: the file is damaged, or counts time in SMPTE frames.
    """
    file = _read(path)
    clock = _read_clock(file.tracks[0], file.ticks_per_beat)
    instruments = [each for track in file.tracks for each in _split_instruments(track, clock)]
    notes = (note for each in instruments for note in each.notes)
    sustained = (
        note
        for each in instruments
        for note in (each.notes if each.is_drum else apply_pedal(each.notes, each.pedal))
    )
    return Performance(tuple(notes), tuple(sustained))


def apply_pedal(notes: Sequence[Note], pedal: Iterable[PedalMove]) -> list[Note]:
    """Return the notes of one instrument with their ends as the sustain pedal prolongs them.

    >>> pedal = [PedalMove(0.5, True), PedalMove(2.0, False)]
    >>> [note.offset_s for note in apply_pedal([Note(0.0, 1.0, 60, 80)], pedal)]
    [2.0]

    Args:
        notes: in any order; each must be longer than 0 s.
        pedal: in any order; of simultaneous moves, down comes before up.
    """
    offsets = [note.offset_s for note in notes]
    sounding: defaultdict[int, list[int]] = defaultdict(list)
    is_down = False
    now = 0.0
    for now, kind, index in sorted(_list_moves(notes, pedal)):
        if kind == _PEDAL_DOWN:
            is_down = True
        elif kind == _PEDAL_UP:
            # If the pedal was up already, it sustains no note.
            if is_down:
                _release(notes, sounding, offsets, now)
            is_down = False
        elif kind == _NOTE_ON:
            struck = sounding[notes[index].pitch]
            if is_down:
                _end(struck, offsets, now)
                struck.clear()
            struck.append(index)
        elif not is_down and index in sounding[notes[index].pitch]:
            sounding[notes[index].pitch].remove(index)
    for held in sounding.values():
        _end(held, offsets, now)
    return list(_replace_offsets(notes, offsets))


def _list_moves(notes: Sequence[Note], pedal: Iterable[PedalMove]) -> Iterator[tuple[float, int, int]]:
    """Yield the time, the kind and, for notes, the index of everything that happens."""
    for move in pedal:
        yield move.time_s, _PEDAL_DOWN if move.is_down else _PEDAL_UP, 0
    for index, note in enumerate(notes):
        yield note.onset_s, _NOTE_ON, index
        yield note.offset_s, _NOTE_OFF, index


def _end(held: Iterable[int], offsets: list[float], now: float) -> None:
    for index in held:
        offsets[index] = now


def _release(notes: Sequence[Note], sounding: dict[int, list[int]], offsets: list[float], now: float) -> None:
    """End the notes that only the pedal sustains; notes whose keys are still pressed go on."""
    for held in sounding.values():
        # Most pitches are silent, so skip them for speed.
        if held:
            _end((index for index in held if notes[index].offset_s < now), offsets, now)
            held[:] = [index for index in held if notes[index].offset_s >= now]


def _replace_offsets(notes: Sequence[Note], offsets: Sequence[float]) -> Iterator[Note]:
    for note, offset_s in zip(notes, offsets, strict=True):
        if offset_s == note.offset_s:
            yield note
        # A note that is struck again at its own onset has no length and is dropped.
        elif offset_s > note.onset_s:
            yield Note(note.onset_s, offset_s, note.pitch, note.velocity)


def _split_instruments(track: Iterable[Any], clock: _Clock) -> Iterable[_Instrument]:
    """Return the instruments of a track in the order in which their first notes end."""
    instruments: dict[tuple[int, int], _Instrument] = {}
    early_pedal: defaultdict[int, list[PedalMove]] = defaultdict(list)
    for program, channel, each in _notes_and_pedal(track, clock):
        instrument = instruments.get((program, channel))
        if isinstance(each, PedalMove):
            # An instrument begins with its first note; earlier pedal moves on its channel apply to it too.
            (instrument.pedal if instrument else early_pedal[channel]).append(each)
            continue
        if not instrument:
            instrument = _Instrument(channel == DRUM_CHANNEL, early_pedal[channel].copy())
            instruments[program, channel] = instrument
        instrument.notes.append(each)
    return instruments.values()


def _notes_and_pedal(track: Iterable[Any], clock: _Clock) -> Iterator[tuple[int, int, Note | PedalMove]]:
    """Yield notes when they end, and pedal moves, each with its program and channel."""
    programs = [0] * 16
    pressed: dict[tuple[int, int], list[_Press]] = {}
    tick = 0
    for message in track:
        tick += message.time
        kind = message.type
        if kind == "note_on" and message.velocity:
            press = _Press(tick, message.velocity)
            pressed.setdefault((message.channel, message.note), []).append(press)
        elif kind in ("note_on", "note_off"):
            for press in _close(pressed, (message.channel, message.note), tick):
                onset_s, offset_s = clock.seconds(press.tick), clock.seconds(tick)
                note = Note(onset_s, offset_s, message.note, press.velocity)
                yield programs[message.channel], message.channel, note
        elif kind == "control_change" and message.control == SUSTAIN_CONTROLLER:
            move = PedalMove(clock.seconds(tick), message.value >= PEDAL_DOWN_FROM)
            yield programs[message.channel], message.channel, move
        elif kind == "program_change":
            programs[message.channel] = message.program


def _close(pressed: dict[tuple[int, int], list[_Press]], key: tuple[int, int], tick: int) -> list[_Press]:
    """Remove and return the presses of a key that end at this tick.

    Presses that began at this very tick stay if another one ends here, because the end then belongs to that
    one. Otherwise they are dropped.
    """
    presses = pressed.pop(key, [])
    closed = [press for press in presses if press.tick != tick]
    if closed and len(closed) < len(presses):
        pressed[key] = [press for press in presses if press.tick == tick]
    return closed


def _read_clock(track: Iterable[Any], ticks_per_quarter: int) -> _Clock:
    """Return the clock of a file, from the tempo messages of its first track."""
    segments = [_TempoSegment(0, 0.0, _tick_s(DEFAULT_TEMPO_US, ticks_per_quarter))]
    tick = 0
    for message in track:
        tick += message.time
        if message.type != "set_tempo":
            continue
        tick_s = _tick_s(message.tempo, ticks_per_quarter)
        # A segment that starts at the same tick as the previous one replaces it, also the default at tick 0.
        if tick_s != segments[-1].tick_s:
            segments.append(_TempoSegment(tick, segments[-1].seconds(tick), tick_s))
    return _Clock(segments, [segment.start_tick for segment in segments])


def _tick_s(tempo_us: int, ticks_per_quarter: int) -> float:
    """Return the seconds per tick, computed in the order of the benchmark, so that every bit agrees."""
    return 60.0 / ((6e7 / tempo_us) * ticks_per_quarter)


def _read(path: Path) -> Any:
    import mido

    # Everything that mido raises for bytes that are not a MIDI file.
    damage = (OSError, EOFError, ValueError, LookupError, mido.KeySignatureError)
    raw = path.read_bytes()
    try:
        file = mido.MidiFile(file=io.BytesIO(raw))
    except damage as error:
        raise _refused(path, f"{type(error).__name__}: {str(error) or 'unexpected end'}") from error
    if not file.tracks:
        raise _refused(path, "no tracks")
    if file.ticks_per_beat < 1:
        raise _refused(path, f"time division {file.ticks_per_beat} (negative for SMPTE frames)")
    if any(message.type == "set_tempo" and not message.tempo for message in file.tracks[0]):
        raise _refused(path, "a tempo of 0 microseconds per quarter note")
    return file


def _refused(path: Path, got: str) -> HearevalError:
    return HearevalError(
        f"MIDI file {path}",
        got=got,
        expected="readable tracks timed in ticks per quarter note",
        remedy="The file is damaged, or not a MIDI file: fetch the archive again.",
    )
