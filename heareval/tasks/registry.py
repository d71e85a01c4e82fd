"""The tasks that there are: every module of `corpora` declares one TASK or several TASKS, and one's own."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping
from pathlib import Path

from heareval.errors import HearevalError, unknown_name
from heareval.spec import Mode, TaskSpec
from heareval.tasks import corpora
from heareval.tasks.own import task as own

OWN = ".toml"


@functools.cache
def all_tasks() -> Mapping[str, TaskSpec]:
    """Every task by its name, sorted."""
    found: list[TaskSpec] = []
    for module_info in pkgutil.iter_modules(corpora.__path__):
        module = importlib.import_module(f"{corpora.__name__}.{module_info.name}")
        found += getattr(module, "TASKS", None) or [module.TASK]
    return {task.name: task for task in sorted(found, key=lambda task: task.name)}


def find_task(name: str) -> TaskSpec:
    """The task of this name, or of one's own TOML file; raises HearevalError with the nearest names."""
    if name.endswith(OWN):
        return _own_task(Path(name).absolute())
    if name not in all_tasks():
        own_here = [name + OWN] * Path(name + OWN).exists()
        raise unknown_name("task", name, [*all_tasks(), "open", "all", *own_here])
    return all_tasks()[name]


def address(task: TaskSpec) -> str:
    """What `find_task` finds a task by, in any process and any folder: its name or its TOML file's path."""
    sounds = own.sounds_of(task)
    return str(sounds.file) if sounds else task.name


# A run asks for a task many times over, and should plan and work with one and the same.
@functools.cache
def _own_task(file: Path) -> TaskSpec:
    task = own.load_task(file)
    check_is_free(task.name)
    return task


def check_is_free(name: str) -> None:
    """Raise HearevalError if a task of the benchmark has the name that one's own task is given."""
    if name in all_tasks():
        expected = "one that no task of the benchmark has"
        raise HearevalError("name of a task of one's own", got=name, expected=expected)


def find_mode(task: TaskSpec, name: str) -> Mode:
    """The task's mode of this name; raises HearevalError with the task's modes."""
    if name not in task.modes:
        raise unknown_name(f"mode of {task.name}", name, [*task.modes, "all"])
    return task.modes[name]


def select(names: tuple[str, ...], mode: str | None) -> list[tuple[TaskSpec, str]]:
    """Tasks and modes that the words of a command line mean, without repetition.

    Args:
        names: task names and TOML files, or `open` and `all`: those of their tasks that have the mode.
        mode: a mode, `all` for every published mode, None for each task's default.
    """
    tasks: dict[str, TaskSpec] = {}
    for name in names:
        meant = _group(name, mode) if name in ("all", "open") else _one(find_task(name))
        _check_apart(tasks, meant)
        tasks |= meant
    if not tasks:
        raise HearevalError("tasks", got="none", expected=f"some of {', '.join(all_tasks())}, open, all")
    return [(task, chosen) for task in tasks.values() for chosen in _modes(task, mode)]


def _one(task: TaskSpec) -> dict[str, TaskSpec]:
    return {task.name: task}


def _check_apart(tasks: Mapping[str, TaskSpec], others: Mapping[str, TaskSpec]) -> None:
    """Two tasks of one name would share their folders."""
    for name in tasks.keys() & others.keys():
        one, other = address(tasks[name]), address(others[name])
        if one != other:
            raise HearevalError(f"tasks named {name}", got=f"{one} and {other}", expected="a name for each")


def _group(name: str, mode: str | None) -> dict[str, TaskSpec]:
    group = {t.name: t for t in all_tasks().values() if name == "all" or t.is_open}
    chosen = {n: task for n, task in group.items() if mode in (None, "all") or mode in task.modes}
    if not chosen:
        raise unknown_name("mode", str(mode), {m for task in group.values() for m in task.modes})
    return chosen


def _modes(task: TaskSpec, mode: str | None) -> list[str]:
    if own.sounds_of(task):
        return [task.default_mode]  # it has no other, whatever the tasks beside it are made in
    if mode == "all":
        return [name for name, m in task.modes.items() if m.published]
    name = mode or task.default_mode
    find_mode(task, name)
    return [name]
