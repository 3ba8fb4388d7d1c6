"""Map and reduce: every résumé is judged on its own, five at a time, and then they are counted.

The judge answers in JSON, which is validated: an answer that is not an ``Evaluation`` is asked for
again, up to three times, for that résumé alone.

The judge is a resource, so that the flow does not know it. The one used here looks for keywords
and numbers. For a language model give the run another callable that takes a prompt:
``resources={llm: my_client}``.

Run it with ``python examples/map_reduce.py [FOLDER]``, where the folder has a text file for each
candidate. Without one it makes up a few.
"""

import json
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from pydantic import BaseModel

from pocoflow import Flow, fields, node, resource

RESUMES = {
    "ada": "Ada Byron\nMSc in Mathematics. 7 years as an engineer. Python, SQL, statistics.",
    "ben": "Ben Pole\nNo degree. 12 years in sales. Excel.",
    "cleo": "Cleo Marsh\nBSc in Computer Science. 2 years with Python and Docker.",
    "dan": "Dan Reed\nPhD in Physics. 4 years of research with Python, C++ and SQL.",
}
PROMPT = """\
Does this candidate qualify for an advanced technical role? That takes a degree, at least 3 years of
experience, and technical skills. Answer in JSON: {"name": ..., "qualifies": ..., "reasons": [...]}
"""


class LLM(Protocol):
    def __call__(self, prompt: str) -> str: ...


class Evaluation(BaseModel):
    """What the judge says of one candidate."""

    name: str
    qualifies: bool
    reasons: list[str]


class Search(BaseModel):
    """The folder, and what was found in it."""

    folder: Path
    resumes: list[str] = []
    evaluations: list[Evaluation] = []
    qualified: list[str] = []
    percentage: float = 0.0


S = fields(Search)
llm = resource(LLM, "llm")


@node(writes=S.resumes)
def read(folder: Path) -> list[str]:
    return [path.read_text("utf-8") for path in sorted(folder.glob("*.txt"))]


@node(each=S.resumes, writes=S.evaluations, concurrency=5, max_retries=3)
def evaluate(resume: str, llm: LLM = llm) -> Evaluation:
    return Evaluation.model_validate_json(llm(PROMPT + resume))


@node(writes=(S.qualified, S.percentage))
def reduce(evaluations: list[Evaluation]) -> tuple[list[str], float]:
    names = [one.name for one in evaluations if one.qualifies]
    return names, round(100 * len(names) / max(len(evaluations), 1), 1)


flow = Flow(read, flow_name="candidates", schema=Search)
flow.then(read, evaluate).then(evaluate, reduce)


def look_for_keywords(prompt: str) -> str:
    """Judge by keywords and numbers; a stand-in for a language model."""
    resume = prompt.removeprefix(PROMPT)
    years = max(map(int, re.findall(r"(\d+) years", resume)), default=0)
    lacks = {
        "no degree": not re.search(r"\b(BSc|MSc|PhD)\b", resume),
        f"{years} years of experience": years < 3,
        "no technical skills": not re.search(r"Python|SQL|Docker|C\+\+", resume),
    }
    reasons = [reason for reason, found in lacks.items() if found]
    name = resume.partition("\n")[0]
    return json.dumps({"name": name, "qualifies": not reasons, "reasons": reasons})


def write_resumes(folder: Path) -> Path:
    for name, resume in RESUMES.items():
        (folder / f"{name}.txt").write_text(resume, "utf-8")
    return folder


if __name__ == "__main__":
    with TemporaryDirectory() as made:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else write_resumes(Path(made))
        found = flow.run({"folder": folder}, resources={llm: look_for_keywords}).state
    for one in found.evaluations:
        print("✓" if one.qualifies else "✗", ", ".join([one.name, *one.reasons]))
    print(f"{len(found.qualified)} of {len(found.evaluations)} qualify ({found.percentage}%)")
