"""The domain of each task, as the published leaderboard groups its columns."""

from __future__ import annotations

from collections.abc import Mapping

SPEECH, ENVIRONMENT, MUSIC = "speech", "environmental sound", "music"
# Domain -> what users type for its tasks.
SHORT_NAMES: Mapping[str, str] = {SPEECH: "speech", ENVIRONMENT: "environment", MUSIC: "music"}
DOMAINS: Mapping[str, str] = {
    "beehive_states_fold0": ENVIRONMENT,
    "beehive_states_fold1": ENVIRONMENT,
    "beijing_opera": MUSIC,
    "coughvid": SPEECH,
    "dcase2016_task2": ENVIRONMENT,
    "esc50": ENVIRONMENT,
    "esc50_retrieval": ENVIRONMENT,
    "fsd50k": ENVIRONMENT,
    "gunshot_triangulation": ENVIRONMENT,
    "libricount": SPEECH,
    "maestro": MUSIC,
    "mridangam_stroke": MUSIC,
    "mridangam_stroke_retrieval": MUSIC,
    "mridangam_tonic": MUSIC,
    "nsynth_pitch": MUSIC,
    "nsynth_pitch_kfold": MUSIC,
    "nsynth_pitch_retrieval": MUSIC,
    "speech_commands": SPEECH,
    "spoken_digit": SPEECH,
    "spoken_digit_abx": SPEECH,
    "tfds_crema_d": SPEECH,
    "tfds_crema_d_same_emotion": SPEECH,
    "tfds_crema_d_same_speaker": SPEECH,
    "tfds_gtzan": MUSIC,
    "tfds_gtzan_music_speech": MUSIC,
    "timbre_similarity": MUSIC,
    "vocal_imitation": SPEECH,
    "vocal_imitation_retrieval": SPEECH,
    "vocal_imitation_retrieval_fine": SPEECH,
    "vox_lingua_top10": SPEECH,
}


def find_domain(task: str) -> str:
    """Return the domain of a task by its name; "" for a task that is not heareval's.

    >>> find_domain("esc50"), find_domain("my_sounds")
    ('environmental sound', '')
    """
    return DOMAINS.get(task, "")
