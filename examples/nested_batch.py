"""A batch in a batch: for each class of a school, for each of its students, the average grade.

``FanOut`` runs a flow once for each item of a field, several at once. The flow of a class has a
``FanOut`` of its own, over the students. Each branch works on its own view of the store;
``averages`` has a reducer, which puts together what the branches found. ``students`` and
``grades`` are of use in a branch alone: they are ``private`` to it.

Run it with ``python examples/nested_batch.py [FOLDER]``, where the folder has a folder for each
class and in it a file of grades for each student. Without one it makes up a small school.
"""

import sys
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Annotated

from pydantic import BaseModel

from pocoflow import FanOut, Flow, fields, node
from pocoflow.reducers import merge

GRADES = {
    "class_a/ada.txt": [7.5, 8.0, 9.0],
    "class_a/ben.txt": [8.5, 7.0, 9.5],
    "class_b/cleo.txt": [6.5, 8.5, 7.0],
    "class_b/dan.txt": [9.0, 9.5],
    "class_b/eva.txt": [10.0],
}


class School(BaseModel):
    """The folder, what the branches work on, and what they found."""

    folder: Path
    classes: list[Path] = []
    group: Path
    students: list[Path]
    student: Path
    grades: list[float]
    averages: Annotated[dict[str, float], merge] = {}
    class_averages: Annotated[dict[str, float], merge] = {}
    average: float


S = fields(School)


@node(writes=S.grades)
def read_grades(student: Path) -> list[float]:
    return [float(line) for line in student.read_text("utf-8").split()]


@node(writes=S.averages)
def average_of_student(student: Path, grades: list[float]) -> dict[str, float]:
    return {f"{student.parent.name}/{student.stem}": mean(grades)}


@node(writes=S.students)
def list_students(group: Path) -> list[Path]:
    return sorted(group.glob("*.txt"))


@node(writes=S.class_averages)
def average_of_class(group: Path, averages: dict[str, float]) -> dict[str, float]:
    return {group.name: mean(averages.values())}


@node(writes=S.classes)
def list_classes(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


@node(writes=S.average)
def average_of_school(averages: dict[str, float]) -> float:
    return mean(averages.values())


one_student = Flow(read_grades, flow_name="student", schema=School)
one_student.then(read_grades, average_of_student)
students = FanOut(one_student, each=S.students, as_=S.student, private=(S.grades,))

one_class = Flow(list_students, flow_name="class", schema=School)
one_class.then(list_students, students).then(students, average_of_class)
classes = FanOut(one_class, each=S.classes, as_=S.group, private=(S.students,), name="classes")

flow = Flow(list_classes, flow_name="school", schema=School)
flow.then(list_classes, classes).then(classes, average_of_school)


def make_school(folder: Path) -> Path:
    for name, grades in GRADES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("\n".join(map(str, grades)), "utf-8")
    return folder


if __name__ == "__main__":
    with TemporaryDirectory() as made:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else make_school(Path(made))
        school = flow.run({"folder": folder}).state
        for name, average in [*school.averages.items(), *school.class_averages.items()]:
            print(f"{name}: {average:.2f}")
        print(f"school: {school.average:.2f}")
