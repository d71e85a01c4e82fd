"""The tasks that there are: every module of `corpora` declares one TASK or several TASKS."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping

from heareval.errors import unknown_name
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
        names: task names, `open`, `all`.
        mode: a mode, `all` for every published mode, None for each task's default.
    """
    tasks: dict[str, TaskSpec] = {}
    for name in names:
        if name in ("all", "open"):
            tasks |= {t.name: t for t in all_tasks().values() if name == "all" or t.is_open}
        else:
            tasks[name] = find_task(name)
    return [(task, chosen) for task in tasks.values() for chosen in _modes(task, mode)]


def _modes(task: TaskSpec, mode: str | None) -> list[str]:
    if mode == "all":
        return [name for name, m in task.modes.items() if m.published]
    name = mode or task.default_mode
    find_mode(task, name)
    return [name]
