"""The tasks that there are: every module of `corpora` declares one TASK or several TASKS."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping

from heareval.errors import HearevalError, unknown_name
from heareval.spec import Mode, TaskSpec
from heareval.tasks import corpora


@functools.cache
def all_tasks() -> Mapping[str, TaskSpec]:
    """Every task by its name, sorted."""
    found: list[TaskSpec] = []
    for module_info in pkgutil.iter_modules(corpora.__path__):
        module = importlib.import_module(f"{corpora.__name__}.{module_info.name}")
        found += getattr(module, "TASKS", None) or [module.TASK]
    return {task.name: task for task in sorted(found, key=lambda task: task.name)}


def find_task(name: str) -> TaskSpec:
    """The task of this name; raises HearevalError with the nearest names."""
    if name not in all_tasks():
        raise unknown_name("task", name, [*all_tasks(), "open", "all"])
    return all_tasks()[name]


def find_mode(task: TaskSpec, name: str) -> Mode:
    """The task's mode of this name; raises HearevalError with the task's modes."""
    if name not in task.modes:
        raise unknown_name(f"mode of {task.name}", name, [*task.modes, "all"])
    return task.modes[name]


def select(names: tuple[str, ...], mode: str | None) -> list[tuple[TaskSpec, str]]:
    """Tasks and modes that the words of a command line mean, without repetition.

    Args:
        names: task names, or `open` and `all`, which mean those of their tasks that have the mode.
        mode: a mode, `all` for every published mode, None for each task's default.
    """
    tasks: dict[str, TaskSpec] = {}
    for name in names:
        tasks |= _group(name, mode) if name in ("all", "open") else {name: find_task(name)}
    if not tasks:
        raise HearevalError("tasks", got="none", expected=f"some of {', '.join(all_tasks())}, open, all")
    return [(task, chosen) for task in tasks.values() for chosen in _modes(task, mode)]


def _group(name: str, mode: str | None) -> dict[str, TaskSpec]:
    group = {t.name: t for t in all_tasks().values() if name == "all" or t.is_open}
    chosen = {n: task for n, task in group.items() if mode in (None, "all") or mode in task.modes}
    if not chosen:
        raise unknown_name("mode", str(mode), {m for task in group.values() for m in task.modes})
    return chosen


def _modes(task: TaskSpec, mode: str | None) -> list[str]:
    if mode == "all":
        return [name for name, m in task.modes.items() if m.published]
    name = mode or task.default_mode
    find_mode(task, name)
    return [name]
