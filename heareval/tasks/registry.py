"""Find tasks by name: every module of `corpora` declares a TASK or TASKS, and users bring TOML files."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from heareval.errors import HearevalError, unknown_name
from heareval.formats.domains import SHORT_NAMES, find_domain
from heareval.spec import Mode, TaskSpec
from heareval.tasks import corpora

OWN_TASK_SUFFIX = ".toml"


def _is_of_benchmark(task: TaskSpec, domain: str) -> bool:
    return not task.is_pairwise and find_domain(task.name) == domain


# Name of a group -> the function that says whether a task belongs to it. All but the last two are the
# benchmark as it was published, so `all` stays what published scores are compared with. Each of its tasks is
# in one of the three domains.
GROUPS: Mapping[str, Callable[[TaskSpec], bool]] = {
    "open": lambda task: task.is_open,
    "all": lambda task: not task.is_pairwise,
    **{name: functools.partial(_is_of_benchmark, domain=domain) for domain, name in SHORT_NAMES.items()},
    "pairwise": lambda task: task.is_pairwise,
    "everything": lambda task: True,
}


@functools.cache
def all_tasks() -> Mapping[str, TaskSpec]:
    """Return every task of the benchmark by its name, sorted."""
    tasks: list[TaskSpec] = []
    for module_info in pkgutil.iter_modules(corpora.__path__):
        module = importlib.import_module(f"{corpora.__name__}.{module_info.name}")
        declared = getattr(module, "TASKS", None) or [getattr(module, "TASK", None)]
        if None in declared:
            raise HearevalError(
                f"{module.__name__}: task",
                got="no TASK and no TASKS",
                expected="a module of heareval.tasks.corpora to declare one",
                remedy="Code that corpora share belongs in heareval.tasks.",
            )
        tasks += declared
    return {task.name: task for task in sorted(tasks, key=lambda task: task.name)}


def find_task(name: str) -> TaskSpec:
    """Return the task of a name or TOML file.

    >>> find_task("esc50").folder("full")
    'esc50-v2.0.0-full'

    Raises:
        HearevalError: no task has that name; the error suggests the nearest ones.
    """
    if name.endswith(OWN_TASK_SUFFIX):
        return _load_own_task(Path(name).absolute())
    if name not in all_tasks():
        own_file = name + OWN_TASK_SUFFIX
        known = [*all_tasks(), *GROUPS, *([own_file] if Path(own_file).exists() else [])]
        raise unknown_name("task", name, known)
    return all_tasks()[name]


def address(task: TaskSpec) -> str:
    """Return what `find_task` resolves in any process and folder: the task's name or its TOML file."""
    from heareval.tasks.own.task import get_sounds

    sounds = get_sounds(task)
    return str(sounds.file) if sounds else task.name


# A run asks for a task many times, and must plan and work with the same one throughout. It forgets those of
# earlier runs of the process when it begins.
@functools.cache
def _load_own_task(file: Path) -> TaskSpec:
    from heareval.tasks.own.task import load_task

    task = load_task(file)
    check_name_is_free(task.name)
    return task


def forget_own_tasks() -> None:
    """Forget the tasks that were read from TOML files, which may have changed since."""
    _load_own_task.cache_clear()


def check_name_is_free(name: str) -> None:
    """Raise HearevalError if a task of the benchmark already has the name of a user's task."""
    if name in all_tasks():
        raise HearevalError("task name", got=name, expected="a name that no task of the benchmark has")


def find_mode(task: TaskSpec, name: str) -> Mode:
    """Return a mode of a task by its name; raise HearevalError if the task has no such mode."""
    if name not in task.modes:
        raise unknown_name(f"mode of {task.name}", name, [*task.modes, "all"])
    return task.modes[name]


def select(names: tuple[str, ...], mode: str | None) -> list[tuple[TaskSpec, str]]:
    """Return the tasks and mode names that a command line selects, without repetitions.

    >>> [(task.name, mode) for task, mode in select(("open",), None)][:2]
    [('dcase2016_task2', 'full'), ('nsynth_pitch', '5h')]

    Args:
        names: task names, TOML files, or groups of tasks, of which those that have the mode are selected:
            `open`, `all`, `speech`, `environment` and `music` as published, `pairwise`, or `everything`.
        mode: a mode's name, `all` for every published mode, None for each task's default.

    Raises:
        HearevalError: a name is unknown, two tasks share a name, or nothing is selected.
    """
    tasks: dict[str, TaskSpec] = {}
    for name in names:
        selected = _select_group(name, mode) if name in GROUPS else _by_name([find_task(name)])
        _check_names_differ(tasks, selected)
        tasks |= selected
    if not tasks:
        raise HearevalError(
            "tasks", got="none", expected=f"at least one of {', '.join([*all_tasks(), *GROUPS])}"
        )
    return [(task, chosen) for task in tasks.values() for chosen in _select_modes(task, mode)]


def _by_name(tasks: Iterable[TaskSpec]) -> dict[str, TaskSpec]:
    return {task.name: task for task in tasks}


def _check_names_differ(tasks: Mapping[str, TaskSpec], others: Mapping[str, TaskSpec]) -> None:
    # Two tasks of one name would share their folders.
    for name in tasks.keys() & others.keys():
        one, other = address(tasks[name]), address(others[name])
        if one != other:
            raise HearevalError(f"tasks named {name}", got=f"{one} and {other}", expected="different names")


def _select_group(name: str, mode: str | None) -> dict[str, TaskSpec]:
    group = [task for task in all_tasks().values() if GROUPS[name](task)]
    selected = [task for task in group if mode in (None, "all") or mode in task.modes]
    if not selected:
        raise unknown_name("mode", str(mode), {m for task in group for m in task.modes})
    return _by_name(selected)


def _select_modes(task: TaskSpec, mode: str | None) -> list[str]:
    from heareval.tasks.own.task import get_sounds

    if get_sounds(task):
        return [task.default_mode]  # a user's task has only this mode
    if mode == "all":
        return [name for name, m in task.modes.items() if m.published]
    selected = mode or task.default_mode
    find_mode(task, selected)
    return [selected]
