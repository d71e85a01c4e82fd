"""Small corpora in the originals' layout, the very ones that the golden outputs were made from.

Sounds are two integer triangle waves and a little noise, drawn from the member's name; the goldens'
MD5s of samples hold only while every number in here stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.stand_ins.archives import VOLUMES, pack, split_zip
from tests.stand_ins.gunshots import gunshot_recordings, gunshot_triangulation
from tests.stand_ins.music import (
    beijing_opera,
    gtzan,
    gtzan_music_speech,
    maestro,
    mridangam,
    nsynth_pitch,
    timbre_similarity,
)
from tests.stand_ins.scenes import beehive, dcase2016_task2, esc50, fsd50k
from tests.stand_ins.sounds import sound
from tests.stand_ins.speech import (
    coughvid,
    crema_d,
    libricount,
    speech_commands,
    spoken_digit,
    vocal_imitation,
    vox_lingua_top10,
)
from tests.stand_ins.trees import Tree, md5sums, write_tree

__all__ = ["CORPORA", "VOLUMES", "Tree", "corpus_of", "gunshot_recordings", "md5sums", "pack", "sound"]
__all__ += ["split_zip", "write_tree"]

# The members of every archive by the archive's name. One that is no archive's is that of a plain file, its
# tree's one member, or of a folder of files. `gunshot_recordings` writes those that are too large for this.
CORPORA: dict[str, Callable[[], dict[str, Tree]]] = {
    corpus.__name__: corpus
    for corpus in (
        *(speech_commands, nsynth_pitch, dcase2016_task2, spoken_digit, beehive, beijing_opera, crema_d),
        *(gtzan, gtzan_music_speech, esc50, fsd50k, gunshot_triangulation, libricount, maestro, mridangam),
        *(vocal_imitation, vox_lingua_top10, coughvid, timbre_similarity),
    )
}


def corpus_of(task: str) -> str:
    """The corpus that a task is made from.

    >>> corpus_of("mridangam_tonic"), corpus_of("tfds_gtzan_music_speech")
    ('mridangam', 'gtzan_music_speech')
    """
    names = [name for name in CORPORA if task.removeprefix("tfds_").startswith(name)]
    if not names:
        raise LookupError(f"{task} has no stand-in corpus: add one to tests/stand_ins")
    return max(names, key=len)
