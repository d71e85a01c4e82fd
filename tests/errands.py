"""A run of small steps through a real luigid, as a program: each step ends when its test allows it.

python -m tests.errands --url http://127.0.0.1:8082 --workers 2 a b:a c:a,b gpu-d

`b:a` is a step `b` that needs `a`. A step works until there is a file `go/NAME` in the current folder, and
fails if this file has a text. A step whose name begins with `gpu` claims the resource of that name.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import luigi

from heareval.commands.console import fail_if_incomplete, one_line_errors
from heareval.errors import HearevalError
from heareval.layout import Places
from heareval.spec import Progress
from heareval.workflow.run import Outcome, run
from heareval.workflow.step import NO_DISK_NEED, DiskNeed, Step


class Errand(Step):
    """A step that waits for a file, and writes another one."""

    name = luigi.Parameter()

    @property
    def title(self) -> str:
        return str(self.name)

    @property
    def path(self) -> Path:
        """What the step makes."""
        return Path(self.places.work).parent / "made" / str(self.name)

    @property
    def resources(self) -> dict[str, int]:
        return {"gpu": 1} if self.name.startswith("gpu") else {}

    def requires(self) -> list[Step]:
        return [Errand(self.places, name=name) for name in needs.get(self.name, ())]

    def complete(self) -> bool:
        return self.path.exists()

    def disk_need(self, sizes: object) -> DiskNeed:
        return NO_DISK_NEED

    def work(self, progress: Progress) -> None:
        with open("begun", "a", encoding="utf-8") as begun:
            print(self.name, os.getpid(), file=begun)
        allowed = Path("go", self.name)
        while not allowed.exists():
            time.sleep(0.01)
        if text := allowed.read_text():
            raise HearevalError(text)
        self.path.parent.mkdir(exist_ok=True)
        self.path.write_text(self.name)


NO_RUN = Outcome(0, 0, (), None, 0.0)
needs: dict[str, tuple[str, ...]] = {}


def main() -> None:
    """Run the steps that the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("steps", nargs="+")
    parser.add_argument("--url", default="")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--one-by-one", action="store_true", help="A run for each of the steps.")
    asked = parser.parse_args()
    for step in asked.steps:
        name, _, needed = step.partition(":")
        needs[name] = tuple(filter(None, needed.split(",")))
    places = Places(*(str(Path(name).absolute()) for name in ("_workdir", "tasks", "tars", "embeddings")))
    for folder in (places.tasks, places.tars, places.embeddings):
        Path(folder).mkdir(exist_ok=True)
    roots = [Errand(places, name=name) for name in needs]

    def command(**_: Any) -> None:
        outcome = NO_RUN
        for graph in [[root] for root in roots] if asked.one_by_one else [roots]:
            log_folder = Path(places.work) / "logs"
            later = run(graph, workers=asked.workers, scheduler_url=asked.url, log_folder=log_folder)
            outcome = outcome.followed_by(later)
        fail_if_incomplete(outcome)
        print(f"{outcome.steps} done")  # noqa: T201

    one_line_errors(command)(debug=False)


if __name__ == "__main__":
    main()
