"""Notes of MIDI files: a hand-made case for every rule, and a slow plain reference for the pedal."""

from __future__ import annotations

import random
import struct
from collections import Counter
from pathlib import Path

import mido
import pytest

from heareval.errors import HearevalError
from heareval.tasks import midi
from heareval.tasks.midi import Note, PedalMove

MS_TICKS = 500  # ticks per quarter note that make a tick a millisecond at the default 120 bpm

Track = list[tuple[int, "mido.Message | mido.MetaMessage"]]
Heard = list[tuple[int, int, int]]  # onset ms, offset ms, pitch


def on(pitch: int, velocity: int = 80, channel: int = 0) -> mido.Message:
    return mido.Message("note_on", note=pitch, velocity=velocity, channel=channel)


def off(pitch: int, channel: int = 0) -> mido.Message:
    return mido.Message("note_off", note=pitch, channel=channel)


def pedal(value: int, channel: int = 0, control: int = 64) -> mido.Message:
    return mido.Message("control_change", control=control, value=value, channel=channel)


def program(number: int, channel: int = 0) -> mido.Message:
    return mido.Message("program_change", program=number, channel=channel)


def tempo(us: int) -> mido.MetaMessage:
    return mido.MetaMessage("set_tempo", tempo=us)


def write(path: Path, *tracks: Track, ticks: int = MS_TICKS) -> Path:
    """A MIDI file of tracks whose messages come with absolute ticks."""
    file = mido.MidiFile(ticks_per_beat=ticks)
    for track in tracks:
        file.add_track()
        now = 0
        for tick, message in track:
            file.tracks[-1].append(message.copy(time=tick - now))
            now = tick
    file.save(path)
    return path


def in_ms(notes: tuple[Note, ...]) -> Heard:
    return [(round(n.onset_s * 1000), round(n.offset_s * 1000), n.pitch) for n in notes]


def times(tmp_path: Path, *tempos: tuple[int, int], notes: Track, ticks: int = MS_TICKS) -> list[float]:
    """Onset and offset in seconds of all notes of a track, under tempo events in the track before it."""
    read = midi.read_notes(
        write(tmp_path / "a.mid", [(t, tempo(us)) for t, us in tempos], notes, ticks=ticks)
    )
    return [second for note in read.notes for second in (note.onset_s, note.offset_s)]


NOTE: Track = [(96, on(60)), (1000, off(60))]


def test_without_a_tempo_it_is_120_bpm(tmp_path: Path) -> None:
    scale = 60.0 / (120.0 * 384)
    assert times(tmp_path, notes=NOTE, ticks=384) == [scale * 96, scale * 1000]


def test_a_tempo_at_the_beginning_counts_from_it(tmp_path: Path) -> None:
    scale = 60.0 / ((6e7 / 417_391) * 384)
    assert times(tmp_path, (0, 417_391), notes=NOTE, ticks=384) == [scale * 96, scale * 1000]
    assert times(tmp_path, (0, 9_999), (0, 417_391), notes=NOTE, ticks=384) == [scale * 96, scale * 1000]


def test_later_tempos_start_segments(tmp_path: Path) -> None:
    first, second = (60.0 / ((6e7 / us) * 384) for us in (417_391, 700_001))
    got = times(
        tmp_path, (0, 417_391), (300, 700_001), notes=[*NOTE, (1100, on(61)), (1200, off(61))], ticks=384
    )
    start = first * 300
    assert got == [first * 96, *(start + second * (tick - 300) for tick in (1000, 1100, 1200))]
    at_the_change = times(tmp_path, (300, 700_001), notes=[(200, on(60)), (300, off(60))])
    assert at_the_change == [0.2, 60.0 / (120.0 * MS_TICKS) * 300]
    at_the_start = times(tmp_path, (300, 700_001), notes=[(0, on(60)), (100, off(60))])
    assert at_the_start == [0.0, 60.0 / (120.0 * MS_TICKS) * 100]


def test_of_two_tempos_at_one_later_tick_the_last_counts(tmp_path: Path) -> None:
    got = times(tmp_path, (500, 100_000), (500, 1_000_000), notes=[(500, on(60)), (600, off(60))])
    assert got == pytest.approx([0.5, 0.7])


def test_a_tempo_that_changes_nothing_starts_no_segment(tmp_path: Path) -> None:
    """To the last bit: a segment more would round once more."""
    scale = 60.0 / ((6e7 / 417_391) * 384)
    assert scale * 6 + scale * (1000 - 6) != scale * 1000
    assert times(tmp_path, (0, 417_391), (6, 417_391), notes=NOTE, ticks=384)[1] == scale * 1000


def test_tempos_of_other_tracks_do_not_count(tmp_path: Path) -> None:
    assert times(tmp_path, notes=[(0, tempo(100)), (50, tempo(200)), *NOTE]) == pytest.approx([0.096, 1.0])


# Messages of one track -> onset ms, offset ms and pitch of its notes, in their order.
PAIRINGS: dict[str, tuple[Track, Heard]] = {
    "note-off closes": ([(1, on(60)), (5, off(60))], [(1, 5, 60)]),
    "so does note-on of no velocity": ([(1, on(60)), (5, on(60, 0))], [(1, 5, 60)]),
    "all that are open are closed": (
        [(1, on(60)), (3, on(60)), (5, off(60)), (9, off(60))],
        [(1, 5, 60), (3, 5, 60)],
    ),
    "only of this pitch": ([(1, on(60)), (2, on(61)), (5, off(60)), (7, off(61))], [(1, 5, 60), (2, 7, 61)]),
    "only of this channel": (
        [(1, on(60)), (2, on(60, channel=1)), (5, off(60)), (7, off(60, channel=1))],
        [(1, 5, 60), (2, 7, 60)],
    ),
    "what starts where another ends stays open": (
        [(1, on(60)), (5, on(60)), (5, off(60)), (9, off(60))],
        [(1, 5, 60), (5, 9, 60)],
    ),
    "several of them too": (
        [(1, on(60)), (5, on(60)), (5, on(60)), (5, off(60)), (9, off(60))],
        [(1, 5, 60), (5, 9, 60), (5, 9, 60)],
    ),
    "what starts here is forgotten if no other ends": (
        [(5, on(60)), (5, off(60)), (9, off(60)), (10, on(60)), (12, off(60))],
        [(10, 12, 60)],
    ),
    "forgotten at the second end of one tick": (
        [(1, on(60)), (5, on(60)), (5, off(60)), (5, off(60)), (9, off(60))],
        [(1, 5, 60)],
    ),
    "ends of nothing are ignored": (
        [(1, off(60)), (2, on(60, 0)), (3, on(60)), (4, off(60)), (5, off(60))],
        [(3, 4, 60)],
    ),
    "what never closes is lost": ([(1, on(60)), (2, on(61)), (3, off(61))], [(2, 3, 61)]),
    "order is that of closing": (
        [(1, on(60)), (2, on(61)), (3, on(62)), (5, off(62)), (6, off(60)), (6, off(61))],
        [(3, 5, 62), (1, 6, 60), (2, 6, 61)],
    ),
    "instruments in the order of their first closed note": (
        [(1, on(60)), (2, on(61, channel=1)), (3, off(61, 1)), (4, off(60)), (5, on(62, channel=1)),
         (6, off(62, 1))],
        [(2, 3, 61), (5, 6, 62), (1, 4, 60)],
    ),
    "another program on a channel is another instrument": (
        [(1, on(60)), (2, off(60)), (3, program(7)), (4, on(61)), (5, off(61)), (6, program(0)),
         (7, on(62)), (8, off(62))],
        [(1, 2, 60), (7, 8, 62), (4, 5, 61)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRINGS)
def test_notes_of_messages(tmp_path: Path, name: str) -> None:
    track, expected = PAIRINGS[name]
    read = midi.read_notes(write(tmp_path / "a.mid", track))
    assert in_ms(read.notes) == in_ms(read.sustained) == expected


def test_tracks_keep_their_notes_apart(tmp_path: Path) -> None:
    one: Track = [(1, on(60)), (9, off(60))]
    other: Track = [(3, off(60)), (4, on(60)), (5, off(60))]
    assert in_ms(midi.read_notes(write(tmp_path / "a.mid", one, other)).notes) == [(1, 9, 60), (4, 5, 60)]


def test_velocities_are_kept(tmp_path: Path) -> None:
    track: Track = [
        (0, pedal(127)),
        (1, on(60, 5)),
        (2, off(60)),
        (3, on(60, 127)),
        (4, off(60)),
        (9, pedal(0)),
    ]
    read = midi.read_notes(write(tmp_path / "a.mid", track))
    assert [note.velocity for note in read.notes] == [note.velocity for note in read.sustained] == [5, 127]


# Messages of one track -> its notes with the pedal.
PEDALLED: dict[str, tuple[Track, Heard]] = {
    "down from 64": ([(0, pedal(64)), (1, on(60)), (2, off(60)), (9, pedal(63))], [(1, 9, 60)]),
    "up at 63": ([(0, pedal(63)), (1, on(60)), (2, off(60)), (9, pedal(0))], [(1, 2, 60)]),
    "other controllers are no pedal": (
        [(0, pedal(127, control=66)), (1, on(60)), (2, off(60)), (9, pedal(0, control=66))],
        [(1, 2, 60)],
    ),
    "counts before the first note closes": (
        [(1, on(60)), (2, pedal(127)), (3, off(60)), (9, pedal(0))],
        [(1, 9, 60)],
    ),
    "kept for every instrument of its channel": (
        [(0, pedal(127)), (1, on(60)), (2, off(60)), (3, program(7)), (4, on(61)), (5, off(61)),
         (9, pedal(0))],
        [(1, 2, 60), (4, 9, 61)],
    ),
    "else it belongs to the instrument of its place": (
        [(0, on(60)), (1, off(60)), (2, pedal(127)), (3, on(60)), (4, off(60)), (5, program(7)),
         (5, on(61)), (6, off(61)), (7, pedal(0)), (8, program(0)), (9, pedal(0))],
        [(0, 1, 60), (3, 9, 60), (5, 6, 61)],
    ),
    "a program of another channel changes nothing": (
        [(0, on(60)), (1, off(60)), (2, pedal(127)), (3, program(7, 1)), (4, on(61)), (5, off(61)),
         (9, pedal(0))],
        [(0, 1, 60), (4, 9, 61)],
    ),
    "not to another channel": (
        [(0, pedal(127, channel=1)), (1, on(60)), (2, off(60)), (3, on(61, channel=1)), (4, off(61, 1)),
         (9, pedal(0, channel=1))],
        [(1, 2, 60), (3, 9, 61)],
    ),
    "drums have none but stay": (
        [(0, pedal(127, channel=9)), (1, on(60, channel=9)), (2, off(60, 9)), (9, pedal(0, 9))],
        [(1, 2, 60)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PEDALLED)
def test_whose_pedal_it_is(tmp_path: Path, name: str) -> None:
    track, expected = PEDALLED[name]
    assert in_ms(midi.read_notes(write(tmp_path / "a.mid", track)).sustained) == expected


def test_the_pedal_of_another_track_does_not_count(tmp_path: Path) -> None:
    one: Track = [(0, pedal(127)), (9, pedal(0))]
    other: Track = [(1, on(60)), (2, off(60))]
    assert in_ms(midi.read_notes(write(tmp_path / "a.mid", one, other)).sustained) == [(1, 2, 60)]


DOWN, UP = True, False
# Onset, offset and pitch of notes, moves of the pedal -> what sounds.
PEDAL_RULES = {
    "held until the pedal goes up": ([(1, 2, 60)], [(0, DOWN), (9, UP)], [(1, 9, 60)]),
    "pressed keys sound on": ([(1, 12, 60)], [(0, DOWN), (9, UP)], [(1, 12, 60)]),
    "a key let go as the pedal goes up": (
        [(1, 9, 60), (2, 20, 61)], [(0, DOWN), (9, UP)], [(1, 9, 60), (2, 20, 61)],
    ),
    "nor at a pedal put down just after": (
        [(1, 9, 60), (2, 20, 61)], [(0, DOWN), (9, UP), (10, DOWN), (15, UP)], [(1, 9, 60), (2, 20, 61)],
    ),
    "down and up at one time is up": ([(1, 5, 60)], [(5, UP), (5, DOWN), (9, UP)], [(1, 5, 60)]),
    "down as the key is let go holds it": ([(1, 5, 60)], [(5, DOWN), (9, UP)], [(1, 9, 60)]),
    "down after the key is too late": ([(1, 5, 60)], [(6, DOWN), (9, UP)], [(1, 5, 60)]),
    "down while it is down": ([(1, 2, 60)], [(0, DOWN), (5, DOWN), (9, UP)], [(1, 9, 60)]),
    "up ends at the first": ([(1, 2, 60)], [(0, DOWN), (5, UP), (9, UP)], [(1, 5, 60)]),
    "struck again": ([(1, 2, 60), (5, 6, 60)], [(0, DOWN), (9, UP)], [(1, 5, 60), (5, 9, 60)]),
    "another pitch leaves it": ([(1, 2, 60), (5, 6, 61)], [(0, DOWN), (9, UP)], [(1, 9, 60), (5, 9, 61)]),
    "struck again before its own end": (
        [(1, 8, 60), (5, 6, 60)], [(0, DOWN), (9, UP)], [(1, 5, 60), (5, 9, 60)],
    ),
    "cut although it outlasts the pedal": (
        [(1, 20, 60), (5, 6, 60)], [(0, DOWN), (9, UP)], [(1, 5, 60), (5, 9, 60)],
    ),
    "struck with the pedal up nothing is cut": (
        [(1, 8, 60), (5, 6, 60)], [(0, UP)], [(1, 8, 60), (5, 6, 60)],
    ),
    "struck twice at one time": ([(1, 4, 60), (1, 5, 60)], [(0, DOWN), (9, UP)], [(1, 9, 60)]),
    "struck twice with the pedal up": (
        [(1, 4, 60), (1, 5, 60)], [(2, DOWN), (9, UP)], [(1, 9, 60), (1, 9, 60)],
    ),
    "struck as another ends": ([(1, 5, 60), (5, 7, 60)], [(0, DOWN), (9, UP)], [(1, 5, 60), (5, 9, 60)]),
    "up as it is struck comes first": (
        [(1, 2, 60), (5, 6, 60)], [(0, DOWN), (5, UP)], [(1, 5, 60), (5, 6, 60)],
    ),
    "down as it is struck comes first": (
        [(1, 8, 60), (5, 6, 60)], [(5, DOWN), (9, UP)], [(1, 5, 60), (5, 9, 60)],
    ),
    "the last thing is a note": ([(1, 2, 60), (3, 7, 61)], [(0, DOWN)], [(1, 7, 60), (3, 7, 61)]),
    "the last thing is the pedal": ([(1, 2, 60)], [(0, DOWN), (8, DOWN)], [(1, 8, 60)]),
    "the old end of a cut note is the last": (
        [(1, 20, 60), (5, 6, 60)], [(0, DOWN)], [(1, 5, 60), (5, 20, 60)],
    ),
    "no pedal": ([(1, 2, 60)], [], [(1, 2, 60)]),
    "no notes": ([], [(0, DOWN), (9, UP)], []),
    "nothing": ([], [], []),
}  # fmt: skip


@pytest.mark.parametrize("name", PEDAL_RULES)
def test_rules_of_the_pedal(name: str) -> None:
    keys, moves, expected = PEDAL_RULES[name]
    notes = [Note(onset, offset, pitch, 80) for onset, offset, pitch in keys]
    sustained = midi.apply_pedal(notes, [PedalMove(*move) for move in moves])
    assert [(n.onset_s, n.offset_s, n.pitch) for n in sustained] == expected
    assert judged(notes, [PedalMove(*move) for move in moves]) == Counter(sustained)


def judged(notes: list[Note], moves: list[PedalMove]) -> Counter[Note]:
    """The rules word by word: one list of what sounds, compared by value."""
    played = [[n.onset_s, n.offset_s, n.pitch, n.velocity] for n in notes]
    events = [(m.time_s, 0 if m.is_down else 1, []) for m in moves]
    events += [(n[0], 2, n) for n in played] + [(n[1], 3, n) for n in played]
    sounding: list[list[float]] = []
    is_down, now = False, 0.0
    for now, kind, note in sorted(events, key=lambda event: event[:2]):
        if kind == 0:
            is_down = True
        elif kind == 1:
            is_down = False
            for each in list(sounding):
                if each[1] < now:
                    sounding.remove(each)
                    each[1] = now
        elif kind == 2:
            for each in list(sounding) if is_down else []:
                if each[2] == note[2]:
                    sounding.remove(each)
                    each[1] = now
                    if each[0] == now:
                        played.remove(each)
            sounding.append(note)
        elif not is_down and note in sounding:
            sounding.remove(note)
    for each in sounding:
        each[1] = now
    return Counter(Note(each[0], each[1], int(each[2]), int(each[3])) for each in played)


def drawn(draw: random.Random) -> tuple[list[Note], list[PedalMove]]:
    """A performance on so few times and pitches that much falls together."""
    span = draw.choice([6, 12, 40])
    onsets = [draw.randrange(span) / 4 for _ in range(draw.randrange(25))]
    moves = [draw.randrange(2 * span) / 4 for _ in range(draw.randrange(15))]
    return [
        Note(onset, onset + draw.randrange(1, span) / 4, draw.randrange(60, 63), draw.randrange(80, 82))
        for onset in onsets
    ], [PedalMove(move, draw.random() < 0.5) for move in moves]


def test_the_pedal_agrees_with_a_plain_judge() -> None:
    draw = random.Random(0)
    changed = vanished = 0
    for _ in range(400):
        notes, moves = drawn(draw)
        sustained = midi.apply_pedal(notes, moves)
        assert Counter(sustained) == judged(notes, moves)
        changed += bool(set(sustained) - set(notes))
        vanished += len(sustained) < len(notes)
    assert min(changed, vanished) > 100


HEADER = b"MThd" + struct.pack(">Lhh", 6, 1, 1)
DAMAGED = {
    "empty": (b"", "EOFError: unexpected end"),
    "another kind": (b"RIFF\0\0\0\1WAVE" + bytes(9), "MThd not found"),
    "cut short": (HEADER + b"\1\x80MTrk\0\0\0\x09\0\x90\x3c", "EOFError: unexpected end"),
    "no track": (b"MThd" + struct.pack(">Lhhh", 6, 1, 0, 480), "no tracks"),
    "data out of range": (HEADER + b"\1\x80MTrk\0\0\0\4\0\x90\x3c\xff", "data byte"),
    "unknown status": (HEADER + b"\1\x80MTrk\0\0\0\4\0\xf5\0\0", "undefined status byte"),
    "unknown key": (HEADER + b"\1\x80MTrk\0\0\0\6\0\xff\x59\2\x50\0", "KeySignatureError"),
    "system data out of range": (HEADER + b"\1\x80MTrk\0\0\0\4\0\xf0\1\x80", "ValueError: data byte"),
    "short tempo": (HEADER + b"\1\x80MTrk\0\0\0\4\0\xff\x51\0", "IndexError"),
    "no tempo": (HEADER + b"\1\x80MTrk\0\0\0\7\0\xff\x51\3\0\0\0", "a tempo of 0"),
    "no division": (HEADER + b"\0\0MTrk\0\0\0\0", "time division 0"),
    "25 SMPTE frames, 40 ticks each": (HEADER + b"\xe7\x28MTrk\0\0\0\0", "time division -6360 .negative"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_what_is_refused(tmp_path: Path, name: str) -> None:
    raw, complaint = DAMAGED[name]
    (tmp_path / "a.mid").write_bytes(raw)
    with pytest.raises(HearevalError, match=rf"^MIDI file .*a\.mid: got .*{complaint}.*, expected .*$"):
        midi.read_notes(tmp_path / "a.mid")
