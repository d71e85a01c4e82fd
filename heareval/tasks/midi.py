"""Notes of a MIDI file, as written and as they sound with the sustain pedal applied.

A library reads the raw messages; what they mean is decided here by the rules of the published benchmark.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mido

from heareval.errors import HearevalError

DEFAULT_TEMPO_US = 500_000  # microseconds a quarter note, 120 beats a minute
DRUM_CHANNEL = 9
SUSTAIN_CONTROLLER = 64
PEDAL_DOWN_FROM = 64

# What happens first when several things happen at one time.
_PEDAL_DOWN, _PEDAL_UP, _NOTE_ON, _NOTE_OFF = range(4)
# All that the reader may raise over bytes that are no MIDI file: it checks as it goes.
_DAMAGE = (OSError, EOFError, ValueError, LookupError, mido.KeySignatureError)


@dataclass(frozen=True)
class Note:
    """A note of the performance; times in seconds from its beginning, pitch and velocity as MIDI numbers."""

    onset_s: float
    offset_s: float
    pitch: int
    velocity: int


@dataclass(frozen=True)
class PedalMove:
    """The sustain pedal, found down or up at a time in seconds."""

    time_s: float
    is_down: bool


@dataclass(frozen=True)
class Performance:
    """What a MIDI file holds.

    Args:
        notes: as written, instrument by instrument, in the order in which they close.
        sustained: the same with the pedal applied; some notes may have vanished.
    """

    notes: tuple[Note, ...]
    sustained: tuple[Note, ...]


@dataclass(frozen=True)
class _Press:
    """A key that is down."""

    tick: int
    velocity: int


@dataclass(frozen=True)
class _Instrument:
    """One program on one channel of one track."""

    is_drum: bool
    pedal: list[PedalMove]
    notes: list[Note] = field(default_factory=list)


@dataclass(frozen=True)
class _TempoSegment:
    """A stretch of one tempo."""

    start_tick: int
    start_s: float
    tick_s: float

    def seconds(self, tick: int) -> float:
        """Seconds from the beginning of the file at a tick of this stretch."""
        return self.start_s + self.tick_s * (tick - self.start_tick)


@dataclass(frozen=True)
class _Clock:
    """The stretches of a file in their order, with the ticks at which they start."""

    segments: list[_TempoSegment]
    start_ticks: list[int]

    def seconds(self, tick: int) -> float:
        """Seconds from the beginning of the file at any tick."""
        return self.segments[bisect_right(self.start_ticks, tick) - 1].seconds(tick)


def read_notes(path: Path) -> Performance:
    """The notes of a MIDI file, of all instruments and pitches.

    Raises:
        HearevalError: it is damaged, or counts its time in SMPTE frames.
    """
    file = _read(path)
    clock = _clock(file.tracks[0], file.ticks_per_beat)
    instruments = [each for track in file.tracks for each in _instruments(track, clock)]
    notes = (note for each in instruments for note in each.notes)
    sustained = (
        note
        for each in instruments
        for note in (each.notes if each.is_drum else apply_pedal(each.notes, each.pedal))
    )
    return Performance(tuple(notes), tuple(sustained))


def apply_pedal(notes: Sequence[Note], pedal: Iterable[PedalMove]) -> list[Note]:
    """The notes of one instrument as they sound with its sustain pedal.

    Args:
        notes: each longer than nothing.
        pedal: in any order; at one time, down comes before up.
    """
    offsets = [note.offset_s for note in notes]
    sounding: defaultdict[int, list[int]] = defaultdict(list)
    is_down = False
    now = 0.0
    for now, kind, index in sorted(_timeline(notes, pedal)):
        if kind == _PEDAL_DOWN:
            is_down = True
        elif kind == _PEDAL_UP:
            # Where the pedal was up already, no note sounds beyond its own end.
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
    return list(_with_offsets(notes, offsets))


def _timeline(notes: Sequence[Note], pedal: Iterable[PedalMove]) -> Iterator[tuple[float, int, int]]:
    """Time, kind and, for notes, the note's index."""
    for move in pedal:
        yield move.time_s, _PEDAL_DOWN if move.is_down else _PEDAL_UP, 0
    for index, note in enumerate(notes):
        yield note.onset_s, _NOTE_ON, index
        yield note.offset_s, _NOTE_OFF, index


def _end(held: Iterable[int], offsets: list[float], now: float) -> None:
    for index in held:
        offsets[index] = now


def _release(notes: Sequence[Note], sounding: dict[int, list[int]], offsets: list[float], now: float) -> None:
    """End what only the pedal held; keys that are still pressed sound on."""
    for held in sounding.values():
        # Most of the pitches seen so far are silent.
        if held:
            _end((index for index in held if notes[index].offset_s < now), offsets, now)
            held[:] = [index for index in held if notes[index].offset_s >= now]


def _with_offsets(notes: Sequence[Note], offsets: Sequence[float]) -> Iterator[Note]:
    for note, offset_s in zip(notes, offsets, strict=True):
        if offset_s == note.offset_s:
            yield note
        # A note that was struck again at its very onset is no note.
        elif offset_s > note.onset_s:
            yield Note(note.onset_s, offset_s, note.pitch, note.velocity)


def _instruments(track: Iterable[Any], clock: _Clock) -> Iterable[_Instrument]:
    """The instruments of a track in the order in which their first notes close."""
    instruments: dict[tuple[int, int], _Instrument] = {}
    early_pedal: defaultdict[int, list[PedalMove]] = defaultdict(list)
    for program, channel, each in _notes_and_pedal(track, clock):
        instrument = instruments.get((program, channel))
        if isinstance(each, PedalMove):
            # An instrument exists from its first note on; what its channel did before counts for it too.
            (instrument.pedal if instrument else early_pedal[channel]).append(each)
            continue
        if not instrument:
            instrument = _Instrument(channel == DRUM_CHANNEL, early_pedal[channel].copy())
            instruments[program, channel] = instrument
        instrument.notes.append(each)
    return instruments.values()


def _notes_and_pedal(track: Iterable[Any], clock: _Clock) -> Iterator[tuple[int, int, Note | PedalMove]]:
    """Notes where they close and moves of the pedal, each with its program and channel."""
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
    """Take out the presses that end at this tick.

    Those that began at it stay if another ends, as then the end is not theirs; alone they are forgotten.
    """
    presses = pressed.pop(key, [])
    closed = [press for press in presses if press.tick != tick]
    if closed and len(closed) < len(presses):
        pressed[key] = [press for press in presses if press.tick == tick]
    return closed


def _clock(track: Iterable[Any], ticks_per_quarter: int) -> _Clock:
    """The clock of a file, by the tempo of its first track."""
    segments = [_TempoSegment(0, 0.0, _tick_s(DEFAULT_TEMPO_US, ticks_per_quarter))]
    tick = 0
    for message in track:
        tick += message.time
        if message.type != "set_tempo":
            continue
        tick_s = _tick_s(message.tempo, ticks_per_quarter)
        # A segment that starts where the last one does hides it, also the default one at tick 0.
        if tick_s != segments[-1].tick_s:
            segments.append(_TempoSegment(tick, segments[-1].seconds(tick), tick_s))
    return _Clock(segments, [segment.start_tick for segment in segments])


def _tick_s(tempo_us: int, ticks_per_quarter: int) -> float:
    """Seconds a tick; in the order of the benchmark's own arithmetic, to the last bit."""
    return 60.0 / ((6e7 / tempo_us) * ticks_per_quarter)


def _read(path: Path) -> Any:
    raw = path.read_bytes()
    try:
        file = mido.MidiFile(file=io.BytesIO(raw))
    except _DAMAGE as error:
        raise _refused(path, f"{type(error).__name__}: {str(error) or 'an early end'}") from error
    if not file.tracks:
        raise _refused(path, "no tracks")
    if file.ticks_per_beat < 1:
        raise _refused(path, f"time division {file.ticks_per_beat} (SMPTE frames are negative)")
    if any(message.type == "set_tempo" and not message.tempo for message in file.tracks[0]):
        raise _refused(path, "a tempo of 0 microseconds a quarter note")
    return file


def _refused(path: Path, got: str) -> HearevalError:
    return HearevalError(
        f"MIDI file {path}",
        got=got,
        expected="readable tracks timed in ticks a quarter note",
        remedy="The file is damaged or of another kind: fetch the archive again.",
    )
